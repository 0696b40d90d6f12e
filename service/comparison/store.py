"""What the service remembers of comparisons: jobs that wait, run or are done, and their reports, in SQLite.

It knows rows and their states. It does not know models, HTTP, or how a comparison is made. Several processes may share
one file: what one writes, the others read.
"""

from __future__ import annotations

import atexit
import json
import os
import secrets
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from service.errors import BusyError, NotFoundError, SettingsError

State = Literal["queued", "running", "done", "failed", "cancelled"]
FILE = "comparisons.sqlite3"
MOST_ACTIVE = 8
"""Comparisons that may wait or run; one more gets a 503."""
MOST_KEPT = 200
"""Finished ones; the oldest go."""
RETRY_S = 10
BUSY_S = 10.0
# What is large has a table of its own: SQLite writes a whole row again for each progress that is told.
TABLES = """
CREATE TABLE IF NOT EXISTS comparisons (
    id TEXT PRIMARY KEY, state TEXT NOT NULL, created TEXT NOT NULL, started TEXT, ended TEXT,
    models TEXT NOT NULL, progress TEXT, headline TEXT, verdict TEXT, error TEXT, status INTEGER,
    ending INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS contents (id TEXT PRIMARY KEY, task BLOB, report TEXT, samples BLOB);
"""
ACTIVE = "state IN ('queued', 'running')"
OLDEST = (
    f"DELETE FROM comparisons WHERE NOT ({ACTIVE}) AND id NOT IN "  # noqa: S608
    f"(SELECT id FROM comparisons WHERE NOT ({ACTIVE}) ORDER BY created DESC, rowid DESC LIMIT {MOST_KEPT})"
)
ORPHANS = "DELETE FROM contents WHERE id NOT IN (SELECT id FROM comparisons)"
CANCELLED = {"error": "the comparison was cancelled", "status": 409}
SHOWN = "id, state, created, started, ended, models, progress, headline, verdict, error, status"


class Job(NamedTuple):
    """A comparison as it stands: `progress` is a Progress as a dict, `headline` and `verdict` are sentences of its
    report, `status` is the HTTP status of `error`."""

    id: str
    state: State
    created: str
    started: str | None
    ended: str | None
    models: list[str]
    progress: dict[str, Any] | None
    headline: str | None
    verdict: str | None
    error: str | None
    status: int | None

    @property
    def is_active(self) -> bool:
        """Whether it waits or runs."""
        return self.state in ("queued", "running")


class Store:
    """Opened by the first call, so that it may be made before a process forks. Safe to call from several threads."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._opened: sqlite3.Connection | None = None

    def check(self) -> None:
        """Raises SettingsError where it cannot be used. To be called before a process forks: it is closed again."""
        try:
            with self._writing() as connection:
                (state,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if state != "ok":
                raise sqlite3.DatabaseError(state)
        except sqlite3.Error as error:
            raise SettingsError(
                f"--state-dir: the comparisons in {str(self._path)!r} cannot be used ({error}): expected a file that "
                "can be written, or none"
            ) from error
        finally:
            self.close()

    def close(self) -> None:
        """To be called when nobody asks any more."""
        with self._lock:
            if self._opened is not None:
                self._opened.close()
            self._opened = None

    def add(self, models: Sequence[str], task: bytes) -> Job:
        """A new one, queued. Raises BusyError where too many wait already."""
        identity = secrets.token_hex(8)
        with self._writing() as connection:
            (active,) = connection.execute(f"SELECT count(*) FROM comparisons WHERE {ACTIVE}").fetchone()  # noqa: S608
            if active >= MOST_ACTIVE:
                raise BusyError(f"{active} comparisons wait or run already: try again in {RETRY_S} s", RETRY_S)
            connection.execute(
                "INSERT INTO comparisons (id, state, created, models) VALUES (?, 'queued', ?, ?)",
                (identity, _now(), json.dumps(models)),
            )
            connection.execute("INSERT INTO contents (id, task) VALUES (?, ?)", (identity, task))
        return self.job(identity)

    def job(self, identity: str) -> Job:
        """Raises NotFoundError."""
        rows = self._read(f"SELECT {SHOWN} FROM comparisons WHERE id = ?", identity)  # noqa: S608
        if not rows:
            raise NotFoundError(f"no comparison {identity[:40]!r}; GET /compare lists those that are kept")
        return _job(rows[0])

    def jobs(self) -> list[Job]:
        """All, newest first."""
        return [_job(row) for row in self._read(f"SELECT {SHOWN} FROM comparisons ORDER BY created DESC, rowid DESC")]  # noqa: S608

    def is_first(self, identity: str) -> bool:
        """Whether none that was added before it waits or runs."""
        jobs = iter(self.jobs())
        return any(job.id == identity for job in jobs) and not any(job.is_active for job in jobs)

    def report(self, identity: str) -> str | None:
        """The report as JSON, once there is one."""
        rows = self._read("SELECT report FROM contents WHERE id = ?", identity)
        return rows[0][0] if rows else None

    def samples(self, identity: str) -> bytes | None:
        """The raw latencies as an .npz, once there are some."""
        rows = self._read("SELECT samples FROM contents WHERE id = ?", identity)
        return rows[0][0] if rows else None

    def next(self) -> tuple[Job, bytes] | None:
        """The oldest that waits, now running, and its task. One that runs already has lost whoever ran it: whoever
        asks must be the only one who runs any."""
        with self._writing() as connection:
            found = connection.execute(
                f"SELECT id, task FROM comparisons JOIN contents USING (id) WHERE {ACTIVE} "  # noqa: S608
                "ORDER BY created, comparisons.rowid LIMIT 1"
            ).fetchone()
            if found is None:
                return None
            connection.execute(
                "UPDATE comparisons SET state = 'running', started = ?, progress = NULL WHERE id = ?",
                (_now(), found[0]),
            )
        return self.job(found[0]), found[1]

    def tell(self, identity: str, progress: dict[str, Any]) -> None:
        """How far it is."""
        self._write("UPDATE comparisons SET progress = ? WHERE id = ?", json.dumps(progress), identity)

    def put_back(self, identity: str) -> None:
        """It waits again: whoever ran it ends."""
        self._write("UPDATE comparisons SET state = 'queued', started = NULL, progress = NULL WHERE id = ?", identity)

    def done(self, identity: str, report: str, samples: bytes, headline: str | None, verdict: str | None) -> None:
        """It has its report."""
        self._end(identity, "done", {"headline": headline, "verdict": verdict}, (report, samples))

    def failed(self, identity: str, error: str, status: int) -> None:
        """It has none, and will have none."""
        self._end(identity, "failed", {"error": error, "status": status})

    def cancelled(self, identity: str) -> None:
        """It was ended as somebody wished."""
        self._end(identity, "cancelled", CANCELLED)

    def remove(self, identity: str) -> Job:
        """Cancels one that waits, asks for the end of one that runs, forgets one that is finished; how it stood."""
        job = self.job(identity)
        if job.state == "queued" and self._end(identity, "cancelled", CANCELLED, only="queued"):
            return job
        with self._writing() as connection:
            connection.execute("UPDATE comparisons SET ending = 1 WHERE id = ? AND state = 'running'", (identity,))
            connection.execute(f"DELETE FROM comparisons WHERE id = ? AND NOT ({ACTIVE})", (identity,))  # noqa: S608
            connection.execute(ORPHANS)
        return job

    def is_ending(self, identity: str) -> bool:
        """Whether somebody wished for its end."""
        return bool(self._read("SELECT ending FROM comparisons WHERE id = ?", identity)[0][0])

    def _end(
        self,
        identity: str,
        state: State,
        told: Mapping[str, object],
        contents: tuple[str | None, bytes | None] = (None, None),
        *,
        only: State = "running",
    ) -> bool:
        """Ends one that is in the state `only`, and forgets the oldest. Whether it was."""
        fields = ", ".join(f"{name} = ?" for name in told)
        with self._writing() as connection:
            found = connection.execute(
                f"UPDATE comparisons SET state = ?, ended = ?, {fields} WHERE id = ? AND state = ?",  # noqa: S608
                (state, _now(), *told.values(), identity, only),
            )
            if not found.rowcount:
                return False
            connection.execute(
                "UPDATE contents SET task = NULL, report = ?, samples = ? WHERE id = ?", (*contents, identity)
            )
            connection.execute(OLDEST)
            connection.execute(ORPHANS)
        return True

    def _read(self, query: str, *values: object) -> list[Any]:
        with self._lock:
            return self._connection().execute(query, values).fetchall()

    def _write(self, query: str, *values: object) -> None:
        with self._writing() as connection:
            connection.execute(query, values)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction."""
        with self._lock, self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection

    def _connection(self) -> sqlite3.Connection:
        if self._opened is None:
            if self._path is not None:
                with suppress(OSError):  # SQLite says what is wrong with it
                    self._path.touch(mode=0o600)  # clients' inputs wait in it
            self._opened = sqlite3.connect(self._path or ":memory:", timeout=BUSY_S, check_same_thread=False)
            self._opened.execute("PRAGMA journal_mode = WAL")
            self._opened.executescript(TABLES)
        return self._opened


def place_of_store(state_dir: Path | None, workers: int) -> Path | None:
    """Where comparisons are kept: in the state folder; without one in memory, which several workers cannot share, so
    that they get a temporary file. Raises SettingsError where that cannot be made."""
    if state_dir is not None:
        return state_dir / FILE
    if workers == 1:
        return None
    try:
        folder = tempfile.mkdtemp(prefix="stillroom-")
    except OSError as error:
        raise SettingsError(
            f"--workers: {workers} of them share a file, and no temporary one can be made ({error.strerror}): "
            "give --state-dir"
        ) from error
    atexit.register(_remove, folder, os.getpid())
    return Path(folder) / FILE


def _remove(folder: str, owner: int) -> None:
    if os.getpid() == owner:  # and not a worker, forked from it
        shutil.rmtree(folder, ignore_errors=True)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _job(row: Sequence[Any]) -> Job:
    job = Job(*row)
    return job._replace(models=json.loads(row[5]), progress=row[6] and json.loads(row[6]))
