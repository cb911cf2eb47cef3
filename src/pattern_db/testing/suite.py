"""Every test of the suite, for ``from pattern_db.testing.suite import *``."""

from __future__ import annotations

from . import asking, searching, storing, transacting
from .fixtures import store

_TESTS = {
    name: value
    for module in (storing, asking, transacting, searching)
    for name, value in vars(module).items()
    if name.startswith("test_")
}
globals().update(_TESTS)

__all__ = ["store", *_TESTS]  # noqa: PLE0604
