"""Counts how often a process syncs a file: a library of a few lines of C, loaded before all others.

A child that was started with ``environment`` asks ``done()`` for the count so far.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
static atomic_long done;
long pattern_syncs_done(void) { return atomic_load(&done); }
#define COUNTED(name)                                             \
    int name(int file) {                                          \
        static int (*real)(int);                                  \
        if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, #name);  \
        int result = real(file);                                  \
        atomic_fetch_add(&done, 1);                               \
        return result;                                            \
    }
COUNTED(fsync)
COUNTED(fdatasync)
"""


def environment(folder: Path) -> dict[str, str] | None:
    """The variables of a process whose syncs are counted; ``None`` without a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    source, library = folder / "syncs.c", folder / "syncs.so"
    source.write_text(_SOURCE)
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"]
    subprocess.run(command, check=True)
    return {**os.environ, "LD_PRELOAD": str(library)}


def done() -> int:
    """How many syncs of this process have come back."""
    return int(ctypes.CDLL(None).pattern_syncs_done())
