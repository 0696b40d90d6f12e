"""One comparison at a time: two would measure each other.

It knows threads, the workers that were forked from one process, and whatever else this user runs on this machine; not
what is compared.
"""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.errors import BusyError, SettingsError

RETRY_S = 10
FILE = "stillroom-comparing-{user}.lock"
"""In the folder for temporary files: of the processes that share that, one compares."""

_in_this_process = threading.Lock()
"""Of the process and not of an app: the kernel's lock is the process's, whichever of its threads asks."""


class Exclusive:
    """Shared by whoever is forked after it was made, and by whoever names the same file; the kernel lets go of it for
    one that dies."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = _nameless_file() if file is None else _named_file(file)
        self._ending = threading.Event()
        weakref.finalize(self, os.close, self._file)

    def end(self) -> None:
        """The service ends: whatever is running is to stop soon."""
        self._ending.set()

    @property
    def is_ending(self) -> bool:
        """Whether whatever is running is to stop."""
        return self._ending.is_set()

    def check(self) -> None:
        """To be called now and then while it is held. Raises BusyError where the service ends."""
        if self.is_ending:
            raise BusyError("the service is ending, and the comparison with it: ask again", RETRY_S)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Raises BusyError where another comparison is running, of this service or another process of its user."""
        if not _in_this_process.acquire(blocking=False):
            raise _refusal()
        try:
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise _refusal() from None
            try:
                with alone():
                    yield
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN)
        finally:
            _in_this_process.release()


@contextmanager
def alone() -> Iterator[None]:
    """No other process of this user compares on this machine meanwhile, as far as they share a folder for temporary
    files; where none can be written to, nobody knows. Raises BusyError where one does."""
    file = _users_file()
    try:
        if file is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise _refusal() from None
        yield
    finally:
        if file is not None:
            os.close(file)  # which ends the lock: it was opened for this once, and no child has it


def _refusal() -> BusyError:
    return BusyError(f"another comparison is running, and two would slow each other: try again in {RETRY_S} s", RETRY_S)


def _users_file() -> int | None:
    """Descriptor of a file that only this user can have made and open; None where there can be none. Anybody may write
    to the folder, so that what stands under its name may be a stranger's, or a link to anywhere."""
    try:
        path = Path(tempfile.gettempdir()) / FILE.format(user=os.getuid())
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except OSError:
        return None
    found = os.fstat(file)
    if stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid():
        return file
    os.close(file)
    return None


def _named_file(path: Path) -> int:
    """Descriptor. Raises SettingsError where it cannot be written."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SettingsError(f"--state-dir: cannot write {str(path)!r}: {error.strerror}") from error


def _nameless_file() -> int:
    """Descriptor of an empty file that nobody else can open; on Linux it needs no folder to write to."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("comparing")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
