"""From a request for a comparison to the task that does it. It knows the library, and measures nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from service.body import parse_inputs
from service.cascade import Cascade
from service.comparison.choose import choose, place
from service.comparison.data import Data, held_out, sent
from service.comparison.measurement import check_seconds, least_s
from service.comparison.plan import USUAL, Plan
from service.comparison.request import (
    DEFAULT_BATCH,
    DEFAULT_BLOCKS,
    DEFAULT_LIMIT,
    MOST_EXAMPLES,
    CompareRequest,
)
from service.comparison.subjects import Chosen
from service.comparison.task import Task
from service.errors import InputError
from service.library import Library
from service.machine import counted_cpus, usable_cpus
from service.manifest import GRAPH, Manifest
from service.model import Model
from service.settings import Settings

MOST_THREADS_PER_CPU = 4


@dataclass(frozen=True)
class Started:
    """What is to be done, for which models (`name/version`), and how many seconds that takes at least where models are
    as quick as when they were published."""

    task: Task
    models: list[str]
    seconds: float


def start(
    asked: CompareRequest, library: Library, settings: Settings, own: Callable[[Manifest], Data] | None = None
) -> Started:
    """Chooses models, data and plan; `own` reads other data than those that the request names, for that model.

    Raises InputError, NotFoundError, ModelError and BusyError.
    """
    models = choose(library, asked.models)
    plan = make_plan(asked, settings, models[0].manifest.input.rows_of(settings.max_batch))
    data = _data(asked, plan.seed, models, library) if own is None else own(models[0].manifest)
    check_margin(plan, data)
    chosen = [_chosen(model) for model in models]
    task = Task(str(library.directory.resolve()), chosen, settings.device, plan, data)
    check_seconds(least_s(len(models), plan))
    slowest_ms = max(model.manifest.metrics.cpu_ms_per_image or 0.0 for model in models)
    return Started(task, [place(model) for model in models], least_s(len(models), plan, slowest_ms / 1e3))


def _chosen(model: Model) -> Chosen:
    manifest = model.manifest
    student = model.stored.name if isinstance(model, Cascade) else None
    return Chosen(manifest.name, manifest.version, manifest.files[GRAPH].sha256, student)


def check_margin(plan: Plan, data: Data) -> None:
    """Raises InputError where a verdict is asked for that no label decides."""
    if plan.margin is not None and data.labels is None:
        raise InputError(
            f"margin: got {plan.margin:g}, but the inputs have no labels, without which there is no verdict"
        )


def make_plan(asked: CompareRequest, settings: Settings, max_batch: int) -> Plan:
    """The plan, with the defaults for what was not asked for; a run and a request hold at most `max_batch` rows.
    Raises InputError."""
    batch = asked.batch or min(DEFAULT_BATCH, max_batch)
    if batch > max_batch:
        raise InputError(f"batch: got {batch}, expected 1 to {max_batch}, the most that this service takes at once")
    return Plan(
        batch=batch,
        blocks=asked.blocks or DEFAULT_BLOCKS,
        seed=asked.seed or 0,
        max_batch=max_batch,
        calls=asked.calls or 0,
        scenarios=tuple(dict.fromkeys(USUAL if asked.scenarios is None else asked.scenarios)),
        threads=_threads(asked, settings),
        rate=asked.rate,
        margin=asked.margin,
        price_per_hour=asked.price_per_hour,
    )


def _threads(asked: CompareRequest, settings: Settings) -> int:
    most = max(MOST_THREADS_PER_CPU * usable_cpus(), settings.threads_each)
    if asked.threads is not None and asked.threads > most:
        raise InputError(f"threads: got {asked.threads}, expected 1 to {most}, on {counted_cpus(usable_cpus())}")
    return asked.threads or settings.threads_each


def _data(asked: CompareRequest, seed: int, models: list[Model], library: Library) -> Data:
    if asked.inputs is None:
        return held_out(library, models, asked.limit or DEFAULT_LIMIT, seed)
    manifest = models[0].manifest
    return sent(parse_inputs(asked.inputs, manifest, MOST_EXAMPLES), asked.labels, manifest.classes)
