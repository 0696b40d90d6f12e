"""Where independent work runs: in this process, in local processes, or on a Ray cluster.

It knows functions and items, not training. Work leaves its results as files in the run's folder, which every worker
must see at the same path (one machine, or a shared file system): so a lost worker's item is taken up again where its
checkpoint is, and the caller finds finished files whoever made them. What travels to a worker is pickled by the
library that carries it; nothing that is kept is.
"""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Protocol

from trainer.errors import RunError

TRIES = 4
"""How often an item is begun before the run gives up: workers get lost, but not every time."""

Function = Callable[[Any, Any], None]
"""What is shared by all items, and an item -> nothing: its results are files."""


class Cluster(Protocol):
    """Runs a function on every item, in any order, and tells after each how many are done."""

    def run(self, function: Function, shared: Any, items: Sequence[Any], done: Callable[[int], None]) -> None:
        """Raises what the function raises, and RunError where workers are lost again and again."""


class Here:
    """One after the other, in this process."""

    def run(self, function: Function, shared: Any, items: Sequence[Any], done: Callable[[int], None]) -> None:
        """See Cluster."""
        for number, item in enumerate(items, start=1):
            function(shared, item)
            done(number)


@dataclass(frozen=True)
class Processes:
    """So many processes of this machine."""

    workers: int

    def run(self, function: Function, shared: Any, items: Sequence[Any], done: Callable[[int], None]) -> None:
        """See Cluster. A process that dies takes its pool with it; the items that are left go to a new one.

        A lone item would only wait for its process to start: it runs here.
        """
        if len(items) == 1:
            Here().run(function, shared, items, done)
            return
        left = list(range(len(items)))
        for _ in range(TRIES):
            if not left:
                return
            context = multiprocessing.get_context("spawn")  # PyTorch's threads do not survive a fork
            with ProcessPoolExecutor(self.workers, context, _remember, (shared,)) as pool:
                futures = {pool.submit(_with_shared, function, items[index]): index for index in left}
                try:
                    for future in as_completed(futures):
                        future.result()
                        left.remove(futures[future])
                        done(len(items) - len(left))
                except BrokenProcessPool:
                    continue
        if left:
            raise RunError(f"{len(left)} of {len(items)} pieces of work lost their process {TRIES} times; see its log")


@dataclass(frozen=True)
class OnRay:
    """A Ray cluster: `ray` is the one of this machine, `ray://host:10001` another's. Needs the extra `ray`."""

    address: str

    def run(self, function: Function, shared: Any, items: Sequence[Any], done: Callable[[int], None]) -> None:
        """See Cluster. Ray begins an item again whose worker or node is lost."""
        try:
            import ray
        except ImportError as error:
            raise RunError("--on ray needs Ray: install the extra with pip install 'stillroom[ray]'") from error
        if not ray.is_initialized():
            address = None if self.address == "ray" else self.address
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
        remote = ray.remote(max_retries=TRIES - 1, num_cpus=1)(function)
        given = ray.put(shared)
        waiting = [remote.remote(given, item) for item in items]
        try:
            while waiting:
                finished, waiting = ray.wait(waiting)
                ray.get(finished)
                done(len(items) - len(waiting))
        except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError) as error:
            raise RunError(f"Ray lost the workers of a piece of work {TRIES} times: {error}") from error
        except ray.exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, Exception) else error from error


def cluster_of(text: str) -> Cluster:
    """`here`, `processes`, `processes:4`, `ray` or `ray://host:port`. Raises RunError for anything else."""
    kind, _, rest = text.partition(":")
    if text == "here":
        return Here()
    if kind == "processes" and (not rest or (rest.isdigit() and int(rest) > 0)):
        return Processes(int(rest or multiprocessing.cpu_count()))
    if text == "ray" or text.startswith("ray://"):
        return OnRay(text)
    raise RunError(f"--on {text!r}: expected here, processes, processes:N, ray, or ray://host:port")


_shared: Any = None


def _remember(shared: Any) -> None:
    """In a new process: what its items share comes once, and not with each."""
    global _shared
    _shared = shared


def _with_shared(function: Function, item: Any) -> None:
    function(_shared, item)
