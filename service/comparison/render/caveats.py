"""What an expert would ask before trusting a report: everything in it that weakens a figure, in sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from service.comparison.render.markup import clean
from service.comparison.render.numbers import figures, whole
from service.comparison.render.view import View
from service.comparison.schema.report import ComparedModel
from service.machine import counted_cpus


def caveats(view: View) -> list[str]:
    """All that apply, the gravest first; one that is true of a model that was named twice is said once."""
    return list(dict.fromkeys(sentence for look in LOOKS for sentence in look(view)))


def _overlap(view: View) -> Iterator[str]:
    unknown = []
    for overlap in view.report.data.overlap:
        name = overlap.name if overlap.version is None else f"{overlap.name}/{overlap.version}"
        if overlap.examples:
            name, seen = clean(name), f"{whole(overlap.examples)} of the {whole(view.report.data.examples)} examples"
            flattered = ": it looks better than it is" if view.labelled else ""
            yield f"{name} was trained on {seen}{flattered}."
        elif not overlap.known:
            unknown.append(clean(name))
    if unknown:
        yield f"Whether {_listed(list(dict.fromkeys(unknown)))} saw these examples in training is not known."


def _disturbed(view: View) -> Iterator[str]:
    machine, others = view.report.machine, view.report.other_runs
    if others:
        yield f"The models answered {whole(others)} other batches meanwhile: measure again when the service is quiet."
    if machine.load_average >= max(1.0, machine.cpus / 2):
        load = f"{machine.load_average:.1f} processes ran or waited on {counted_cpus(machine.cpus)}"
        yield f"The machine was busy before: {load} in the minute before."


def _conditions(view: View) -> Iterator[str]:
    models, settings = view.report.models, view.report.settings
    for place, model in enumerate(models):
        asked, got = (model.provider_asked or AUTO).lower(), model.provider or ""
        if asked != AUTO and not got.lower().startswith(asked) and got:
            yield f"{view.names.label(place)} was to run on {asked} and ran on {got}."
        if model.role == "remote":
            yield f"The times of {view.names.label(place)} include a network and a server that is not ours to see."
    here = [model for model in models if model.role != "remote"]
    if len({(model.provider, model.threads) for model in here}) > 1:
        yield "The models ran on different providers or numbers of threads."
    if settings.spinning:
        yield "Idle threads were spinning, which slows the other models."
    if settings.rows_repeat:
        yield "There were fewer examples than rows in a batch, so rows repeat in it."


def _unsteady(view: View) -> Iterator[str]:
    for place, model in enumerate(view.report.models):
        name, flips = view.names.label(place), model.label_flips
        if flips.flips:
            sizes = " and ".join(map(str, flips.sizes))
            rows = f"{whole(flips.flips)} of {whole(flips.examples)}"
            yield f"{name} gives another label to {rows} examples when {sizes} rows travel together."
        yield from _failed(name, model)


def _failed(name: str, model: ComparedModel) -> Iterator[str]:
    servers = [(model.server, ""), (model.http and model.http.server, " through HTTP")]
    for server, where in servers:
        if server and not server.kept_up:
            yield f"{name} did not keep up with {figures(server.rate)} requests per second{where}: its queue grew."
        if server and server.failures:
            yield f"{name} failed {whole(server.failures)} requests under load{where}."
    if model.http and model.http.failures:
        yield f"{name} failed {whole(model.http.failures)} requests through HTTP."


def _several(view: View) -> Iterator[str]:
    judged = sum(pair.verdict is not None for pair in view.report.pairs)
    if judged > 1:
        yield f"The {judged} verdicts are one-sided tests at 2.5 % each, without correction for their number."


AUTO = "auto"
"""A device that leaves the choice to onnxruntime."""

LOOKS: tuple[Callable[[View], Iterator[str]], ...] = (_overlap, _disturbed, _conditions, _unsteady, _several)


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
