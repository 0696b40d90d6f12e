"""From what was measured of one model to its column of the report. It computes, and measures nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from service import measures
from service.comparison import quality, statistics
from service.comparison.arrivals import Served, kept_up, typical_pace
from service.comparison.data import Data
from service.comparison.measurement import Measured
from service.comparison.plan import Plan
from service.comparison.schema import report
from service.comparison.schema.part import Estimate
from service.comparison.schema.speed import (
    Alternating,
    Batch,
    ColdStart,
    Cost,
    Latency,
    Offline,
    Server,
    ThroughHttp,
    TriedBatch,
)
from service.comparison.statistics import Blocks
from service.comparison.subject import Passing, Subject
from service.comparison.through_http import Asked, arrivals_take_s

SHARES = (0.0, 0.01, *(step / 20 for step in range(1, 20)), 0.97, 0.99, 0.999, 1.0)
"""At which a distribution of latencies is told for a plot."""
HOUR_S = 3600
MILLION = 1_000_000


def column(measured: Measured, data: Data, plan: Plan) -> report.ComparedModel:
    """Everything that the report says of one model."""
    subject, single = measured.subject, measured.kept(1)
    batched = measured.kept(plan.batch)
    deferred = None if subject.passing is None else float(subject.passing.deferred(data.inputs).mean())
    return report.ComparedModel(
        name=subject.name,
        version=subject.version,
        role=subject.role,
        sha256=subject.sha256,
        **_quality(measured, data),
        label_flips=measured.flips,
        deferred=deferred,
        cascade=None if subject.passing is None else _cascade(subject.passing),
        latency_ms=latency(single, plan.seed),
        calls=_calls(single),
        batch=Batch(size=plan.batch, latency_ms=latency(batched, plan.seed), calls=_calls(batched)),
        throughput=plan.batch / statistics.mean(batched),
        offline=_offline(measured, plan) if "offline" in plan.scenarios else None,
        server=server(measured.served, measured.rate, plan.seed) if measured.served else None,
        alternating=_alternating(measured.turns, plan.seed) if measured.turns else None,
        http=None if measured.asked is None else through_http(measured.asked, plan),
        cold_start=_cold_start(measured),
        cost=_cost(measured, plan),
        parameters=subject.parameters,
        bytes=subject.bytes,
        multiply_accumulates=_multiply_accumulates(subject, deferred or 0.0),
        provider_asked=subject.provider_asked,
        provider=subject.provider,
        threads=subject.threads,
    )


def _cascade(passing: Passing) -> report.CascadeUsed:
    rule = passing.rule
    return report.CascadeUsed(
        student=passing.student,
        asks=rule.name,
        asks_version=rule.version,
        asks_sha256=rule.sha256,
        threshold=rule.threshold,
        temperature=rule.temperature,
    )


def _multiply_accumulates(subject: Subject, deferred: float) -> int | None:
    """For one example, on average where a cascade passes that share of them on."""
    if subject.passing is None or subject.multiply_accumulates is None:
        return subject.multiply_accumulates
    return round(subject.multiply_accumulates + deferred * subject.passing.multiply_accumulates)


def _quality(measured: Measured, data: Data) -> dict[str, Any]:
    found = quality.quality(measured.log_p_NK, data.labels, measured.subject.classes)
    return dict.fromkeys(quality.Quality._fields) if found is None else found._asdict()


def latency(blocks: Blocks, seed: int) -> Latency:
    """Of calls that took so many seconds."""
    found = statistics.percentiles(blocks, seed)
    told: dict[str, Any] = {name: None if one is None else one.value * 1e3 for name, one in found.items()}
    told |= {f"{name}_interval": None if one is None else _milli(one.interval) for name, one in found.items()}
    quantiles = np.percentile(np.concatenate(blocks), [100 * share for share in SHARES])
    return Latency(
        mean=statistics.mean(blocks) * 1e3,
        mean_interval=_milli(statistics.mean_interval(blocks, seed)),
        quantiles=[(share, float(value) * 1e3) for share, value in zip(SHARES, quantiles, strict=True)],
        **told,
    )


def _milli(interval: measures.Interval) -> tuple[float, float]:
    return interval.low * 1e3, interval.high * 1e3


def _calls(blocks: Blocks) -> int:
    return sum(map(len, blocks))


def _offline(measured: Measured, plan: Plan) -> Offline:
    found = statistics.rate([block.kept_s for block in measured.offline], measured.best, plan.seed)
    return Offline(
        batch=measured.best,
        throughput=estimate(found),
        tried=[TriedBatch(size=size, throughput=rows) for size, rows in sorted(measured.tried.items())],
    )


def server(served: Sequence[Served], rate: float, seed: int) -> Server:
    """Of what was done with the arrivals of each block, at so many a second."""
    blocks, paces = [done.kept_s for done in served], [done.pace for done in served]
    return Server(
        rate=rate,
        seconds=sum(done.requests for done in served) / rate,
        requests=_calls(blocks) + sum(done.late for done in served),
        failures=sum(done.late for done in served),
        latency_ms=latency(blocks, seed),
        rows_per_run=sum(done.requests for done in served) / sum(done.runs for done in served),
        kept_up=kept_up(paces),
        pace=typical_pace(paces),
    )


def through_http(asked: Asked, plan: Plan) -> ThroughHttp:
    """Of what was asked behind a URL."""
    rows = statistics.rate(asked.batched, plan.batch, plan.seed) if len(asked.batched) > 1 else None
    return ThroughHttp(
        url=asked.remote.target.url,
        encoding=asked.remote.encoding,
        latency_ms=latency(asked.single, plan.seed) if len(asked.single) > 1 else None,
        calls=_calls(asked.single),
        failures=sum(asked.failures),
        batch=plan.batch,
        throughput=None if rows is None else estimate(rows),
        server=Server(
            rate=asked.rate,
            seconds=arrivals_take_s(asked.rate) * len(asked.arrived),
            requests=_calls(asked.arrived) + sum(asked.arrival_failures),
            failures=sum(asked.arrival_failures),
            latency_ms=latency(asked.arrived, plan.seed) if all(map(len, asked.arrived)) else None,
            rows_per_run=None,
            kept_up=kept_up(asked.paces),
            pace=typical_pace(asked.paces),
        ),
    )


def _alternating(turns: Blocks, seed: int) -> Alternating:
    return Alternating(latency_ms=latency(turns, seed), calls=_calls(turns))


def _cold_start(measured: Measured) -> ColdStart | None:
    loaded = measured.subject.loaded
    if loaded is None:
        return None
    return ColdStart(session_ms=loaded.session_s * 1e3, first_ms=loaded.first_s * 1e3)


def _cost(measured: Measured, plan: Plan) -> Cost:
    """At the best batch size that was measured in full."""
    blocks, subject = measured.at_best, measured.subject
    rows = measured.best * sum(block.calls for block in blocks)
    cpu_s = sum(block.cpu_s for block in blocks)
    joules = [block.joules for block in blocks if block.joules is not None]
    per_second = measured.best / statistics.mean([block.kept_s for block in blocks])
    return Cost(
        resident_bytes=None if subject.loaded is None else subject.loaded.resident_bytes,
        predictions_per_core_second=rows / cpu_s if subject.is_here and cpu_s > 0 else None,
        joules_per_million=sum(joules) / rows * MILLION if len(joules) == len(blocks) else None,
        price_per_million=plan.price_per_hour and plan.price_per_hour / HOUR_S / per_second * MILLION,
    )


def estimate(found: measures.Estimate) -> Estimate:
    """As the report tells it."""
    return Estimate(value=found.value, interval=found.interval)
