"""The results: what each model reaches on the test part, which is touched here and nowhere else.

It knows served modules, their graphs and the measures, not how they were trained or how a table looks.
Legend: M members, N examples, K classes.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from service import measures
from service.manifest import Combination, Role
from service.measures import Estimate, Interval
from service.session import open_session
from trainer.data.split import Part
from trainer.ensemble import predict
from trainer.export import Exported
from trainer.networks import parameters

RESAMPLES = 10_000
Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


class Contender(NamedTuple):
    """A model that will be published: its role, its graph, the seeds of the networks inside.

    `reduced` says what its graph was reduced to, `int8` or `fp16`; None for float32. `alike` are networks that differ
    from it in their seed alone, itself among them; empty for the ensemble, its member and reduced forms. `combination`
    is how specialists are combined.
    """

    role: Role
    exported: Exported
    seeds: Sequence[int]
    alike: Sequence[nn.Module]
    reduced: str | None = None
    combination: Combination | None = None

    @property
    def label(self) -> str:
        """`student`, `student-int8` and so on: its row in the table, and the end of its name."""
        return f"{self.role}-{self.reduced}" if self.reduced else self.role


class Spread(NamedTuple):
    """Mean and standard deviation of the test errors over seeds."""

    mean: float
    deviation: float
    seeds: int


class Row(NamedTuple):
    """One line of the results, by its label. Intervals are of 95 %, Wilson; `errors` are of `examples`.

    The row `member` holds means over the members, and no interval: `spread` says how they differ.
    """

    role: str
    examples: int
    errors: float
    errors_interval: Interval | None
    nll: float
    ece: float
    agreement: float | None
    spread: Spread | None
    parameters: int
    bytes: int | None
    cpu_ms: float | None


class Gain(NamedTuple):
    """What distilling brought: the share of the teacher's gain over the baseline that the student keeps.

    `kept` is (student - baseline) / (teacher - baseline) in accuracy; None where the interval of the denominator
    holds 0 or is below it: a share of nothing, or of a loss, is not a figure.
    """

    kept: Estimate | None
    teacher: Estimate
    student: Estimate


class Results(NamedTuple):
    """Rows: ensemble, member (the mean of those that were trained here), baseline, student; and the gain.

    `member` is the row of the one member that is published; the table has the mean, which says more. Agreement and gain
    are with and of the model of the role `teacher`.
    """

    rows: list[Row]
    gain: Gain
    member: Row | None = None
    teacher: Role = "ensemble"


def evaluate(
    contenders: Sequence[Contender], members: Sequence[nn.Module], test: Part, teacher: Role = "ensemble"
) -> Results:
    """Measures every contender through the graph that will be served, and, for the spread over seeds, the networks of
    each kind in PyTorch. Nothing is chosen by what comes out."""
    log_p = {contender.label: through_graph(contender.exported.graph, test) for contender in contenders}
    return judge(contenders, members, log_p, test, teacher)


def judge(
    contenders: Sequence[Contender],
    members: Sequence[nn.Module],
    log_p: Mapping[str, Floats],
    test: Part,
    teacher: Role = "ensemble",
) -> Results:
    """The results of answers that are there: log-probabilities [N, K] of each contender, by its label."""
    labels = {label: log_p_NK.argmax(axis=1) for label, log_p_NK in log_p.items()}
    teacher_N = labels[teacher]
    found = {c.label: _row(c, log_p[c.label], test, None if c.role == teacher else teacher_N) for c in contenders}
    member = found.pop("member", None)
    rows = list(found.values())
    if members:
        rows.insert(1, _member_row(members, test, teacher_N))
    return Results(rows, gain_kept(labels["student"], labels["baseline"], teacher_N, test.labels), member, teacher)


def gain_kept(student_N: Labels, baseline_N: Labels, teacher_N: Labels, labels_N: Labels) -> Gain:
    """The gain from predicted labels [N] on the same examples; a loss is no gain to keep a share of."""
    teacher = measures.accuracy_difference(teacher_N, baseline_N, labels_N)
    student = measures.accuracy_difference(student_N, baseline_N, labels_N)
    known = teacher.value > 0 and teacher.interval.low > 0
    right = [(predicted_N == labels_N).astype(int) for predicted_N in (student_N, baseline_N, teacher_N)]
    return Gain(share_kept(right[0] - right[1], right[2] - right[1]) if known else None, teacher, student)


def share_kept(student_N: NDArray, teacher_N: NDArray) -> Estimate:
    """sum(student) / sum(teacher) of what each example adds to the two gains: -1, 0 or 1, or the mean over seeds.

    Its 95 % interval is the percentile bootstrap over examples: only how often each pair of values occurs matters.
    """
    pairs, counts = np.unique(np.stack([student_N, teacher_N]), axis=1, return_counts=True)
    drawn = np.random.default_rng(0).multinomial(len(student_N), counts / len(student_N), size=RESAMPLES)
    student, teacher = (drawn * pairs[row] for row in (0, 1))
    shares = student.sum(axis=1)[(gains := teacher.sum(axis=1)) > 0] / gains[gains > 0]
    low, high = np.quantile(shares, (0.025, 0.975))
    return Estimate(float(student_N.sum() / teacher_N.sum()), Interval(float(low), float(high)))


def through_graph(graph: bytes, part: Part, batch_size: int = 1024) -> Floats:
    """Log-probabilities [N, K] of a graph over a part, as it will be served."""
    session = open_session(graph, device="cpu", threads=0)  # 0: onnxruntime takes every core, nothing is timed here
    starts = range(0, len(part.labels), batch_size)
    batches = [part.inputs[start : start + batch_size].astype(np.float32) for start in starts]
    return measures.log_softmax(np.concatenate([session.run(["logits"], {"input": batch})[0] for batch in batches]))


def _row(contender: Contender, log_p_NK: Floats, test: Part, teacher_N: Labels | None) -> Row:
    predicted_N, examples = log_p_NK.argmax(axis=1), len(test.labels)
    low, high = measures.accuracy(predicted_N, test.labels).interval
    return Row(
        role=contender.label,
        examples=examples,
        errors=measures.errors(predicted_N, test.labels),
        errors_interval=Interval((1 - high) * examples, (1 - low) * examples),
        nll=measures.nll(log_p_NK, test.labels),
        ece=measures.ece(log_p_NK, test.labels),
        agreement=None if teacher_N is None else measures.agreement(predicted_N, teacher_N),
        spread=_spread([measures.errors(_labels(network, test), test.labels) for network in contender.alike]),
        parameters=contender.exported.parameters,
        bytes=len(contender.exported.graph),
        cpu_ms=contender.exported.cpu_ms,
    )


def _member_row(members: Sequence[nn.Module], test: Part, teacher_N: Labels) -> Row:
    log_p = [measures.log_softmax(_logits(member, test)) for member in members]
    predicted = [log_p_NK.argmax(axis=1) for log_p_NK in log_p]
    errors = [measures.errors(predicted_N, test.labels) for predicted_N in predicted]
    return Row(
        role="member",
        examples=len(test.labels),
        errors=statistics.fmean(errors),
        errors_interval=None,
        nll=statistics.fmean(measures.nll(log_p_NK, test.labels) for log_p_NK in log_p),
        ece=statistics.fmean(measures.ece(log_p_NK, test.labels) for log_p_NK in log_p),
        agreement=statistics.fmean(measures.agreement(predicted_N, teacher_N) for predicted_N in predicted),
        spread=_spread(errors),
        parameters=parameters(members[0]),
        bytes=None,
        cpu_ms=None,
    )


def _spread(errors: list[int]) -> Spread | None:
    if len(errors) < 2:
        return None
    return Spread(statistics.fmean(errors), statistics.stdev(errors), len(errors))


def _logits(network: nn.Module, test: Part) -> NDArray[np.float32]:
    inputs = torch.from_numpy(test.inputs.astype(np.float32))
    return predict(network.cpu(), inputs).numpy()


def _labels(network: nn.Module, test: Part) -> Labels:
    return _logits(network, test).argmax(axis=1)
