"""One comparison at a time, on this machine's side of the service: two would measure each other.

It knows threads and the workers that were forked from one process, not what is compared.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.errors import BusyError, SettingsError

RETRY_S = 10

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
        """Raises BusyError where another comparison is running."""
        refusal = BusyError(
            f"another comparison is running, and two would slow each other: try again in {RETRY_S} s", RETRY_S
        )
        if not _in_this_process.acquire(blocking=False):
            raise refusal
        try:
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise refusal from None
            try:
                yield
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN)
        finally:
            _in_this_process.release()


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
