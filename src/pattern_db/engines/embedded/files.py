"""Where a database file may lie."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from ...errors import ConnectionFailed

_NETWORK_FILE_SYSTEMS = ("nfs", "cifs", "smb", "9p", "afs", "fuse.sshfs", "ceph", "glusterfs")


def check_place(path: Path, *, strict: bool) -> None:
    """Refuse a path where no file can be; refuse (``strict``) or warn about a network's."""
    if path.is_dir():
        raise ConnectionFailed("The path of the database is a directory; name a file in it.")
    if not path.parent.is_dir():
        raise ConnectionFailed(
            "The directory of the database does not exist; create it, or choose another path."
        )
    _check_file_system(path, strict=strict)


def create_private(path: Path) -> None:
    """Make a file that only its owner may open, unless there is one."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        if not path.is_file():
            raise ConnectionFailed("The path of the database is not a regular file.") from None
    except OSError as error:
        raise ConnectionFailed(
            "The database file cannot be created; check the permissions of its directory."
        ) from error


def _check_file_system(path: Path, *, strict: bool) -> None:
    kind = file_system_of(path)
    if kind is None or not kind.startswith(_NETWORK_FILE_SYSTEMS):
        return
    problem = (
        f"The database lies on a network file system ({kind}), where SQLite's locks are not "
        "reliable; move it to a local disk, or use a server."
    )
    if strict:
        raise ConnectionFailed(problem)
    warnings.warn(problem, stacklevel=2)


def file_system_of(path: Path, mounts: str = "/proc/self/mounts") -> str | None:
    """The type of the file system a path lies on, where the system tells."""
    try:
        lines = Path(mounts).read_text().splitlines()
    except OSError:
        return None
    parent = os.path.realpath(path.parent)
    best, kind = "", None
    for line in lines:
        _, mount, found, *_ = line.split(" ")
        mount = mount.replace("\\040", " ")
        inside = parent == mount or parent.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, found
    return kind
