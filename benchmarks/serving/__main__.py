"""Answers a second of our service and of what a user would pick instead, as ratios within one run.

    python -m benchmarks.serving                       # some minutes on 2 cores; needs wrk (apt-get install wrk)
    python -m benchmarks.serving --only student --seconds 1
    python -m benchmarks.serving --peers-dir DIR --peers litserve,mosec  # benchmarks/serving/peers says how DIR is made

Every server is started anew for a block, alone on the machine but for wrk beside it; servers take turns, so that a
drift of the machine meets all of them. Multiples are of the ten-minute endpoint's answers a second, and of its p99, in
the same block; the figure is the median over repetitions.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.serving.load import Load, load
from benchmarks.serving.models import examples, write_models
from benchmarks.serving.servers import PEERS, Server, as_binary, ours, peer, python_of, running, ten_minutes
from service.machine import processors

PORT = 18_765
CONNECTIONS = (1, 8, 32, 64)


class Block(NamedTuple):
    """One kind of load: the model, rows in a request, whether ours is sent binary tensors, and how many connections."""

    title: str
    model: str
    rows: int
    binary: bool
    connections: Sequence[int]


BLOCKS = {
    "student": Block("student, one row of JSON", "bench-student", 1, binary=False, connections=CONNECTIONS),
    "binary": Block("student, one row in binary", "bench-student", 1, binary=True, connections=CONNECTIONS),
    "int8": Block("student in int8, one row of JSON", "bench-student-int8", 1, binary=False, connections=CONNECTIONS),
    "ensemble": Block("ensemble, one row of JSON", "bench-ensemble", 1, binary=False, connections=CONNECTIONS),
    "rows": Block("student, 64 rows of JSON", "bench-student", 64, binary=False, connections=(4,)),
    "binary-rows": Block("student, 64 rows in binary", "bench-student", 64, binary=True, connections=(4,)),
}


def main(arguments: Sequence[str]) -> None:
    """Prints a table for each block."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=str(__doc__).partition("\n")[0])
    parser.add_argument("--only", metavar="A,B", help=f"some of {', '.join(BLOCKS)}")
    parser.add_argument("--seconds", type=int, default=3, help="of load for each figure")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--workers", action="append", help="measure so many worker processes; may be repeated")
    parser.add_argument("--models-dir", type=Path, help="use the models there; by default they are made")
    parser.add_argument("--peers-dir", type=Path, metavar="DIR", help="the environments of peers, DIR/<name>")
    parser.add_argument("--peers", metavar="A,B", help=f"some of {', '.join(PEERS)}; by default all, given --peers-dir")
    given = parser.parse_args(arguments)
    chosen = given.only.split(",") if given.only else list(BLOCKS)
    peers = _peers(parser, given.peers, given.peers_dir)
    with tempfile.TemporaryDirectory() as folder:
        models = given.models_dir or Path(folder) / "models"
        if not models.exists():
            write_models(models)
        print(f"{processors()}, wrk beside the server; {given.repetitions} repetitions")  # noqa: T201
        installed = [each for each in peers if python_of(each, given.peers_dir).exists()]
        for each in sorted(set(peers) - set(installed)):
            print(f"{each}: not installed, there is no {python_of(each, given.peers_dir)}", flush=True)  # noqa: T201
        for name in chosen:
            options = [["--workers", workers] for workers in given.workers or []] or [[]]
            model = BLOCKS[name].model
            servers = [ten_minutes(models, PORT, model), *(ours(models, PORT, each) for each in options)]
            servers += [peer(each, given.peers_dir, models, PORT, model) for each in installed]
            for line in table(BLOCKS[name], servers, given.seconds, given.repetitions):
                print(line, flush=True)  # noqa: T201 - it is a program


def _peers(parser: argparse.ArgumentParser, names: str | None, peers_dir: Path | None) -> list[str]:
    """The names of those asked for."""
    if peers_dir is None and names:
        parser.error("--peers needs --peers-dir, the folder of their environments")
    chosen = names.split(",") if names else list(PEERS) if peers_dir else []
    if unknown := sorted(set(chosen) - set(PEERS)):
        parser.error(f"unknown peers {', '.join(unknown)}; available: {', '.join(PEERS)}")
    return chosen


def table(block: Block, servers: Sequence[Server], seconds: int, repetitions: int) -> Iterator[str]:
    """The block's lines in Markdown: for each server and number of connections its multiples and figures.

    Multiples are of the first server."""
    found: dict[tuple[str, int], list[Load]] = {}
    memory: dict[str, float] = {}
    first: dict[str, float] = {}
    for _ in range(repetitions):
        for server in servers:
            for connections, measured in _measured(server, block, seconds, memory, first):
                found.setdefault((server.name, connections), []).append(measured)
    yield f"\n**{block.title}**\n"
    yield "| server | connections | answers/s | times | p50, ms | p99, ms | times | failed |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    for (name, connections), loads in found.items():
        base = found[servers[0].name, connections]
        rate = statistics.median(ours.rate / theirs.rate for ours, theirs in zip(loads, base, strict=True))
        tail = statistics.median(ours.p99_ms / theirs.p99_ms for ours, theirs in zip(loads, base, strict=True))
        middle = [statistics.median(values) for values in zip(*loads, strict=True)]
        yield (
            f"| {name} | {connections} | {middle[0]:.0f} | {rate:.2f} | {middle[1]:.2f} | {middle[2]:.2f} "
            f"| {tail:.2f} | {sum(each.failed for each in loads)} |"
        )
    yield ""
    for name, megabytes in memory.items():
        yield f"{name}: {megabytes:.0f} MB, first good answer after {first[name]:.2f} s"


def _measured(
    server: Server, block: Block, seconds: int, memory: dict[str, float], first: dict[str, float]
) -> Iterator[tuple[int, Load]]:
    send = as_binary if block.binary and server.binary else server.json
    request = send(block.model, examples(block.rows))
    with running(server, PORT, request) as started:
        first[server.name] = started.first_answer_s
        load(PORT, request, 1, 1)  # warms up
        for connections in block.connections:
            yield connections, load(PORT, request, connections, seconds)
        memory[server.name] = started.megabytes()


if __name__ == "__main__":
    main(sys.argv[1:])
