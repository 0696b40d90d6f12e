"""One comparison, from models and data to the report. It knows no HTTP and no repository."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import combinations

from service import measures
from service.comparison import paired, speed, statistics
from service.comparison.columns import column, estimate
from service.comparison.data import Data, overlap
from service.comparison.gains import gains
from service.comparison.machine import machine
from service.comparison.measurement import Measured, measure
from service.comparison.pictures import picture
from service.comparison.plan import Plan
from service.comparison.schema import conditions, report
from service.comparison.schema.part import Estimate
from service.comparison.schema.quality import Verdict
from service.comparison.subject import Subject

ECE_BINS = 15


def compare(subjects: Sequence[Subject], data: Data, plan: Plan) -> tuple[report.Report, list[Measured]]:
    """Compares two or more models that take the same inputs and know the same classes: the report, and what it was
    made of. Raises as `measure` does."""
    began, where = time.perf_counter(), machine()
    measured = measure(subjects, data, plan)
    models = [column(one, data, plan) for one in measured]
    made = report.Report(
        created=datetime.now(UTC),
        models=models,
        pairs=[_pair(a, b, data, plan) for a, b in combinations(measured, 2)],
        cascades=gains(measured, models, data, plan.seed),
        data=_data(subjects, data, plan),
        settings=_settings(subjects, data, plan),
        machine=where,
        seconds=time.perf_counter() - began,
    )
    return made, measured


def _pair(a: Measured, b: Measured, data: Data, plan: Plan) -> report.Pair:
    log_ps, labels = (a.log_p_NK, b.log_p_NK), data.labels
    show = partial(picture, data.inputs, a.subject.image)
    disagreed, disagreements = paired.disagreements(*log_ps, labels, a.subject.classes, show)
    table = None if labels is None else paired.table(*log_ps, labels)
    difference = None if labels is None else paired.difference(*log_ps, labels)
    return report.Pair(
        a=a.subject.name,
        a_version=a.subject.version,
        b=b.subject.name,
        b_version=b.subject.version,
        agreement=paired.agreement(*log_ps),
        kl=measures.kl(b.log_p_NK, a.log_p_NK),
        kl_reversed=measures.kl(a.log_p_NK, b.log_p_NK),
        accuracy_difference=difference,
        table=table,
        mcnemar=None if table is None else paired.mcnemar(table),
        verdict=_verdict(difference, plan.margin, a, b),
        per_class=None if labels is None else paired.per_class(*log_ps, labels, a.subject.classes),
        disagreed=disagreed,
        disagreements=disagreements,
        speed_up=estimate(statistics.speed_up(a.kept(1), b.kept(1), plan.seed)),
        batch_speed_up=estimate(statistics.speed_up(a.kept(plan.batch), b.kept(plan.batch), plan.seed)),
        offline_speed_up=_offline(a, b, plan) if "offline" in plan.scenarios else None,
        alternating_speed_up=estimate(statistics.speed_up(a.turns, b.turns, plan.seed)) if a.turns else None,
        http_speed_up=_through_http(a, b, plan),
    )


def _verdict(difference: Estimate | None, margin: float | None, a: Measured, b: Measured) -> Verdict | None:
    if difference is None or margin is None:
        return None
    return paired.verdict(difference, margin, a.subject.place, b.subject.place)


def _offline(a: Measured, b: Measured, plan: Plan) -> Estimate:
    """The ratio of seconds per row, each at its best batch size."""
    a_s, b_s = ([block.kept_s / one.best for block in one.offline] for one in (a, b))
    return estimate(statistics.speed_up(a_s, b_s, plan.seed))


def _through_http(a: Measured, b: Measured, plan: Plan) -> Estimate | None:
    if a.asked is None or b.asked is None or min(len(a.asked.single), len(b.asked.single)) < 2:
        return None
    return estimate(statistics.speed_up(a.asked.single, b.asked.single, plan.seed))


def _data(subjects: Sequence[Subject], data: Data, plan: Plan) -> conditions.DataUsed:
    return conditions.DataUsed(
        dataset=data.dataset,
        examples=len(data.inputs),
        labelled=data.labels is not None,
        seed=plan.seed,
        sha256=data.sha256,
        classes=list(subjects[0].classes),
        overlap=overlap(subjects, data.inputs),
    )


def _settings(subjects: Sequence[Subject], data: Data, plan: Plan) -> conditions.SettingsUsed:
    return conditions.SettingsUsed(
        request=conditions.Repeat(
            models=[subject.place for subject in subjects],
            dataset=data.dataset,
            limit=data.limit,
            seed=plan.seed,
            batch=plan.batch,
            blocks=plan.blocks,
            calls=plan.calls,
            margin=plan.margin,
            scenarios=list(plan.scenarios),
            threads=plan.threads,
            rate=plan.rate,
            price_per_hour=plan.price_per_hour,
        ),
        block_ms=speed.BLOCK_S * 1e3,
        discarded=speed.DISCARDED,
        warm_up_ms=speed.WARM_UP_S * 1e3,
        resamples=statistics.RESAMPLES,
        spinning=False,
        temperature=1.0,
        rows_repeat=len(data.inputs) < plan.batch,
        ece_bins=ECE_BINS,
    )
