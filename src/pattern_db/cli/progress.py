"""Progress bars: on a terminal, for what takes longer than a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext

Progress = Callable[[int, int], None]
Steps = Callable[[str, int, int], None]

_PATIENCE_S = 1.0


@contextmanager
def bar(title: str) -> Iterator[Progress | None]:
    """What to call with (done, total); ``None`` where stderr is no terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    from rich.progress import Progress as Bars

    bars = Bars(console=console, transient=True)
    task = bars.add_task(title, total=None)
    begun = time.monotonic()

    def update(done: int, total: int) -> None:
        bars.update(task, completed=done, total=total or None)
        if time.monotonic() - begun > _PATIENCE_S:
            bars.start()

    try:
        yield update
    finally:
        bars.stop()


@contextmanager
def bars_of_steps() -> Iterator[Steps]:
    """As ``bar``, for work in several steps: what to call with (step, done, total)."""
    with ExitStack() as open_bars:
        updates: dict[str, Progress | None] = {}

        def update(step: str, done: int, total: int) -> None:
            if step not in updates:
                open_bars.close()
                updates[step] = open_bars.enter_context(bar(step))
            if (show := updates[step]) is not None:
                show(done, total)

        yield update


@contextmanager
def waiting(title: str) -> Iterator[None]:
    """A spinner on a terminal, where it is not known how much there is to do."""
    from rich.console import Console

    console = Console(stderr=True)
    with console.status(f"{title} …") if console.is_terminal else nullcontext():
        yield
