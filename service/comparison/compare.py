"""One comparison, from models and data to the report. It knows no HTTP and no repository."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from service import measures
from service.comparison import quality, report, speed, statistics
from service.comparison.choose import place
from service.comparison.data import Data
from service.comparison.machine import machine
from service.comparison.measurement import Measured, Plan, measure
from service.comparison.statistics import Seconds
from service.model import Model


def compare(models: Sequence[Model], data: Data, plan: Plan) -> report.Report:
    """Compares two or more models that take the same inputs and know the same classes; raises as `measure` does."""
    began, where = time.perf_counter(), machine()
    measured = measure(models, data, plan)
    return report.Report(
        models=[_model(one, data, plan) for one in measured],
        pairs=[_pair(a, b, data, plan) for a, b in combinations(measured, 2)],
        data=_data(data, plan),
        settings=_settings(models, data, plan),
        machine=where,
        seconds=time.perf_counter() - began,
    )


def _model(measured: Measured, data: Data, plan: Plan) -> report.ComparedModel:
    model, manifest = measured.model, measured.model.manifest
    found = quality.quality(measured.log_p_NK, data.labels)
    single, batched = measured.blocks[1], measured.blocks[plan.batch]
    return report.ComparedModel(
        name=manifest.name,
        version=manifest.version,
        role=manifest.role,
        accuracy=found.accuracy.value if found else None,
        accuracy_interval=found.accuracy.interval if found else None,
        nll=found.nll if found else None,
        ece=found.ece if found else None,
        latency_ms=_latency(single),
        calls=sum(map(len, single)),
        batch=report.Batch(size=plan.batch, latency_ms=_latency(batched), calls=sum(map(len, batched))),
        throughput=plan.batch / statistics.mean(batched),
        parameters=manifest.parameters,
        bytes=manifest.bytes,
        multiply_accumulates=manifest.multiply_accumulates,
        provider=model.provider,
        threads=model.session.get_session_options().intra_op_num_threads,
    )


def _latency(blocks: Sequence[Seconds]) -> report.Latency:
    p50, p90, p99 = statistics.percentiles(np.concatenate(blocks))
    return report.Latency(
        mean=statistics.mean(blocks) * 1e3,
        p50=p50 * 1e3,
        p90=None if p90 is None else p90 * 1e3,
        p99=None if p99 is None else p99 * 1e3,
    )


def _pair(a: Measured, b: Measured, data: Data, plan: Plan) -> report.Pair:
    found = quality.fidelity(a.log_p_NK, b.log_p_NK, data.labels)
    difference = found.accuracy_difference
    return report.Pair(
        a=a.model.manifest.name,
        a_version=a.model.manifest.version,
        b=b.model.manifest.name,
        b_version=b.model.manifest.version,
        agreement=found.agreement,
        accuracy_difference=None if difference is None else _estimate(difference),
        speed_up=_estimate(statistics.speed_up(a.blocks[1], b.blocks[1], plan.seed)),
        batch_speed_up=_estimate(statistics.speed_up(a.blocks[plan.batch], b.blocks[plan.batch], plan.seed)),
    )


def _estimate(estimate: measures.Estimate) -> report.Estimate:
    return report.Estimate(value=estimate.value, interval=estimate.interval)


def _data(data: Data, plan: Plan) -> report.DataUsed:
    return report.DataUsed(
        dataset=data.dataset,
        examples=len(data.inputs),
        labelled=data.labels is not None,
        seed=plan.seed,
        sha256=data.sha256,
    )


def _settings(models: Sequence[Model], data: Data, plan: Plan) -> report.SettingsUsed:
    return report.SettingsUsed(
        request=report.Repeat(
            models=[place(model) for model in models],
            dataset=data.dataset,
            limit=data.limit,
            seed=plan.seed,
            batch=plan.batch,
            blocks=plan.blocks,
        ),
        block_ms=speed.BLOCK_S * 1e3,
        discarded=speed.DISCARDED,
        warm_up_ms=speed.WARM_UP_S * 1e3,
        resamples=statistics.RESAMPLES,
        spinning=False,
        temperature=1.0,
        rows_repeat=len(data.inputs) < plan.batch,
    )
