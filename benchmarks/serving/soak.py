"""Full load for minutes on end, while versions come and go, workers are told to end and clients vanish.

    python -m benchmarks.serving.soak --minutes 10

Every request that the service accepted must get a good answer, and its memory must not grow. One that was sent on a
kept connection just as the service closed it was not accepted: nothing of an answer came, and it is sent again
(RFC 9112, section 9.3.1). It knows HTTP and processes, not what is in an answer beyond its status.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.serving.load import Request
from benchmarks.serving.models import examples, publish_again, write_models
from benchmarks.serving.servers import as_binary, as_json, family, ours, resident, running

PORT = 9300
CLIENTS = 32
RELOAD_S, SEEN_S, END_S, VANISH_S, LOOK_S = 1.0, 2.0, 15.0, 0.2, 10.0
SMALL, SMALL_MEMBER = (784, 100, 10), (784, 100, 10)


class Soak:
    """The load on one service and what came of it."""

    def __init__(self, pid: int, models: Path, requests: Sequence[Request]) -> None:
        self.pid = pid
        self.models = models
        self.requests = [_bytes(request) for request in requests]
        self.seen: Counter[str] = Counter()
        self.megabytes: list[float] = []

    async def run(self, seconds: float) -> None:
        """Everything at once, for so long."""
        works = [self._ask(index) for index in range(CLIENTS)]
        works += [self._reload(), self._end_workers(), self._vanish(), self._look()]
        tasks = [asyncio.create_task(work) for work in works]
        done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()

    async def _ask(self, index: int) -> None:
        requests = itertools.cycle(self.requests[index % len(self.requests) :] + self.requests)
        raw, is_new = next(requests), True
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
            try:
                while True:
                    writer.write(raw)
                    status = await _status(reader)
                    self.seen["answered" if status == 200 else f"status {status}"] += 1
                    raw, is_new = next(requests), False
            except (ConnectionError, asyncio.IncompleteReadError) as error:
                partial = isinstance(error, asyncio.IncompleteReadError) and error.partial
                self.seen["broken off" if partial or is_new else "not accepted"] += 1
                is_new = True
            finally:
                writer.close()

    async def _reload(self) -> None:
        """A new version of a model, and away with the one before, when every worker has seen the new one."""
        for name in itertools.cycle(["bench-student", "bench-ensemble"]):
            await asyncio.sleep(RELOAD_S)
            version = await asyncio.to_thread(publish_again, self.models, name)
            await asyncio.sleep(2 * SEEN_S)
            await asyncio.to_thread(shutil.rmtree, self.models / name / str(version - 1))
            self.seen["versions"] += 1

    async def _end_workers(self) -> None:
        """One of them, by SIGTERM: it answers what it has accepted, and another one comes."""
        while True:
            await asyncio.sleep(END_S)
            workers = [pid for pid in family(self.pid) if pid != self.pid]
            if workers:
                os.kill(random.choice(workers), signal.SIGTERM)  # noqa: S311 - no secret
                self.seen["workers ended"] += 1

    async def _vanish(self) -> None:
        """Clients that go away in the middle of a request or before its answer."""
        while True:
            await asyncio.sleep(VANISH_S)
            _, writer = await asyncio.open_connection("127.0.0.1", PORT)
            raw = random.choice(self.requests)  # noqa: S311 - no secret
            writer.write(raw[: random.randint(1, len(raw))])  # noqa: S311
            writer.close()
            self.seen["clients gone"] += 1

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            pids = family(self.pid)
            self.megabytes.append(sum(map(resident, pids)) / 2**20)
            print(f"{self.megabytes[-1]:.0f} MB in {len(pids)} processes, {dict(self.seen)}", flush=True)  # noqa: T201


def _bytes(request: Request) -> bytes:
    headers = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    head = f"POST {request.path} HTTP/1.1\r\nHost: soak\r\n{headers}Content-Length: {len(request.body)}\r\n\r\n"
    return head.encode() + request.body


async def _status(reader: asyncio.StreamReader) -> int:
    """Of a whole answer. Raises IncompleteReadError, with what came, where it breaks off."""
    head = await reader.readuntil(b"\r\n\r\n")
    fields = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:-2])
    await reader.readexactly(int(fields["content-length"]))
    return int(head.split()[1])


def main(arguments: Sequence[str]) -> int:
    """0 where nothing failed and memory stayed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving.soak", description=str(__doc__).partition("\n")[0]
    )
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--workers", default="2")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder) / "models"
        write_models(models, SMALL, SMALL_MEMBER)
        requests = [as_json("bench-student", examples(1)), as_binary("bench-student", examples(1))]
        requests += [as_json("bench-ensemble", examples(3)), as_binary("bench-student", examples(16))]
        with running(ours(models, PORT, ["--workers", given.workers]), PORT, requests[0]) as server:
            soak = Soak(server.process.pid, models, requests)
            started = time.monotonic()
            asyncio.run(soak.run(60 * given.minutes))
            seconds = time.monotonic() - started
    return _told(soak, seconds)


def _told(soak: Soak, seconds: float) -> int:
    fine = {"answered", "not accepted", "versions", "workers ended", "clients gone"}
    failed = sum(count for name, count in soak.seen.items() if name not in fine)
    # The first third is left out: caches fill and every worker has loaded by then.
    third = len(soak.megabytes) // 3
    early, late = (max(part, default=0.0) for part in (soak.megabytes[third : 2 * third], soak.megabytes[2 * third :]))
    print(f"{seconds:.0f} s: {dict(soak.seen)}")  # noqa: T201
    print(f"failed: {failed}; most memory in the second third {early:.0f} MB, in the last {late:.0f} MB")  # noqa: T201
    return int(failed > 0 or late > 1.1 * early)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
