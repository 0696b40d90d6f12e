"""Several workers behind one port: each gets its share, they count as one, and the death of one costs little."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from service.board import HALF_BYTES, Board
from service.statistics import Statistics
from tests.repositories import examples, write_pair
from tests.served import free_port, running

ROWS = examples(1)[0].tolist()
Service = tuple[httpx.Client, subprocess.Popen[str]]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    models = tmp_path_factory.mktemp("models")
    write_pair(models)
    with running(models, free_port(), "--workers", "3") as started:
        yield started


def workers(process: subprocess.Popen[str]) -> list[int]:
    return list(map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()))


def connections(pid: int, port: int) -> int:
    """Established connections to the port that a process holds."""
    lines = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    inodes = {f"socket:[{fields[9]}]" for fields in lines if fields[1].endswith(f":{port:04X}") and fields[3] == "01"}
    links = [file for file in Path(f"/proc/{pid}/fd").iterdir() if file.is_symlink()]
    return sum(str(link.readlink()) in inodes for link in links)


def until(condition: Callable[[], bool]) -> None:
    for _ in range(400):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("not within twenty seconds")


def predicted(client: httpx.Client) -> float:
    return sum(map(float, re.findall(r"^stillroom_predicted_rows_total{.*} (.*)$", client.get("/metrics").text, re.M)))


def test_each_worker_gets_as_many_connections_as_the_others(service: Service):
    """Twelve clients, three workers, four each."""
    client, process = service
    port = client.base_url.port
    assert port is not None
    client.close()
    before = {pid: connections(pid, port) for pid in workers(process)}
    with ExitStack() as stack:
        for _ in range(12):
            other = stack.enter_context(httpx.Client(base_url=client.base_url))
            assert other.post("/predict", json={"inputs": ROWS}).status_code == 200
        assert {pid: connections(pid, port) - before[pid] for pid in before} == dict.fromkeys(before, 4)


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service[0].base_url, timeout=60) as client:
        yield client


def ask(service: Service, count: int) -> None:
    """Each on a connection of its own."""
    for _ in range(count):
        answer = httpx.post(f"{service[0].base_url}/predict", json={"inputs": ROWS})
        assert answer.status_code == 200


def settled(client: httpx.Client) -> float:
    """What was predicted, once no worker has any of it to tell: each publishes ten times a second."""
    before, now = -1.0, predicted(client)
    while now != before:
        time.sleep(0.5)
        before, now = now, predicted(client)
    return now


def test_what_the_workers_count_adds_up(service: Service, client: httpx.Client):
    """Whichever of them is asked; in the protocol's statistics too."""
    before = settled(client)
    ask(service, 7)
    until(lambda: predicted(client) == before + 7)
    for _ in range(3):
        with httpx.Client(base_url=client.base_url) as other:
            until(lambda other=other: predicted(other) == before + 7)  # type: ignore[misc]
            (found,) = other.get("/v2/models/digits-student/stats").json()["model_stats"]
            assert found["inference_count"] == before + 7


def test_two_workers_do_not_compare_at_once_and_know_each_others_comparisons(service: Service):
    """They would measure each other: whichever worker is asked, the others wait, and any worker tells of them."""
    url, body = str(service[0].base_url), {"blocks": 3, "batch": 1, "scenarios": []}
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: httpx.post(f"{url}/compare", json=body, timeout=60), range(3)))
    assert sorted(answer.status_code for answer in answers) == [200, 202, 202]
    paths = [answer.headers["location"] for answer in answers]
    until(lambda: all(httpx.get(f"{url}{path}").json()["state"] == "done" for path in paths for _ in range(2)))
    ends = sorted((job["started"], job["ended"]) for job in httpx.get(f"{url}/compare").json()["comparisons"])
    assert all(ended <= started for (_, ended), (started, _) in pairwise(ends))


def test_a_worker_that_dies_is_replaced_and_what_it_counted_is_kept(service: Service, client: httpx.Client):
    """Others answer meanwhile."""
    ask(service, 3)
    before, first, process = settled(client), workers(service[1]), service[1]
    client.close()
    os.kill(first[0], signal.SIGKILL)
    ask(service, 6)
    until(lambda: len(workers(process)) == 3 and first[0] not in workers(process))
    with httpx.Client(base_url=service[0].base_url) as other:
        until(lambda: predicted(other) == before + 6)


def test_a_worker_that_is_told_to_end_answers_what_it_accepted(service: Service):
    """Others are answered all the while; none of them sees the 503 of a worker that still loads."""
    base, process, done = service[0].base_url, service[1], threading.Event()

    def load() -> set[int]:
        statuses = set[int]()
        while not done.is_set():
            statuses.add(httpx.post(f"{base}/predict", json={"inputs": ROWS}).status_code)
        return statuses

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(load) for _ in range(4)]
        for _ in range(3):
            first = workers(process)
            os.kill(first[0], signal.SIGTERM)
            until(lambda first=first: len(workers(process)) == 3 and first[0] not in workers(process))  # type: ignore[misc]
            time.sleep(0.5)
        done.set()
        assert [future.result() for future in futures] == [{200}] * 4


def test_the_death_of_all_workers_at_once_is_survived(service: Service):
    """With clients that wait meanwhile; none of them waits for ever."""
    base, process = service[0].base_url, service[1]
    for _ in range(2):
        first = workers(process)
        for pid in first:
            os.kill(pid, signal.SIGKILL)
        with ThreadPoolExecutor(3) as pool:
            waits = [pool.submit(httpx.get, f"{base}/health/live", timeout=20) for _ in range(3)]
        for wait in waits:
            with suppress(httpx.TransportError):  # it was handed to one that died
                assert wait.result().status_code == 200
        until(lambda first=first: len(workers(process)) == 3 and not set(first) & set(workers(process)))  # type: ignore[misc]
        time.sleep(0.5)
    ask(service, 3)


def test_workers_that_die_at_once_are_not_started_without_a_pause(service: Service):
    """Not more often than once a second each."""
    process, seen = service[1], set[int]()
    ends = time.monotonic() + 3
    while time.monotonic() < ends:
        for pid in set(workers(process)) - seen:
            seen.add(pid)
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)
    assert len(seen) <= 3 * 5
    until(lambda: len(workers(process)) == 3)
    time.sleep(0.5)
    ask(service, 3)


def test_counts_never_go_back(service: Service):
    """Whichever worker is asked next."""
    before = 0.0
    for _ in range(20):
        ask(service, 1)
        with httpx.Client(base_url=service[0].base_url) as one, httpx.Client(base_url=service[0].base_url) as two:
            for client in (one, two):
                now = predicted(client)
                assert now >= before
                before = now


def test_a_long_comparison_does_not_hold_up_the_end(tmp_path: Path):
    """It is told, and so is its client."""
    write_pair(tmp_path)
    with running(tmp_path, free_port(), "--drain-s", "3") as (client, process), ThreadPoolExecutor(1) as pool:
        compared = pool.submit(httpx.post, f"{client.base_url}/compare", json={"blocks": 30}, timeout=60)
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        assert process.wait(timeout=20) == 0
        assert time.monotonic() - started < 6
        answer = compared.result()
        assert (answer.status_code, "the service is ending" in answer.text) == (503, True)


def test_sigterm_ends_them_all_when_they_have_answered(tmp_path: Path):
    """The requests in flight get their answers; then the port is free, and the exit status 0."""
    write_pair(tmp_path)
    port = free_port()
    with running(tmp_path, port, "--workers", "2") as (client, process):
        pids = workers(process)
        compared = subprocess.Popen(
            ["curl", "-s", "-X", "POST", "-d", '{"blocks": 3, "scenarios": []}', f"http://127.0.0.1:{port}/compare"],
            stdout=subprocess.PIPE,
        )
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        answer, _ = compared.communicate(timeout=30)
        assert b'"speed_up"' in answer or b'"pairs"' in answer, answer
        assert process.wait(timeout=20) == 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
        with pytest.raises(httpx.TransportError):
            client.get("/health/live")


def test_a_slot_is_read_as_it_was_written():
    """By whoever; before that it is empty."""
    board = Board(2)
    assert board.read(1) is None
    board.write(1, b"abc")
    board.write(1, b"de")
    assert (board.read(0), board.read(1)) == (None, b"de")
    with pytest.raises(ValueError, match=f"got {HALF_BYTES} bytes for a slot"):
        board.write(0, b"x" * HALF_BYTES)


def test_what_is_half_written_is_not_read():
    """What was there before it is."""
    board = Board(1)
    board.write(0, b"abc")
    board.write(0, b"def")
    board._memory[22:23] = b"x"  # of the half that was written last
    assert board.read(0) == b"abc"
    board.write(0, b"ghi")
    assert board.read(0) == b"ghi"


def test_statistics_are_those_of_all_and_go_on_after_a_death():
    """The third process takes the place of the first."""
    board, one, two, three = Board(2), Statistics(), Statistics(), Statistics()
    one.share(board, 0)
    two.share(board, 1)
    for statistics in (one, one, two):
        statistics.requested("POST", "/predict", 200)
        statistics.publish()
    assert two.total().requests == {"POST /predict 200": 3}
    three.share(board, 0)
    three.requested("POST", "/predict", 200)
    assert three.total().requests == {"POST /predict 200": 4}
