"""The files of a database: the file itself, its logs, and its vector segments."""

from __future__ import annotations

import shutil
from pathlib import Path

import apsw

from ...errors import DatabaseBusy
from .connection import Options, connect
from .failures import disconnect, driver_errors
from .vectors import segments_folder

_BESIDE = ("-wal", "-shm", "-journal", "")


def remove_files(options: Options) -> None:
    """Remove all of them; raises ``DatabaseBusy`` while anybody has the database open."""
    connection = connect(options, writes=True)
    try:
        _leave_wal(connection)
    finally:
        disconnect(connection)
    shutil.rmtree(segments_folder(options.path), ignore_errors=True)
    with driver_errors():
        for suffix in _BESIDE:
            Path(options.path + suffix).unlink(missing_ok=True)


def _leave_wal(connection: apsw.Connection) -> None:
    """Only who is alone with a file can change its journal."""
    try:
        connection.pragma("journal_mode", "delete")
    except apsw.BusyError as error:
        raise DatabaseBusy("The database is open elsewhere; close it there first.") from error
