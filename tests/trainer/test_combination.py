"""The combination against L-BFGS on the logits, hand-worked cases and identities, agreeing or not."""

import math

import numpy as np
import pytest
import torch
from scipy import optimize, special
from torch import Tensor

from service.measures import FLOOR
from trainer.combination import MOST, Steps, Votes, choose_steps, combine, descend, objective, step
from trainer.combined import Voting
from trainer.errors import TrainerError
from trainer.groups import Group

DISJOINT = [(0, 1, 2), (3, 4), (5, 6, 7)]
SHARED = [(0, 1, 2, 3), (2, 3, 4, 5), (4, 5, 6, 7), (6, 7, 8, 0)]
CLASSES = 9


class Case:
    """Predictions of generalists [G, B, K] and specialists, float64 log p; their dustbin is column 0."""

    def __init__(self, groups: list[Group], top: int, batch: int, width: float, apart: float, seed: int, full: int = 1):
        random = np.random.default_rng(seed)
        self.groups, self.top = groups, top
        truth = random.normal(0.0, width, (batch, CLASSES))
        noisy = [truth + random.normal(0.0, apart, truth.shape) for _ in range(full + len(groups))]
        self.generalists = np.maximum([special.log_softmax(logits, axis=1) for logits in noisy[:full]], FLOOR)
        self.specialists = []
        for group, logits in zip(groups, noisy[full:], strict=True):
            rest = special.logsumexp(np.delete(logits, group, axis=1), axis=1, keepdims=True)
            log_p = special.log_softmax(np.concatenate([rest, logits[:, group]], axis=1), axis=1)
            self.specialists.append(np.maximum(log_p, FLOOR))

    def votes(self) -> Votes:
        voting = Voting(self.groups, CLASSES, self.top)
        return voting(torch.from_numpy(self.generalists), [torch.from_numpy(log_p) for log_p in self.specialists])

    def divergence(self, row: int, q: np.ndarray) -> float:
        """The objective as the paper writes it: a sum of KL divergences."""
        likely = np.argsort(np.exp(self.generalists[:, row]).mean(axis=0))[-self.top :]
        total = sum(special.rel_entr(np.exp(log_p[row]), q).sum() for log_p in self.generalists)
        for group, log_p in zip(self.groups, self.specialists, strict=True):
            if set(group) & set(likely.tolist()):
                mine = np.concatenate([[np.delete(q, group).sum()], q[list(group)]])
                total += special.rel_entr(np.exp(log_p[row]), mine).sum()
        return float(total)


def lbfgs(case: Case, row: int) -> np.ndarray:
    return lbfgs_of(Votes(*(tensor[row : row + 1] for tensor in case.votes())))


def lbfgs_of(votes: Votes) -> np.ndarray:
    """The minimum over the logits of one row, [K], found without our steps; the gradient is autograd's."""
    classes = votes.given_BK.shape[-1]

    def value(logits: np.ndarray) -> tuple[float, np.ndarray]:
        z = torch.from_numpy(logits[None]).requires_grad_()
        loss = objective(votes, z.softmax(dim=-1)).sum()
        (gradient,) = torch.autograd.grad(loss, z)
        return float(loss.detach()), gradient.numpy()[0]

    options = {"maxiter": 2000, "maxfun": 5000, "ftol": 1e-16, "gtol": 1e-12, "maxcor": 30}
    found = optimize.minimize(value, np.zeros(classes), jac=True, method="L-BFGS-B", options=options)
    return special.softmax(found.x)


def disagreeing() -> Votes:
    """A certain generalist, and overlapping specialists that answer "dustbin": mass must go where nobody puts any."""
    sure = torch.full((1, 1, CLASSES), FLOOR, dtype=torch.float64)
    sure[0, 0, 3] = 0.0
    dustbin = [torch.tensor([[0.0, *[FLOOR] * len(group)]], dtype=torch.float64) for group in SHARED]
    return Voting(SHARED, CLASSES, 1)(sure, dustbin)


CASES = [
    Case(DISJOINT, 1, 3, 3.0, 1.0, 0),
    Case(DISJOINT, 3, 3, 3.0, 3.0, 1),
    Case(SHARED, 1, 3, 2.0, 1.0, 2),
    Case(SHARED, 2, 3, 3.0, 2.0, 3),
    Case(SHARED, 4, 3, 4.0, 4.0, 4, full=3),
]


@pytest.mark.parametrize("case", CASES)
def test_it_is_what_lbfgs_finds(case):
    """To 1e-6, also with several generalists and where the models do not agree."""
    found = combine(case.votes(), "newton", 20).numpy()
    for row in range(len(found)):
        expected = lbfgs(case, row)
        assert case.divergence(row, found[row]) <= case.divergence(row, expected) + 1e-10
        np.testing.assert_allclose(found[row], expected, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_the_objective_is_the_papers_but_for_a_constant(case):
    """The sum of KL divergences, row by row, at two distributions."""
    votes, random = case.votes(), np.random.default_rng(0)
    q, other = random.dirichlet(np.ones(CLASSES), (2, len(votes.given_BK)))
    found = objective(votes, torch.from_numpy(q)) - objective(votes, torch.from_numpy(other))
    expected = [case.divergence(row, q[row]) - case.divergence(row, other[row]) for row in range(len(q))]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_the_gradient_by_the_logits_is_what_a_step_changes(case):
    """W (q - step(q)): so the fixed point is where the paper's gradient descent ends."""
    votes = case.votes()
    logits = torch.randn(votes.given_BK.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    logits.requires_grad_()
    q = logits.softmax(dim=-1)
    (gradient,) = torch.autograd.grad(objective(votes, q).sum(), logits)
    torch.testing.assert_close(gradient, votes.models * (q - step(votes, q)).detach())


@pytest.mark.parametrize("method", MOST)
@pytest.mark.parametrize("case", [*CASES, None])
def test_it_descends_at_every_step(case, method):
    """And stays a distribution."""
    votes = disagreeing() if case is None else case.votes()
    before = torch.full((len(votes.given_BK),), math.inf, dtype=torch.float64)
    for steps in range(1, 26):
        q = combine(votes, method, steps)
        torch.testing.assert_close(q.sum(dim=-1), torch.ones(len(q), dtype=torch.float64))
        after = objective(votes, q)
        assert (after <= before + 1e-12).all()
        before = after


@pytest.mark.parametrize("case", CASES)
def test_the_fixed_point_descends_from_the_generalists_answer(case):
    """Over all classes, as it is derived; 50 steps."""
    votes = case.votes()
    q = torch.from_numpy(np.exp(case.generalists).mean(axis=0))
    for _ in range(50):
        after = step(votes, q)
        assert (objective(votes, after) <= objective(votes, q) + 1e-12).all()
        q = after


def test_steps_of_patterns_are_steps_of_classes():
    """The same EM steps, from the same beginning."""
    votes = CASES[3].votes()
    q = votes.given_BK / votes.given_BK.sum(dim=-1, keepdim=True)
    for steps in range(1, 6):
        q = step(votes, q)
        torch.testing.assert_close(combine(votes, "plain", steps), q, atol=1e-14, rtol=1e-10)


def test_one_active_specialist_is_exact_in_one_step():
    """The most probable class of disjoint groups: one step from the generalist's answer is the optimum."""
    case = Case(DISJOINT, 1, 40, 5.0, 5.0, 0)
    votes = case.votes()
    exact = combine(votes, "newton", 40)
    torch.testing.assert_close(combine(votes, "plain", 1), exact, atol=1e-8, rtol=0)
    torch.testing.assert_close(step(votes, torch.from_numpy(np.exp(case.generalists[0]))), exact, atol=1e-8, rtol=0)
    assert choose_steps([votes])[:2] == ("plain", 1)


def test_worked_by_hand():
    """p_g = (.5, .3, .2) and a specialist of the first two that says (.6, .2) and .2 for its dustbin: the mean."""
    votes = Voting([(0, 1)], 3, 1)(
        torch.tensor([[[0.5, 0.3, 0.2]]], dtype=torch.float64).log(),
        [torch.tensor([[0.2, 0.6, 0.2]], dtype=torch.float64).log()],
    )
    torch.testing.assert_close(combine(votes, "plain", 1), torch.tensor([[0.55, 0.25, 0.2]], dtype=torch.float64))


def test_without_an_active_specialist_it_is_the_generalist():
    """Class 8 has no specialist among the disjoint groups."""
    log_p = torch.full((1, 1, CLASSES), math.log(0.02), dtype=torch.float64)
    log_p[0, 0, 8] = math.log(1 - 0.16)
    say = [torch.zeros(1, 1 + len(group), dtype=torch.float64).log_softmax(dim=-1) for group in DISJOINT]
    votes = Voting(DISJOINT, CLASSES, 1)(log_p, say)
    assert votes.dustbin_BA.tolist() == [[0.0]]
    for method in MOST:
        torch.testing.assert_close(combine(votes, method, 3), log_p[0].exp())


def test_specialists_that_repeat_the_generalist_change_nothing():
    """All KL divergences are 0 there."""
    case = Case(SHARED, 4, 8, 3.0, 0.0, 5)
    torch.testing.assert_close(combine(case.votes(), "newton", 15), torch.from_numpy(np.exp(case.generalists[0])))


@pytest.mark.parametrize("seed", range(4))
def test_fierce_disagreement_is_solved_in_a_few_steps(seed):
    """Logits apart by tens, overlapping groups: no probability is off by 1e-4 after 16 steps, nor moves the fixed
    point's step."""
    votes = Case(SHARED, 2, 300, 10.0, 10.0, seed).votes()
    exact = combine(votes, "newton", 60)
    assert float((combine(votes, "newton", 16) - exact).abs().max()) < 1e-4
    assert float((step(votes, exact) - exact).abs().max()) < 1e-5


def test_mass_goes_where_nobody_puts_any_but_nobody_forbids_it():
    """Generalist certain of class 3, both of its specialists of their dustbins: half stays, and the rest is shared by
    what lies outside of both, in the generalist's proportions."""
    votes = disagreeing()
    q = combine(votes, "newton", 20)[0]
    assert float(objective(votes, q[None])) <= float(objective(votes, combine(votes, "plain", 2000))) + 1e-9
    outside = [6, 7, 8]
    torch.testing.assert_close(q[outside], q[outside].mean().expand(3))
    assert float(q[3]) == pytest.approx(1 / 3, abs=1e-3)
    assert float(q[outside].sum()) == pytest.approx(2 / 3, abs=1e-3)


def test_gradient_descent_takes_hundreds_of_steps_where_newton_takes_ten():
    """The paper's way, with the best of several rates, on agreeable cases."""
    votes = CASES[2].votes()
    exact = combine(votes, "newton", 40)
    start = votes.given_BK / votes.given_BK.sum(dim=-1, keepdim=True)
    after = {rate: float((descend(votes, start, 300, rate) - exact).abs().max()) for rate in (0.1, 0.3, 1.0)}
    assert min(after.values()) > 1e-6
    assert float((combine(votes, "newton", 10) - exact).abs().max()) < 1e-6


def test_the_number_of_steps_is_the_smallest_that_will_do():
    """One less is off by more than the tolerance; the error that is told is the true one."""
    votes = CASES[3].votes()
    chosen = choose_steps([votes])
    exact = combine(votes, "newton", 60)
    assert chosen.method == "newton"
    assert 1e-4 >= chosen.largest_error == pytest.approx(error(votes, chosen, exact), abs=1e-9)
    assert error(votes, chosen._replace(steps=chosen.steps - 1), exact) > 1e-4


def test_the_hardest_batch_decides():
    """Over all batches together."""
    easy, hard = CASES[0].votes(), CASES[3].votes()
    assert choose_steps([easy]).method == "plain"
    assert choose_steps([easy, hard]) == choose_steps([hard, easy]) == choose_steps([hard])


def error(votes: Votes, chosen: Steps, exact: Tensor) -> float:
    return float((combine(votes, chosen.method, chosen.steps) - exact).abs().max())


def test_too_few_steps_are_told(monkeypatch):
    """With how far off they are."""
    votes = CASES[3].votes()
    monkeypatch.setattr("trainer.combination.TOLERANCE", -1.0)
    with pytest.raises(TrainerError, match=r"after 20 steps a probability is still off by .*, expected at most -1\.0"):
        choose_steps([votes])


@pytest.mark.parametrize(
    ("groups", "top", "told"),
    [
        ([], 1, "there are no specialists to combine, expected at least 1 group"),
        (DISJOINT, 0, "top_classes = 0: expected 1 to 9, the number of classes"),
        (DISJOINT, 10, "top_classes = 10: expected 1 to 9, the number of classes"),
        ([(0, 9)], 1, r"group 0 is \[0, 9\], expected different classes from 0 to 8"),
        ([(0, 1), (2, 2)], 1, r"group 1 is \[2, 2\], expected different classes from 0 to 8"),
        ([()], 1, r"group 0 is \[\], expected different classes"),
        ([tuple(range(9))], 1, "group 0 holds all 9 classes and leaves none for its dustbin"),
        (
            [(0, k) for k in range(1, 9)] * 2,
            1,
            "top_classes = 1 and these groups make up to 16 specialists active at once",
        ),
    ],
)
def test_groups_that_cannot_vote_are_told(groups, top, told):
    with pytest.raises(TrainerError, match=told):
        Voting(groups, CLASSES, top)
