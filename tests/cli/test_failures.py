"""What goes wrong is one sentence on stderr, an exit code, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pattern_db.cli import app as app_module
from pattern_db.cli import session
from pattern_db.errors import StorageFull

from .conftest import Pattern
from .verbs import VERBS

NEEDS_NO_DATABASE = {
    *("init", "import", "demo", "config show", "config check"),
    *("eval locomo", "eval cranfield", "eval beir", "eval episodes"),
    *("db copy", "db compare", "tenant create"),  # tested with what they are about
}
WORDS = {
    "agent create": ["Flux"],
    "user create": ["Ada"],
    "group create": ["Crew"],
    "group add-member": ["g", "a"],
    "group remove-member": ["g", "a"],
    "memory add": ["human", "x"],
    "memory edit": ["human", "x"],
    "memory append": ["human", "x"],
    "memory share": ["human", "a"],
    "memory unshare": ["human", "a"],
    **{f"episode {verb}": ["x"] for verb in ("checkpoint", "next", "outlook", "plan", "recall")},
    **{
        f"episode {verb}": ["x", "y"]
        for verb in ("abstain", "complete", "fail", "on-error", "step")
    },
    "episode resume": ["x"],
    "episode start": ["x"],
    "learn feedback": ["x", "success"],
    "learn recommend": ["x"],
    "tenant drop": ["acme", "--yes"],
    "message list": [],
    "message repair": [],
}


def command(words: str) -> list[str]:
    """A command line of this verb that lacks nothing."""
    single = {"show", "delete", "search", "history", "undo", "redo", "archive", "add"}
    last = words.split()[-1]
    return [
        *words.split(),
        *WORDS.get(words, ["x"] if last in single and "config" not in words else []),
    ]


@pytest.mark.parametrize("words", sorted(set(VERBS) - NEEDS_NO_DATABASE))
def test_a_database_that_is_not_there_is_not_made(words: str, pattern: Pattern) -> None:
    path = Path("missing.db").absolute()
    ran = pattern(*command(words), "--db", path)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == f"pattern: There is no database at {path}; run `pattern init` first.\n"
    assert os.listdir() == []


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("agnt list", 'Unknown command "agnt". Did you mean "agent"? '),
        ("agent lst", 'Unknown command "lst". Did you mean "list"? '),
        ("search x --agnt y", "Unknown option: --agnt. Did you mean --agent?"),
        ("search x --kind mesage", 'Did you mean "message"?'),
        ("search x --mode fast", 'Invalid value "fast" for --mode. Choose from: "hybrid", '),
        ("search", 'Command "search" parameter QUERY requires an argument.'),
        ("search a b", 'Too many arguments: "b"; put quotes around a text of several words.'),
        ("--db x.db status", "The option --db is not known here; options follow the verb"),
        ("status --db", 'Command "status" parameter --db requires an argument.'),
        ("agent list --limit 0", 'Invalid value "0" for --limit. Must be >= 1.'),
        ("agent list --limit many", 'unable to convert "many" into int.'),
        ("message list --since yesterday", '"yesterday" is no ISO date or time; write 2025-05-07'),
        ("message list --until 2025-02-30", '"2025-02-30" is no ISO date or time'),
        ("message list --until 0001-01-01T00:00+14:00x", "is no ISO date or time"),
        ("agent create x --metadata [1]", "it is no JSON object; write one such as"),
        ("agent create x --metadata {", "it is no JSON object; write one such as"),
        (
            "eval locomo f --k 1,ten",
            "write whole numbers with commas between them, such as 1,5,10.",
        ),
        (
            "eval cranfield d --mode every",
            'Invalid value "every" for --mode. Choose from: "hybrid"',
        ),
        ("eval beir", 'Command "eval beir" parameter FOLDER requires an argument.'),
        ("import letta f", 'Invalid value "letta" for KIND. Choose from: "locomo", '),
        ("import jsonl", 'Command "import" parameter FILES requires an argument.'),
        ("status --no-json", "Unknown option: --no-json."),
    ],
)
def test_wrong_usage_is_said_in_one_sentence(line: str, sentence: str, pattern: Pattern) -> None:
    ran = pattern(*line.split())
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("pattern: ")
    assert sentence in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("agent show agent_0", "There is no agent 'agent_0'; check the id, or list what is there."),
        ("user show user_0", "There is no user 'user_0'; check the id, or list what is there."),
        ("user delete user_0", "There is no user 'user_0'; check the id, or list what is there."),
        ("group show g", "There is no group 'g'; check the id, or list what is there."),
        ("group remove-member g Flux", "There is no group 'g'; check the id, or list"),
        ("agent create x --user user_0", "There is no user 'user_0'; check the id, or list"),
        ("message add x --conversation c", "There is no conversation 'c'; check the id, or list"),
        ("message archive msg_0", "There is no message 'msg_0'; check the id, or list"),
        ("message list --after msg_0", "There is no message 'msg_0'; check the id, or list"),
        ("agent list --after agent_0", "There is no agent 'agent_0'; check the id, or list"),
        ("memory undo mem_0", "There is no memory block 'mem_0'; check the id, or list"),
        ("search x --conversation \0", "'conversation_id': it holds a NUL character"),
        ("status --embeddings word2vec", "embeddings.provider (argument) must be one of local, "),
        ("status --db foo://bar", "database.url (argument) has an unknown scheme; write a path"),
        ("import jsonl missing.jsonl", "No such file or directory: missing.jsonl"),
        ("import jsonl .", "Is a directory: ."),
        ("eval cranfield nowhere", "There is no folder nowhere; name the one that holds cran.all"),
        ("eval beir .", "There is no corpus.jsonl in .; name a folder with corpus.jsonl, queries"),
        ("eval beir . --split a/b", "Invalid value for 'split': name a split, such as test, dev"),
        ("eval locomo f --ablate --mode keyword", "parts are left out of hybrid search only"),
    ],
)
def test_an_error_is_said_in_one_sentence(
    line: str, sentence: str, flux: str, pattern: Pattern
) -> None:
    ran = pattern(*line.split(" "))
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("pattern: ")
    assert sentence in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize("verb", ["init", "status"])
def test_a_file_that_is_no_database_is_left_alone(verb: str, pattern: Pattern) -> None:
    Path("notes.txt").write_text("these are notes\n" * 100)
    ran = pattern(verb, "--db", "notes.txt")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("pattern: The file is not a database, ")
    assert Path("notes.txt").read_text() == "these are notes\n" * 100


@pytest.mark.parametrize("place", ["no/such/folder/mind.db", ".", "/dev/null/mind.db"])
def test_a_place_that_cannot_hold_a_database_is_refused(place: str, pattern: Pattern) -> None:
    ran = pattern("init", place)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("pattern: The ")
    assert ran.err.count("\n") == 1


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder nobody can write to")
def test_a_folder_that_cannot_be_written_to_is_named_as_the_reason(pattern: Pattern) -> None:
    ran = pattern("init", "/proc/mind.db")
    assert ran == (
        1,
        "",
        "pattern: The database file cannot be created; check the permissions of its directory.\n",
    )


def test_a_password_in_a_url_is_never_shown(pattern: Pattern) -> None:
    ran = pattern("status", "--db", "postgresql://ada:swordfish@example.org/mind")
    assert ran.code == 1
    assert "swordfish" not in ran.err + ran.out


def test_debug_shows_the_traceback_before_the_sentence(mind: Path, pattern: Pattern) -> None:
    ran = pattern("user", "show", "user_0", "--debug")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("Traceback (most recent call last):\n")
    assert ran.err.splitlines()[-1].startswith("pattern: There is no user ")
    text = pattern("message", "add", "--", "--debug")
    assert "Traceback" not in text.err


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (
            ZeroDivisionError("secret 17"),
            1,
            "This should not have happened (ZeroDivisionError); run",
        ),
        (
            OSError(28, "No space left on device", "mind.db"),
            1,
            "No space left on device: mind.db\n",
        ),
        (OSError("odd"), 1, "OSError\n"),
        (StorageFull("There is no\nspace left."), 1, "There is no space left.\n"),
        (RecursionError(), 1, "This should not have happened (RecursionError); run"),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(), 1, ""),
        (SystemExit(7), 7, ""),
    ],
)
def test_whatever_is_raised_has_an_exit_code_and_no_traceback(
    error: BaseException,
    code: int,
    sentence: str,
    mind: Path,
    pattern: Pattern,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(session, "settings", fail)
    ran = pattern("status")
    assert (ran.code, ran.out) == (code, "")
    assert ran.err == "" if not sentence else ran.err.startswith(f"pattern: {sentence}")
    assert "secret" not in ran.err


def test_a_warning_is_a_sentence_too(pattern: Pattern, monkeypatch: pytest.MonkeyPatch) -> None:
    import warnings

    def warn(_tokens: list[str]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("The disk is far away.", stacklevel=2)

    monkeypatch.setattr(app_module, "app", warn)
    ran = pattern("status")
    assert ran == (0, "", "pattern: warning: The disk is far away.\n")
