"""Locks that vanish with their process, however it dies: one byte of a lock file for each.

They are the operating system's. On POSIX they belong to the process as a whole, with two consequences that this module
deals with: the process does not stand in its own way, so it keeps a list of what it holds; and closing *any*
descriptor of the file drops all of them, so there is one descriptor for each file, which stays open as long as
something is locked. They are not inherited by a fork. All functions are fast, never wait, and may be called from any
thread.
"""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from pathlib import Path

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int, offset: int) -> None:
        os.lseek(descriptor, offset, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

    def _unlock(descriptor: int, offset: int) -> None:
        os.lseek(descriptor, offset, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    def _lock(descriptor: int, offset: int) -> None:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)

    def _unlock(descriptor: int, offset: int) -> None:
        fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, offset)


__all__ = ["FileLock", "try_lock"]


@dataclass
class _LockFile:
    descriptor: int
    held: set[int] = field(default_factory=set[int])


_mutex = threading.Lock()
_files: dict[tuple[int, int], _LockFile] = {}
"""What this process has locked, by device and inode."""


@final
class FileLock:
    """One locked byte. Release it once."""

    def __init__(self, key: tuple[int, int], offset: int) -> None:
        self._key = key
        self._offset = offset

    def release(self) -> None:
        """Let others have it. Never blocks."""
        with _mutex:
            file = _files[self._key]
            file.held.remove(self._offset)
            if file.held:
                _unlock(file.descriptor, self._offset)
            else:
                del _files[self._key]
                os.close(file.descriptor)  # which unlocks


def try_lock(path: Path, offset: int) -> FileLock | None:
    """Lock a byte of a file, which is created if need be; ``None`` if somebody holds it, here or elsewhere.

    Raises:
        OSError: the file cannot be opened for writing, or not be locked at all.
    """
    with _mutex:
        key, file = _open(path)
        if offset in file.held:
            return None
        try:
            _lock(file.descriptor, offset)
        except (BlockingIOError, PermissionError):
            _forget_unused(key, file)
            return None
        except OSError:
            _forget_unused(key, file)
            raise
        file.held.add(offset)
        return FileLock(key, offset)


def _open(path: Path) -> tuple[tuple[int, int], _LockFile]:
    try:
        status = path.stat()
    except FileNotFoundError:
        pass
    else:
        # Looked up by name first: a second descriptor could never be closed again.
        key = status.st_dev, status.st_ino
        if key in _files:
            return key, _files[key]
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    status = os.fstat(descriptor)
    key = status.st_dev, status.st_ino
    return key, _files.setdefault(key, _LockFile(descriptor))


def _forget_unused(key: tuple[int, int], file: _LockFile) -> None:
    if not file.held:
        del _files[key]
        os.close(file.descriptor)
