"""One process at a time makes an artefact; the tasks of an array job share.

The lock is an advisory one of the operating system (``flock``, which Linux passes on to NFS servers) on a file in the
folder. It ends with the process, however that ends. Where the file system has no locks the work goes on without.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from curate.errors import Unfinished

NAME = ".lock"
_held: dict[str, int] = {}  # folder -> descriptor, for as long as this process works on it


def hold(folder: Path, *, shared: bool) -> None:
    """Claim a folder until `release`, or the end of this process.

    Args:
        folder: must exist.
        shared: let others in who share as well.

    Raises:
        FileNotFoundError: where the folder went away.
        Unfinished: where another process has claimed it.
    """
    import fcntl

    path, key = folder / NAME, os.path.abspath(folder)
    while True:
        if key not in _held:
            _held[key] = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(_held[key], (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                release(folder)
                raise Unfinished(
                    f"{folder}: another process is at work on it; wait until it has ended, then run the same command again"
                ) from None
        if _is_at(_held[key], path):
            return
        release(folder)  # the folder was finished or removed meanwhile: this was the lock of what is no longer here


def release(folder: Path) -> None:
    """Let others have the folder; does nothing where it isn't held."""
    descriptor = _held.pop(os.path.abspath(folder), None)
    if descriptor is not None:
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
