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
interior-point methods do: every case tried is exact to 1e-6 within 14 steps. It is in float64; its tensors are tiny.

Legend: B batch, K classes, A specialists that may be active at once, P = 2^A patterns.
"""

from __future__ import annotations

from collections.abc import Iterator
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

    def double(self) -> Votes:
        """The same in float64."""
        return Votes(self.given_BK.double(), self.dustbin_BA.double(), self.outside_BAK.double())


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
    return next(islice(answers(votes, method), steps - 1, None))


def answers(votes: Votes, method: Method) -> Iterator[Tensor]:
    """q after 1, 2, 3 ... steps from q proportional to a; the objective never rises."""
    row = _Row(votes)
    for answer_BP in (_plain if method == "plain" else _newton)(row):
        yield row.expand(answer_BP).to(votes.given_BK.dtype)


class Steps(NamedTuple):
    """How a combination is worked out, and its largest error on the rows for which it was chosen."""

    method: Method
    steps: int
    largest_error: float


def choose_steps(votes: Votes) -> Steps:
    """The fewest steps with which no probability is off by more than TOLERANCE. Raises TrainerError beyond MOST."""
    exact_BK = combine(votes.double(), "newton", 3 * MOST["newton"])
    error = float("nan")
    method: Method
    for method in MOST:
        for steps, q_BK in enumerate(islice(answers(votes, method), MOST[method]), start=1):
            error = float((q_BK - exact_BK).abs().max())
            if error <= TOLERANCE:
                return Steps(method, steps, error)
    raise TrainerError(
        f"generalist and specialists cannot be combined: after {MOST['newton']} steps a probability is still off by "
        f"{error:.2g}, expected at most {TOLERANCE}"
    )


class _Row:
    """Every row by its patterns: pattern c holds the classes that lie outside of exactly the active specialists whose
    bits are set in c. `a` [B, P], `d` [B, A], `bits` [A, P]."""

    def __init__(self, votes: Votes) -> None:
        self.given = votes.given_BK.double()
        self.d = votes.dustbin_BA.double()
        active, self.patterns = self.d.shape[-1], 2 ** self.d.shape[-1]
        powers_A = 2 ** torch.arange(active, device=self.d.device)
        self.bits = ((torch.arange(self.patterns, device=self.d.device) // powers_A[:, None]) % 2).double()
        self.pattern_BK = (votes.outside_BAK * powers_A[:, None]).sum(dim=-2).long()
        nothing_BP = self.d.new_zeros(1, self.patterns) * self.d[:, :1]
        self.a = nothing_BP.scatter_add(1, self.pattern_BK, self.given)
        self.models = self.a.sum(dim=-1, keepdim=True) + self.d.sum(dim=-1, keepdim=True)
        self.held = (self.a > 0).double()  # a pattern of no class has no mass
        self.active = (self.d > 0).double()

    def expand(self, q_BP: Tensor) -> Tensor:
        """[B, P] -> [B, K]: within a pattern classes keep the proportions of what is given to them."""
        share_BP = q_BP / (self.a + (1.0 - self.held))
        q_BK = self.given * share_BP.gather(1, self.pattern_BK)
        return q_BK / q_BK.sum(dim=-1, keepdim=True)

    def step(self, q_BP: Tensor) -> Tensor:
        """As `step` of the whole distribution."""
        return (self.a + q_BP * ((self.d / self.dustbins(q_BP)) @ self.bits)) / self.models

    def objective(self, q_BP: Tensor) -> Tensor:
        """As `objective` of the whole distribution, [B, 1]."""
        logs_BP = (q_BP + (1.0 - self.held)).log()
        return -(self.a * logs_BP).sum(dim=-1, keepdim=True) - (self.d * self.dustbins(q_BP).log()).sum(
            dim=-1, keepdim=True
        )

    def dustbins(self, q_BP: Tensor) -> Tensor:
        """Q [B, A], and at least 1 where no specialist is."""
        return q_BP @ self.bits.T + (1.0 - self.active)


def _plain(row: _Row) -> Iterator[Tensor]:
    q_BP = row.a / row.a.sum(dim=-1, keepdim=True)
    while True:
        q_BP = row.step(q_BP)
        yield q_BP


def _newton(row: _Row) -> Iterator[Tensor]:
    """Newton's steps for q s = target, u Q = d with s = W - u bits; each answer is the best one so far.

    With t = target - q s and r = d - u Q: (Q / u + bits (q / s) bits') du = r / u - bits (t / s), dq = (t + q bits' du)
    / s. q, s and u stay positive: no step goes beyond 0.99 of the way to 0.
    """
    bits, active, held = row.bits, row.active, row.held
    size, idle = len(bits), 1.0 - active
    squares = (bits[:, None] * bits).reshape(size * size, -1).T
    both_BAA = active.unsqueeze(-1) * active.unsqueeze(-2)
    unit_AA = torch.eye(size, dtype=bits.dtype, device=bits.device)
    best = row.step(row.a / row.a.sum(dim=-1, keepdim=True))
    lowest = row.objective(best)
    bound = 0.1
    u = 0.5 * row.d
    s = row.models - u @ bits
    q = held * row.a.clamp(min=bound) / s
    while True:
        bound = max(0.1 * bound, LEAST)
        outside, safe_u = row.dustbins(q), u + idle
        rest_P = held * row.a.clamp(min=bound) - q * s
        rest_A = active * (row.d - u * outside)
        diagonal = (outside / safe_u).unsqueeze(-1) * unit_AA
        matrix = ((q / s) @ squares).view(-1, size, size) * both_BAA + diagonal
        du = _solve(matrix, active * (rest_A / safe_u - (rest_P / s) @ bits.T))
        ds = -(du @ bits)
        dq = (rest_P - q * ds) / s
        falls = [held * -dq / (q + 1.0 - held), held * -ds / s, -du / safe_u]
        length = 0.99 / torch.cat(falls, dim=-1).amax(dim=-1, keepdim=True).clamp(min=0.99)
        q, u = q + length * dq, u + length * du
        s = held * (s + length * ds) + (1.0 - held)
        answer = row.step(q / q.sum(dim=-1, keepdim=True))
        reached = row.objective(answer)
        best = torch.where(reached < lowest, answer, best)  # NaN is no better
        lowest = torch.minimum(lowest, torch.where(reached < lowest, reached, lowest))
        yield best


def _solve(matrix_BAA: Tensor, right_BA: Tensor) -> Tensor:
    """Gauss and Jordan's elimination, unrolled: the matrices are symmetric and positive, and need no pivots."""
    table = torch.cat([matrix_BAA, right_BA.unsqueeze(-1)], dim=-1)
    for at in range(matrix_BAA.shape[-1]):
        row = table[:, at : at + 1] / table[:, at : at + 1, at : at + 1]
        rest = table - table[:, :, at : at + 1] * row
        table = torch.cat([rest[:, :at], row, rest[:, at + 1 :]], dim=1)
    return table[..., -1]
