"""Runs the comparisons that wait, one at a time on this machine, each in a process of its own.

It knows the store and processes, not what is compared. Every worker of a service has one; a lock that they share says
whose turn it is.
"""

from __future__ import annotations

import logging
import os
import selectors
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import orjson

from service.comparison.exclusive import Exclusive
from service.comparison.render.sentences import headline
from service.comparison.schema.report import Report
from service.comparison.store import Store
from service.errors import BusyError

log = logging.getLogger("service")

LOOK_S = 0.2
"""How often it looks whether a comparison is to end, and whether its turn has come."""
AGAIN_S = 5.0
COMMAND = [sys.executable, "-m", "service.comparison.task"]


class Cancelled(Exception):  # noqa: N818  # no error: somebody wished for it
    """The comparison is to end."""


class Runner:
    """`kick` it whenever something waits. `other_runs` gives how many batches the models ran for others so far,
    `address` the `url` and `key` by which a comparison asks this very service."""

    def __init__(
        self, store: Store, exclusive: Exclusive, other_runs: Callable[[], int], address: Mapping[str, str | None]
    ) -> None:
        self._store = store
        self._exclusive = exclusive
        self._other_runs = other_runs
        self._address = orjson.dumps(address) + b"\n"
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._before = self._after = 0  # batches that models ran for others
        self._kicked = threading.Event()
        self._stopping = threading.Event()

    def kick(self) -> None:
        """Something may wait: takes it up, in a thread."""
        with self._lock:
            self._kicked.set()
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name="comparisons", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """What runs is put back, so that whoever comes next takes it up."""
        self._stopping.set()
        self._exclusive.end()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()

    def _work(self) -> None:
        while not self._stopping.is_set():
            with self._lock:
                if not self._kicked.is_set():
                    self._thread = None
                    return
                self._kicked.clear()
            while not self._stopping.is_set():
                try:
                    if not any(job.is_active for job in self._store.jobs()):
                        break
                    with self._exclusive.held():
                        self._run_next()
                except BusyError:  # another worker is at it
                    self._stopping.wait(LOOK_S)
                except sqlite3.Error:  # a full disk, say: what ran is taken up again
                    log.exception("the comparisons cannot be kept; trying again in %g s", AGAIN_S)
                    self._stopping.wait(AGAIN_S)

    def _run_next(self) -> None:
        found = self._store.next()
        if found is None:
            return
        job, task = found
        self._before = self._after = self._other_runs()
        try:
            last, samples = self._perform(job.id, task)
        except Cancelled:
            self._store.cancelled(job.id)
        except BusyError:
            self._store.put_back(job.id)
        except sqlite3.Error:
            raise
        except Exception:
            log.exception("the comparison %s failed", job.id)
            self._store.failed(job.id, "the comparison failed; the log has the reason", 500)
        else:
            if "error" in last:
                self._store.failed(job.id, last["error"], last["status"])
                return
            made = Report.model_validate_json(last["report"])
            made = made.model_copy(update={"id": job.id, "other_runs": self._after - self._before})
            verdict = made.pairs[0].verdict
            self._store.done(
                job.id, made.model_dump_json(), samples, headline(made), None if verdict is None else verdict.text
            )

    def _perform(self, identity: str, task: bytes) -> tuple[dict[str, Any], bytes]:
        """The last line of the process and what follows it. Raises Cancelled, and BusyError where the service ends."""
        pipe = subprocess.PIPE
        # A session of its own: what a terminal or a supervisor sends to the service's whole group is not for it. Its
        # error stream is the service's: whatever it says is in the log.
        child = subprocess.Popen(COMMAND, stdin=pipe, stdout=pipe, start_new_session=True)  # noqa: S603  # our own command
        with child:
            assert child.stdin
            try:
                with suppress(BrokenPipeError):
                    child.stdin.write(self._address + task)
                    child.stdin.close()
                last, samples = self._listen(identity, child)
            finally:
                child.kill()
            if last is None:
                raise RuntimeError(f"its process ended with {child.wait()}")
            return last, samples

    def _listen(self, identity: str, child: subprocess.Popen[bytes]) -> tuple[dict[str, Any] | None, bytes]:
        """Reads to the end, telling the store, and looks now and then whether it is to go on."""
        assert child.stdout
        received = bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ)
            while True:
                if not selector.select(LOOK_S):
                    self._look(identity)
                    continue
                part = os.read(child.stdout.fileno(), 1 << 20)
                if not part:
                    return None, b""
                received += part
                while (end := received.find(b"\n")) >= 0:
                    line = orjson.loads(received[:end])
                    del received[: end + 1]
                    if "progress" not in line:
                        return line, bytes(received) + child.stdout.read()
                    runs = self._other_runs()
                    # Of what it asks itself nothing counts. It says so before it asks, so that a count is clean only
                    # where nothing more was said until it was taken.
                    said_more = b"\n" in received or bool(selector.select(0))
                    if not line["progress"].pop("is_own_traffic") and not said_more:
                        self._after = runs
                    self._store.tell(identity, line["progress"])
                    self._look(identity)

    def _look(self, identity: str) -> None:
        self._exclusive.check()
        if self._store.is_ending(identity):
            raise Cancelled
