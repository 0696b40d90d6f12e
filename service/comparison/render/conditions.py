"""The sections on what predictions cost, what was compared on, and how to repeat it."""

from __future__ import annotations

import json
from collections.abc import Iterator

from service.comparison.render.blocks import Block, Cell, Code, Items, Section, Table, Terms, Text, model_cell
from service.comparison.render.markup import clean
from service.comparison.render.numbers import NOTHING, figures, interval, percent, size, whole
from service.comparison.render.view import View
from service.comparison.schema.conditions import Machine, Overlap
from service.comparison.schema.report import CascadeUsed, ComparedModel
from service.machine import counted_cpus

LEAST_BYTES = 1_000_000
"""Of memory, that a process can be seen to grow by: two copies of one network differ by nearly as much."""


def cost_section(view: View) -> Section:
    """What predictions take of the machine."""
    columns = ("model", "memory", "rows/core-second", "joules/million", "price/million", "load, ms", "first, ms")
    rows = [_cost(view, place, model) for place, model in enumerate(view.report.models)]
    price = view.report.settings.request.price_per_hour
    note = (
        "At each model's best batch size. Memory: what the process grew by, once the runtime had started. Joules: of "
        "the processor package or GPU, idle included. Load and first: from the graph's bytes to a session, and its "
        "first call; all else is warm."
    )
    if price is not None:
        note += f" The price is of {price:g} an hour."
    return Section("cost", "Cost", [Table("What predictions take", columns, rows, note), *_cascades(view)])


def _cascades(view: View) -> Iterator[Table]:
    """What they pass on and what that costs of the model that they ask, as far as it is compared too."""
    found = {place: model for place, model in enumerate(view.report.models) if model.cascade}
    if not found:
        return
    columns = ("model", "asks", "passes on", "MACs, expected", "of the other's MACs", "of its time, one row")
    rows = [_passes_on(view, place, model) for place, model in found.items()]
    note = "Expected: the student's, and at that share the other model's. Of its time: of the mean latency."
    yield Table("What the cascades save", columns, rows, note, left=2)


def _passes_on(view: View, place: int, model: ComparedModel) -> tuple[Cell, ...]:
    rule, macs = model.cascade, model.multiply_accumulates
    assert rule is not None
    mine = (gain for gain in view.report.cascades if (gain.name, gain.version) == (model.name, model.version))
    gain = next(mine, None)
    work = None if gain is None else gain.multiply_accumulates_ratio
    return (
        model_cell(place, view.names.label(place)),
        Cell(clean(f"{rule.asks}/{rule.asks_version}")),
        Cell(NOTHING if model.deferred is None else view.shares.share(model.deferred)),
        Cell(NOTHING if macs is None else whole(macs)),
        Cell(NOTHING if work is None else percent(work)),
        Cell(NOTHING)
        if gain is None
        else Cell(percent(gain.time_ratio.value), interval(gain.time_ratio.interval, percent)),
    )


def _cost(view: View, place: int, model: ComparedModel) -> tuple[Cell, ...]:
    cost, cold = model.cost, model.cold_start
    numbers = (
        cost.predictions_per_core_second,
        cost.joules_per_million,
        cost.price_per_million,
        None if cold is None else cold.session_ms,
        None if cold is None else cold.first_ms,
    )
    return (
        model_cell(place, view.names.label(place)),
        Cell(_memory(cost.resident_bytes)),
        *(Cell(NOTHING if number is None else figures(number)) for number in numbers),
    )


def _memory(grown: int | None) -> str:
    """As far as it can be told: allocators hand out again what was freed before."""
    if grown is None:
        return NOTHING
    return size(grown) if grown >= LEAST_BYTES else f"< {size(LEAST_BYTES)}"


def data_section(view: View) -> Section:
    """What the models were compared on, and who had seen it."""
    data = view.report.data
    source = "inputs that were sent" if data.dataset is None else clean(data.dataset)
    shown = ", ".join(clean(name) for name in data.classes[:12]) + (", …" if len(data.classes) > 12 else "")
    terms = [
        ("data", source),
        ("examples", f"{whole(data.examples)}, {'with' if data.labelled else 'without'} right labels"),
        ("draw", f"seed {data.seed}"),
        ("sha256", data.sha256),
        ("classes", f"{whole(len(data.classes))}: {shown}"),
    ]
    seen = Items([_overlap(overlap, data.examples) for overlap in data.overlap])
    return Section("data", "Data and overlap", [Terms("", terms), *([seen] if data.overlap else [])])


def _overlap(overlap: Overlap, examples: int) -> str:
    name = clean(overlap.name if overlap.version is None else f"{overlap.name}/{overlap.version}")
    if not overlap.known or overlap.examples is None:
        return f"{name} does not name the examples that it was trained on."
    return f"{whole(overlap.examples)} of the {whole(examples)} examples are among those that {name} was trained on."


def provenance_section(view: View) -> Section:
    """Hashes, versions, settings, and the body that repeats it."""
    blocks: list[Block] = [
        Terms("Models", [_model(view, place, model) for place, model in enumerate(view.report.models)]),
        Terms("Machine", list(_machine(view.report.machine))),
        Terms("Settings", list(_settings(view))),
        Text(_how_to_repeat(view)),
        Code("json", json.dumps(view.report.settings.request.model_dump(), ensure_ascii=True, indent=2)),
    ]
    return Section("provenance", "How it came about", blocks)


ON_THE_COMMAND_LINE = {"remote": "the URLs", "file": "--onnx and the files"}
"""By the role of models that are in no repository: what `python -m service compare` is given."""


def _how_to_repeat(view: View) -> str:
    report = view.report
    places = ON_THE_COMMAND_LINE.get(report.models[0].role)
    if places is not None:
        return (
            f"To repeat this comparison, give python -m service compare {places} of these models, the same data, and "
            "what of this is not null:"
        )
    own = "" if report.data.dataset else ", with the inputs and labels that were sent"
    return f"To repeat this comparison, send this to POST /compare{own}:"


def _model(view: View, place: int, model: ComparedModel) -> tuple[str, str]:
    threads = "" if model.threads is None else f", {model.threads} {'thread' if model.threads == 1 else 'threads'}"
    asked, got = model.provider_asked or NOTHING, model.provider or NOTHING
    hashed = f"sha256 {model.sha256}" if model.sha256 else "its graph is not ours to see"
    rule = "" if model.cascade is None else _rule(model.cascade)
    return view.names.label(place), f"{clean(model.role)}; asked for {asked}, got {got}{threads}; {hashed}{rule}"


def _rule(cascade: CascadeUsed) -> str:
    return (
        f" of its student {clean(cascade.student)}; where the confidence of that at temperature "
        f"{cascade.temperature:g} is below {cascade.threshold:g}, "
        f"{clean(cascade.asks)}/{cascade.asks_version} answers, sha256 {cascade.asks_sha256}"
    )


def _machine(machine: Machine) -> Iterator[tuple[str, str]]:
    limit = "no limit" if machine.cpu_limit is None else f"the container may use {machine.cpu_limit:g}"
    memory = "unknown" if machine.memory_bytes is None else size(machine.memory_bytes)
    inside = "" if machine.memory_limit_bytes is None else f", the container may use {size(machine.memory_limit_bytes)}"
    yield "processor", f"{clean(machine.processor)}, {counted_cpus(machine.cpus)}, {limit}"
    yield "GPUs", ", ".join(map(clean, machine.gpus)) or "none"
    yield "memory", f"{memory}{inside}"
    yield "load before", f"{machine.load_average:.2f} processes over the minute before"
    yield "system", clean(machine.system)
    versions = {"Stillroom": machine.stillroom, "onnxruntime": machine.onnxruntime, "numpy": machine.numpy}
    yield "software", ", ".join(f"{name} {clean(of)}" for name, of in {**versions, "Python": machine.python}.items())


def _settings(view: View) -> Iterator[tuple[str, str]]:
    report, used = view.report, view.report.settings
    asked = used.request
    yield "blocks", f"{asked.blocks} for each model and batch size, of at least {used.block_ms:g} ms, in random order"
    yield "calls", f"at least {whole(asked.calls)}; the first {100 * used.discarded:g} % of each block do not count"
    yield "warm-up", f"at least {used.warm_up_ms:g} ms"
    yield "traffic", used.traffic
    yield "scenarios", ", ".join(map(clean, asked.scenarios)) or "none beside single stream and batches"
    yield "batch", f"{asked.batch} rows"
    yield "seed", str(asked.seed)
    yield "margin", "none stated" if asked.margin is None else f"{asked.margin:g} percentage points, stated beforehand"
    yield "spinning threads", "on" if used.spinning else "off"
    yield "temperature", f"{used.temperature:g}"
    yield "bootstrap", f"{whole(used.resamples)} resamples of blocks"
    yield "other runs", f"{whole(report.other_runs)} batches for other clients meanwhile"
    yield "took", f"{figures(report.seconds)} s"
