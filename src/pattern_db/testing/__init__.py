"""The conformance suite: every sentence of the seam's docstrings as a test.

To prove an engine, give a test file a fixture ``subject`` and take the tests in:

    import pytest
    from pattern_db.testing import Subject
    from pattern_db.testing.suite import *

    @pytest.fixture
    def subject(tmp_path):
        return Subject(open=lambda: MyStore.connect(tmp_path / "mind.db"))

It needs pytest, pytest-asyncio and Hypothesis: ``pip install 'pattern-db[testing]'``. Write
``pytest.register_assert_rewrite("pattern_db.testing")`` into ``conftest.py`` to see the values of a
failed assertion. What an engine cannot do it says in its ``Capabilities``; the tests look there.
"""

from .subject import Subject

__all__ = ["Subject"]
