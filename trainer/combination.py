"""The distribution that agrees best with a generalist and its specialists (section 5.3), in a fixed number of steps.

It knows votes, the objective and how it is minimised, not networks or files. For every row it minimises over q

    KL(p_g, q) for each of the generalists + sum over the active specialists of KL(p_m, q'),

q' being q with its mass outside m's special classes in one dustbin. Written out, with a_i the sum of all that is given
to class i itself, d_m = p_m(dustbin), Q_m = sum of q outside m's classes and W the number of models, it is, up to a
constant, - sum a_i log q_i - sum d_m log Q_m, convex in q. Several generalists are W - |A| times their arithmetic mean.

Minimising each term's tangent bound gives the fixed point q_i <- (a_i + q_i sum over m, i outside m, of d_m / Q_m) / W,
an EM step, which descends always. At the optimum q_i s_i = a_i, where s_i = W - sum over m, i outside m, of u_m and
u_m Q_m = d_m. So classes that lie outside of the same active specialists share one s: they keep the proportions of
their a_i, and a row has not K unknowns but one for each such pattern, 2^A at most. All steps are steps of patterns.

The EM step is exact at once with one active specialist, and slow where a confident generalist meets specialists that
overlap: mass may have to grow from 1e-15. Tried for these and left: SQUAREM, linear and logarithmic, with and without a
line search, which after 40 cycles of 3 steps was off by 1e-2 and more on one random row in a thousand. `newton` takes
the primal-dual Newton step for q, s and u instead, its targets a_i held above a bound that falls tenfold a step, as
interior-point methods do: of 80,000 random rows, logits apart by 1 to 30, all were within 1e-4 after 16 steps, where
200 EM steps left some off by up to 0.5, and 500 of gradient descent by 0.7. It is in float64; its tensors are tiny.
None is transposed where it is multiplied next: onnxruntime before 1.26 makes one operator of both, for which it has no
kernel in float64, and refuses the graph.

Legend: B batch, K classes, A specialists that may be active at once, P = 2^A patterns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from trainer.errors import TrainerError

Method = Literal["plain", "newton"]

TOLERANCE = 1e-4
"""The largest error of a probability on validation with which a number of steps is enough."""
MOST: dict[Method, int] = {"plain": 4, "newton": 20}
"""How many steps are tried before the other method is, or none."""
MOST_ACTIVE = 10
LEAST = 1e-12


class Votes(NamedTuple):
    """What the models say of each row: `given` [B, K], `dustbin` [B, A], 0 where fewer are active, and `outside`
    [B, A, K], 1 where the class is not special to that specialist and it is active."""

    given_BK: Tensor
    dustbin_BA: Tensor
    outside_BAK: Tensor

    @property
    def models(self) -> Tensor:
        """W, [B, 1]: the number of models whose votes these are."""
        return self.given_BK.sum(dim=-1, keepdim=True) + self.dustbin_BA.sum(dim=-1, keepdim=True)


def objective(votes: Votes, q_BK: Tensor) -> Tensor:
    """What is minimised, [B], up to a constant of the row."""
    dustbins_BA = _dustbins(votes, q_BK).log()
    return -(votes.given_BK * q_BK.log()).sum(dim=-1) - (votes.dustbin_BA * dustbins_BA).sum(dim=-1)


def step(votes: Votes, q_BK: Tensor) -> Tensor:
    """The fixed point's step, from a distribution to the next one, both [B, K]."""
    u_BA = votes.dustbin_BA / _dustbins(votes, q_BK)
    back_BK = (u_BA.unsqueeze(-2) @ votes.outside_BAK).squeeze(-2)
    return (votes.given_BK + q_BK * back_BK) / votes.models


def _dustbins(votes: Votes, q_BK: Tensor) -> Tensor:
    """Q [B, A], and 1 where no specialist is."""
    outside_BA = (votes.outside_BAK @ q_BK.unsqueeze(-1)).squeeze(-1)
    return torch.where(votes.dustbin_BA > 0, outside_BA, 1.0)


def descend(votes: Votes, q_BK: Tensor, steps: int, rate: float) -> Tensor:
    """The paper's way, as a yardstick: so many steps of gradient descent on the logits of q.

    The gradient is W (q - step(q)), so it vanishes exactly where the fixed point is.
    """
    logits_BK = q_BK.log()
    for _ in range(steps):
        q_BK = logits_BK.softmax(dim=-1)
        logits_BK = logits_BK - rate * votes.models * (q_BK - step(votes, q_BK))
    return logits_BK.softmax(dim=-1)


def combine(votes: Votes, method: Method, steps: int) -> Tensor:
    """q after so many steps, [B, K], in the votes' precision and without control flow."""
    row = _Row(votes)
    if method == "plain":
        q_B1P = next(islice(_plain(row), steps - 1, None))
    else:
        q_B1P = row.best(list(islice(_newton(row), steps)))
    return row.expand(q_B1P).to(votes.given_BK.dtype)


class Steps(NamedTuple):
    """How a combination is worked out, and its largest error on the rows for which it was chosen."""

    method: Method
    steps: int
    largest_error: float


def choose_steps(batches: Iterable[Votes]) -> Steps:
    """The fewest steps with which no probability is off by more than TOLERANCE. Raises TrainerError beyond MOST."""
    errors: dict[tuple[Method, int], float] = {}
    for votes in batches:
        for way, error in _errors(votes).items():
            errors[way] = max(error, errors.get(way, 0.0))
    for (method, steps), error in errors.items():
        if error <= TOLERANCE:
            return Steps(method, steps, error)
    raise TrainerError(
        f"generalist and specialists cannot be combined: after {MOST['newton']} steps a probability is still off by "
        f"{error:.2g}, expected at most {TOLERANCE}"
    )


def _errors(votes: Votes) -> dict[tuple[Method, int], float]:
    """The largest error with each method and number of steps, the cheaper ones first."""
    row = _Row(votes)
    exact_BK = combine(votes, "newton", 3 * MOST["newton"])
    q: dict[tuple[Method, int], Tensor]
    q = {("plain", steps): found for steps, found in enumerate(islice(_plain(row), MOST["plain"]), start=1)}
    found = list(islice(_newton(row), MOST["newton"]))
    q |= {("newton", steps): row.best(found[:steps]) for steps in range(1, 1 + len(found))}
    return {way: float((row.expand(q_B1P) - exact_BK).abs().max()) for way, q_B1P in q.items()}


class _Row:
    """Every row by its patterns: pattern c holds the classes that lie outside of exactly the active specialists whose
    bits are set in c. `a` [B, 1, P], `d` [B, 1, A], `bits` [B, A, P].

    A pattern without classes has bits of 0, and a specialist that is not active a dustbin of its own, which holds 1:
    so neither touches the others, and no step has to tell them apart.
    """

    def __init__(self, votes: Votes) -> None:
        given_BK, dustbin_BA = votes.given_BK.double(), votes.dustbin_BA.double()
        active = dustbin_BA.shape[-1]
        powers_A = 2 ** torch.arange(active, device=given_BK.device)
        bits_AP = ((torch.arange(2**active, device=given_BK.device) // powers_A[:, None]) % 2).double()
        self.given = given_BK
        self.pattern_BK = (votes.outside_BAK * powers_A[:, None]).sum(dim=-2).long()
        empty_BP = (dustbin_BA[:, :1] * 0.0).expand(-1, 2**active)
        self.a = empty_BP.scatter_add(1, self.pattern_BK, given_BK).unsqueeze(1)
        self.held = (self.a > 0).double()
        self.bits = bits_AP * self.held
        self.columns = bits_AP.T * _as_column(self.held)
        self.own = (dustbin_BA <= 0).double().unsqueeze(1)
        self.d = dustbin_BA.unsqueeze(1) + self.own
        self.models = votes.models.double().unsqueeze(1)

    def expand(self, q_B1P: Tensor) -> Tensor:
        """[B, 1, P] -> [B, K]: within a pattern classes keep the proportions of what is given to them."""
        share_BP = (q_B1P / (self.a + (1.0 - self.held))).squeeze(1)
        q_BK = self.given * share_BP.gather(1, self.pattern_BK)
        return q_BK / q_BK.sum(dim=-1, keepdim=True)

    def dustbins(self, q: Tensor) -> Tensor:
        """Q, [..., B, 1, A]."""
        return q @ self.columns + self.own

    def step(self, q: Tensor) -> Tensor:
        """As `step` of the whole distribution, [..., B, 1, P]."""
        return (self.a + q * ((self.d / self.dustbins(q)) @ self.bits)) / self.models

    def objective(self, q: Tensor) -> Tensor:
        """As `objective` of the whole distribution, [..., B, 1, 1]."""
        logs = (q + (1.0 - self.held)).log()
        return -(self.a * logs).sum(dim=-1, keepdim=True) - (self.d * self.dustbins(q).log()).sum(dim=-1, keepdim=True)

    def best(self, found: list[Tensor]) -> Tensor:
        """Of several [B, 1, P], each made a distribution and moved by one step, the one with the lowest objective."""
        q_TB1P = torch.stack(found) * self.held
        q_TB1P = self.step(q_TB1P / q_TB1P.sum(dim=-1, keepdim=True))
        objective_TB11 = self.objective(q_TB1P)
        objective_TB11 = torch.where(objective_TB11.isnan(), torch.inf, objective_TB11)
        which_1B11 = objective_TB11.argmin(dim=0, keepdim=True)
        return q_TB1P.gather(0, which_1B11.expand(-1, -1, -1, q_TB1P.shape[-1])).squeeze(0)


def _plain(row: _Row) -> Iterator[Tensor]:
    q_B1P = row.a / row.a.sum(dim=-1, keepdim=True)
    while True:
        q_B1P = row.step(q_B1P)
        yield q_B1P


def _newton(row: _Row) -> Iterator[Tensor]:
    """The beginning of `_plain`, and then what Newton's steps for q s = target, u Q = d and s = W - u bits come to.

    (Q / u + bits (q / s) bits') du = d / u - Q - bits (target / s - q), dq = target / s - q + (q / s) bits' du and
    ds = -bits' du. q, s and u stay positive: no step goes beyond 0.99 of the way to 0.
    """
    bits, columns = row.bits, row.columns
    unit_AA = torch.eye(bits.shape[1], dtype=bits.dtype, device=bits.device)
    yield row.a / row.a.sum(dim=-1, keepdim=True)
    bound = 0.1
    u = row.d * (1.0 - 0.5 * (1.0 - row.own))
    s = row.models - u @ bits
    q = row.a.clamp(min=bound) / s
    while True:
        bound = max(0.1 * bound, LEAST)
        outside, ratio = row.dustbins(q), q / s
        lack = row.a.clamp(min=bound) / s - q
        du = _solve((bits * ratio) @ columns, outside / u, row.d / u - outside - lack @ columns, unit_AA)
        fall = du @ bits
        dq = lack + ratio * fall
        lowest = torch.cat([dq / q, -fall / s, du / u], dim=-1).amin(dim=-1, keepdim=True)
        length = -0.99 / lowest.clamp(max=-0.99)
        q, s, u = q + length * dq, s - length * fall, u + length * du
        yield q


def _solve(matrix_BAA: Tensor, diagonal_B1A: Tensor, right_B1A: Tensor, unit_AA: Tensor) -> Tensor:
    """x [B, 1, A] with (matrix + diagonal) x = right, by elimination, unrolled: it is symmetric and positive, and needs
    no pivots."""
    if len(unit_AA) == 1:
        return right_B1A / (matrix_BAA + diagonal_B1A)
    table = torch.cat([matrix_BAA + diagonal_B1A * unit_AA, _as_column(right_B1A)], dim=-1)
    for at in range(len(unit_AA)):
        row_B1A = table[:, at : at + 1]
        factors_BA1 = table[:, :, at : at + 1] * (1.0 - unit_AA[:, at : at + 1])
        table = table - factors_BA1 * (row_B1A / row_B1A[:, :, at : at + 1])
    found_BA1 = table[:, :, -1:] / (table[:, :, :-1] * unit_AA).sum(dim=-1, keepdim=True)
    return found_BA1.squeeze(-1).unsqueeze(1)


def _as_column(row_B1A: Tensor) -> Tensor:
    return row_B1A.squeeze(1).unsqueeze(-1)
