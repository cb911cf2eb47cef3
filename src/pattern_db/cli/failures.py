"""Errors in words: one sentence on stderr and an exit code; no traceback unless asked for."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence

from cyclopts import CycloptsError, UnknownCommandError, UnusedCliTokensError

from pattern_db.errors import PatternError

from .values import UsageError

DONE, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130


def exit_code(tokens: Sequence[str]) -> int:
    """Run one command line and say what went wrong, if anything did."""
    try:
        with _own_streams():
            _run(tokens)
    except BrokenPipeError:
        _stop_writing()
        return FAILED
    except (KeyboardInterrupt, Exception) as error:
        code, sentence = _explained(error)
        if _wants_traceback(tokens):
            traceback.print_exception(error)
        if sentence:
            print(f"pattern: {sentence}", file=sys.stderr)
        if isinstance(error, OSError):
            _stop_writing()  # or the flush at exit fails again, with a code of its own
        return code
    except SystemExit as exit_:
        return int(exit_.code or 0)
    return DONE


def _run(tokens: Sequence[str]) -> None:
    from .app import VERBS, app, import_all

    if not tokens or tokens[0] not in VERBS:
        import_all()
    app(list(tokens))
    sys.stdout.flush()


def _explained(error: BaseException) -> tuple[int, str]:
    """The exit code of an error and the sentence that explains it."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, ""
    if isinstance(error, CycloptsError):
        return MISUSED, _misuse(error)
    if isinstance(error, UsageError):
        return MISUSED, _one_line(error)
    if isinstance(error, PatternError):
        return FAILED, _one_line(error)
    if isinstance(error, OSError):
        return FAILED, _system_failure(error)
    return FAILED, (
        f"This should not have happened ({type(error).__name__}); run it again with --debug and "
        "report what it prints."
    )


def _misuse(error: CycloptsError) -> str:
    if isinstance(error, UnusedCliTokensError):
        extra = " ".join(error.unused_tokens or ())
        return f'Too many arguments: "{extra}"; put quotes around a text of several words.'
    token = (error.unused_tokens or [""])[0]
    if isinstance(error, UnknownCommandError) and token.startswith("-"):
        return f"The option {token} is not known here; options follow the verb they belong to."
    return _one_line(error)


def _system_failure(error: OSError) -> str:
    reason = error.strerror or type(error).__name__
    return f"{reason}: {error.filename}" if error.filename else reason


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _wants_traceback(tokens: Sequence[str]) -> bool:
    """Whether ``--debug`` is among the options; a command line that cannot be read may hold it."""
    end = list(tokens).index("--") if "--" in tokens else len(tokens)
    return "--debug" in tokens[:end]


@contextlib.contextmanager
def _own_streams() -> Iterator[None]:
    """Text that the terminal's encoding lacks is escaped; warnings are sentences too."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        print(f"pattern: warning: {message}", file=sys.stderr)

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def _stop_writing() -> None:
    """Let the interpreter flush what is left into nothing: nobody reads it."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
