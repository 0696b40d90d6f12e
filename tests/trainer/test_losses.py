"""The losses against float64 numpy, hand-worked cases and the identities of section 2."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import special

from trainer import losses
from trainer.fit import Batch
from trainer.losses import UNLABELLED, cross_entropy, soft_cross_entropy
from trainer.objectives import Distilling
from trainer.recipe import StudentTable

RANDOM = np.random.default_rng(7)
STUDENT = RANDOM.normal(0.0, 3.0, (2, 5, 10))
TEACHER = special.log_softmax(RANDOM.normal(0.0, 3.0, (2, 5, 10)), axis=-1)
LABELS = RANDOM.integers(0, 10, (2, 5))
TEMPERATURES = (0.5, 1.0, 2.0, 4.0, 20.0)
WEIGHTS = (0.0, 0.1, 0.5, 1.0)


def distillation(logits, labels, log_teacher, **settings) -> torch.Tensor:
    """The loss that a recipe with these settings asks for."""
    return Distilling(StudentTable(**settings))(logits, Batch(logits, labels, log_teacher))


def numpy_distillation(temperature: float, weight: float) -> NDArray[np.float64]:
    """The formula of section 2 once more, [M], by loops over members and examples."""
    losses = []
    for logits_BK, log_teacher_BK, labels_B in zip(STUDENT, TEACHER, LABELS, strict=True):
        examples = []
        for z, log_p, label in zip(logits_BK, log_teacher_BK, labels_B, strict=True):
            softened = np.exp(log_p) ** (1 / temperature)
            softened /= softened.sum()
            soft = -np.sum(softened * special.log_softmax(z / temperature))
            hard = -special.log_softmax(z)[label]
            examples.append((1 - weight) * temperature**2 * soft + weight * hard)
        losses.append(np.mean(examples))
    return np.array(losses)


def soft_gradient(student: NDArray, teacher: NDArray, temperature: float) -> NDArray[np.float64]:
    """The gradient of the soft loss with respect to the logits [K] of one example."""
    logits = torch.tensor(student, dtype=torch.float64).view(1, 1, -1).requires_grad_()
    soft_cross_entropy(logits, torch.tensor(teacher).view(1, 1, -1), temperature).sum().backward()
    assert logits.grad is not None
    return logits.grad.numpy().ravel()


def small_zero_mean(seed: int, classes: int = 10) -> NDArray[np.float64]:
    values = np.random.default_rng(seed).normal(0.0, 0.1, classes)
    return np.asarray(values - values.mean())


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_distillation_equals_the_formula_in_numpy(temperature, weight):
    """T^2 is there with and without hard labels, and the mean is over the batch."""
    loss = distillation(
        torch.tensor(STUDENT),
        torch.tensor(LABELS),
        torch.tensor(TEACHER),
        temperature=temperature,
        hard_weight=weight,
    )
    np.testing.assert_allclose(loss.numpy(), numpy_distillation(temperature, weight), rtol=1e-12)


def test_two_classes_worked_by_hand():
    """z = (2, 0), teacher (1/2, 1/2), T = 2: q = sigmoid(1), so 4 (log(1 + 1/e) + log(1 + e)) / 2; label 0 at T = 1."""
    logits = torch.tensor([[[2.0, 0.0]]], dtype=torch.float64, requires_grad=True)
    log_teacher = torch.log(torch.tensor([[[0.5, 0.5]]], dtype=torch.float64))
    label = torch.tensor([[0]])
    soft = distillation(logits, label, log_teacher, temperature=2.0, hard_weight=0.0)
    assert soft.item() == pytest.approx(3.2530467502, abs=1e-9)
    mixed = distillation(logits, label, log_teacher, temperature=2.0, hard_weight=0.25)
    assert mixed.item() == pytest.approx(0.75 * 3.2530467502 + 0.25 * 0.1269280110, abs=1e-9)
    (gradient,) = torch.autograd.grad(soft.sum(), logits)
    assert gradient.flatten().tolist() == pytest.approx([0.4621171573, -0.4621171573], abs=1e-9)  # T (q - p)


@pytest.mark.parametrize("temperature", [2.0, 5.0, 20.0, 100.0])
def test_gradient_hardly_moves_with_the_temperature(temperature):
    """With small zero-mean logits T^2 keeps the gradient's size within a few percent of that at T = 1."""
    student, teacher = small_zero_mean(0), small_zero_mean(1)
    reference = np.linalg.norm(soft_gradient(student, teacher, 1.0))
    assert np.linalg.norm(soft_gradient(student, teacher, temperature)) == pytest.approx(reference, rel=0.1)


def test_high_temperature_matches_logits():
    """As T grows the gradient tends to (z - v) / K, for zero-mean logits of any size."""
    student, teacher = 30 * small_zero_mean(0), 30 * small_zero_mean(1)
    gradient = soft_gradient(student, special.log_softmax(teacher), 1e4)
    np.testing.assert_allclose(gradient, (student - teacher) / 10, atol=1e-3)


def test_gradient_at_the_teachers_own_logits_is_zero():
    """A student that equals its teacher has nothing to learn from it, at any temperature."""
    for temperature in TEMPERATURES:
        assert np.abs(soft_gradient(TEACHER[0, 0], TEACHER[0, 0], temperature)).max() < 1e-14


@pytest.mark.parametrize("classes", [10, 1000])
def test_loss_is_not_divided_by_the_classes(classes):
    """An undecided student pays log K against a certain teacher, whatever K is."""
    teacher = torch.full((1, 3, classes), -100.0, dtype=torch.float64)
    teacher[..., 0] = 0.0
    loss = soft_cross_entropy(torch.zeros(1, 3, classes, dtype=torch.float64), teacher, 1.0)
    assert loss.item() == pytest.approx(math.log(classes), rel=1e-12)


@pytest.mark.parametrize("weight", WEIGHTS)
def test_a_batch_twice_over_has_the_same_loss(weight):
    """The mean is over the batch."""

    def loss(repeat: int) -> torch.Tensor:
        logits, teacher = torch.tensor(STUDENT).repeat(1, repeat, 1), torch.tensor(TEACHER).repeat(1, repeat, 1)
        labels = torch.tensor(LABELS).repeat(1, repeat)
        return distillation(logits, labels, teacher, temperature=4.0, hard_weight=weight)

    torch.testing.assert_close(loss(2), loss(1), rtol=1e-13, atol=0)


def test_no_gradient_reaches_the_teacher():
    """Soft targets are constants, even where a live teacher made them."""
    teacher = torch.tensor(TEACHER, requires_grad=True)
    student = torch.tensor(STUDENT, requires_grad=True)
    distillation(student, torch.tensor(LABELS), teacher, temperature=4.0, hard_weight=0.1).sum().backward()
    assert teacher.grad is None
    assert student.grad is not None


def test_hard_weight_1_is_cross_entropy():
    """All the weight on the labels is ordinary training, at temperature 1, whatever T says."""
    logits, labels = torch.tensor(STUDENT), torch.tensor(LABELS)
    loss = distillation(logits, labels, torch.tensor(TEACHER), temperature=20.0, hard_weight=1.0)
    torch.testing.assert_close(loss, cross_entropy(logits, labels), rtol=1e-13, atol=0)


def test_hard_weight_0_needs_no_labels():
    """All the weight on the teacher: other labels, same loss."""
    arguments = torch.tensor(STUDENT), torch.tensor(LABELS), torch.tensor(TEACHER)
    other = arguments[0], (arguments[1] + 1) % 10, arguments[2]
    first, second = (distillation(*given, temperature=3.0, hard_weight=0.0) for given in (arguments, other))
    assert first.tolist() == second.tolist()


def test_cross_entropy_equals_pytorchs():
    """-log softmax(z)[label] is what PyTorch calls cross_entropy."""
    expected = [
        torch.nn.functional.cross_entropy(torch.tensor(z), torch.tensor(y)).item()
        for z, y in zip(STUDENT, LABELS, strict=True)
    ]
    assert cross_entropy(torch.tensor(STUDENT), torch.tensor(LABELS)).tolist() == pytest.approx(expected, rel=1e-13)


def test_losses_of_members_do_not_mix():
    """One value per member, and no gradient from one member's loss to another's logits."""
    logits = torch.tensor(STUDENT, requires_grad=True)
    losses = distillation(logits, torch.tensor(LABELS), torch.tensor(TEACHER), temperature=4.0, hard_weight=0.1)
    assert losses.shape == (2,)
    (gradient,) = torch.autograd.grad(losses[0], logits)
    assert gradient[0].abs().max() > 0
    assert gradient[1].abs().max() == 0


def test_logits_of_a_thousand_stay_finite():
    """float32 neither overflows nor gives NaN where teacher and student are certain of different classes."""
    student = torch.tensor([[[1000.0, -1000.0]]], requires_grad=True)
    teacher = torch.tensor([[[-1000.0, 0.0]]])
    loss = distillation(student, torch.tensor([[1]]), teacher, temperature=1.0, hard_weight=0.5)
    loss.sum().backward()
    assert loss.item() == pytest.approx(2000.0)
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize("weight", [0.0, 0.5, 2.0])
def test_the_papers_reading_of_the_hard_weight_is_relative(weight):
    """A soft weight of 1, whatever the labels weigh."""
    given = torch.tensor(STUDENT), torch.tensor(LABELS), torch.tensor(TEACHER)
    loss = distillation(*given, temperature=4.0, hard_weight=weight, weighting="relative")
    expected = numpy_distillation(4.0, 0.0) + weight * numpy_distillation(1.0, 1.0)
    np.testing.assert_allclose(loss.numpy(), expected, rtol=1e-12)


def test_logit_matching_worked_by_hand():
    """z = (3, 1), v = (0, 4): zero-meaned (1, -1) and (-2, 2), so (9 + 9) / (2 x 2)."""
    student = torch.tensor([[[3.0, 1.0]]], dtype=torch.float64, requires_grad=True)
    loss = losses.logit_matching(student, torch.tensor([[[0.0, 4.0]]], dtype=torch.float64))
    assert loss.item() == 4.5
    (gradient,) = torch.autograd.grad(loss.sum(), student)
    assert gradient.flatten().tolist() == [1.5, -1.5]


def test_the_limit_of_high_temperatures_is_logit_matching():
    """T -> infinity: the soft term's gradient is that of logit matching, whatever the means of the logits."""
    teacher = special.log_softmax(TEACHER[0, 0])
    student = torch.tensor(STUDENT[:1, :1] + 5.0, requires_grad=True)
    (gradient,) = torch.autograd.grad(
        losses.logit_matching(student, torch.tensor(teacher).view(1, 1, -1)).sum(), student
    )
    np.testing.assert_allclose(soft_gradient(STUDENT[0, 0], teacher, 1e5), gradient.numpy().ravel(), atol=1e-4)


def test_logit_matching_is_no_mean_squared_error_of_probabilities():
    """Two certain distributions that agree in their first class still differ in their logits."""
    teacher = torch.tensor([[[0.0, -20.0, -40.0]]], dtype=torch.float64)
    student = torch.tensor([[[0.0, -40.0, -20.0]]], dtype=torch.float64)
    assert losses.logit_matching(student, teacher).item() == pytest.approx(2 * 20.0**2 / 6)


def numpy_decoupled(temperature: float, target_weight: float, other_weight: float) -> NDArray[np.float64]:
    """Decoupled distillation once more, [M], by loops: KL of the two-way and of the other classes' distributions."""
    found = []
    for logits_BK, log_teacher_BK, labels_B in zip(STUDENT, TEACHER, LABELS, strict=True):
        examples = []
        for z, log_p, label in zip(logits_BK, log_teacher_BK, labels_B, strict=True):
            p, q = special.softmax(log_p / temperature), special.softmax(z / temperature)
            target = special.rel_entr([p[label], 1 - p[label]], [q[label], 1 - q[label]]).sum()
            p_other, q_other = (np.delete(x, label) / (1 - x[label]) for x in (p, q))
            other = special.rel_entr(p_other, q_other).sum()
            examples.append(temperature**2 * (target_weight * target + other_weight * other))
        found.append(np.mean(examples))
    return np.array(found)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_decoupled_distillation_equals_the_formula_in_numpy(temperature):
    """With T^2, without labels' own term."""
    given = torch.tensor(STUDENT), torch.tensor(LABELS), torch.tensor(TEACHER)
    settings = {"loss": "decoupled", "hard_weight": 0.0, "target_weight": 1.5, "other_weight": 8.0}
    loss = distillation(*given, temperature=temperature, **settings)
    np.testing.assert_allclose(loss.numpy(), numpy_decoupled(temperature, 1.5, 8.0), rtol=1e-9)


def test_decoupled_terms_add_up_to_the_divergence():
    """KL(p, q) = KL(target) + (1 - p[label]) KL(other): the identity that gives the method its name."""
    logits, log_p = torch.tensor(STUDENT[:1, :1]), torch.tensor(TEACHER[:1, :1])
    label = torch.tensor(LABELS[:1, :1])
    rest = 1.0 - log_p.exp()[0, 0, label.item()].item()
    loss = losses.decoupled(logits, label, log_p, temperature=1.0, target_weight=1.0, other_weight=rest)
    divergence = special.rel_entr(np.exp(TEACHER[0, 0]), special.softmax(STUDENT[0, 0])).sum()
    assert loss.item() == pytest.approx(divergence, rel=1e-12)


def test_decoupled_distillation_stays_finite_where_both_are_certain():
    """Neither the loss nor its gradient is NaN where every other class has no mass to speak of."""
    student = torch.tensor([[[1000.0, -1000.0, 0.0]]], requires_grad=True)
    teacher = torch.tensor([[[0.0, -69.0, -69.0]]])
    loss = losses.decoupled(student, torch.tensor([[0]]), teacher, temperature=1.0, target_weight=1.0, other_weight=8.0)
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(student.grad).all()


def test_standardised_logits_ignore_the_teachers_scale_and_shift():
    """Only the shape of the logits is matched: a teacher with a z + b teaches what one with z teaches."""
    student, labels, teacher = torch.tensor(STUDENT), torch.tensor(LABELS), torch.tensor(TEACHER)
    settings = {"temperature": 2.0, "hard_weight": 0.0, "standardise": True}
    scaled = distillation(student, labels, 3.0 * teacher + 7.0, **settings)
    torch.testing.assert_close(scaled, distillation(student, labels, teacher, **settings), rtol=1e-12, atol=0)
    rows = losses.standardise(student).numpy()
    np.testing.assert_allclose(rows.mean(axis=-1), 0.0, atol=1e-14)
    np.testing.assert_allclose(rows.std(axis=-1), 1.0, rtol=1e-12)


def test_equal_logits_standardise_to_zero():
    """A network that says nothing yet gives neither NaN nor a gradient that is one."""
    logits = torch.zeros(1, 1, 4, requires_grad=True)
    losses.standardise(logits).sum().backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("loss", ["soft", "logits", "decoupled"])
def test_unlabelled_examples_have_their_soft_term_alone(loss):
    """A batch of labelled and unlabelled examples is the mean over both, and only the labelled ones pay for labels."""
    student, teacher = torch.tensor(STUDENT[:1]), torch.tensor(TEACHER[:1])
    labels = torch.tensor(LABELS[:1])
    mixed = labels.clone()
    mixed[0, 3:] = UNLABELLED
    found = distillation(student, mixed, teacher, loss=loss, temperature=2.0, hard_weight=0.5)
    soft = distillation(student, mixed, teacher, loss=loss, temperature=2.0, hard_weight=0.0)
    hard = 3 / 5 * cross_entropy(student[:, :3], labels[:, :3])
    torch.testing.assert_close(found, 0.5 * soft + 0.5 * hard, rtol=1e-12, atol=0)


def test_an_unlabelled_examples_target_is_the_teachers_answer():
    """Decoupling needs one class to set apart."""
    student, teacher = torch.tensor(STUDENT), torch.tensor(TEACHER)
    unlabelled = torch.full_like(torch.tensor(LABELS), UNLABELLED)
    settings = {"loss": "decoupled", "temperature": 2.0, "hard_weight": 0.0}
    expected = distillation(student, teacher.argmax(dim=-1), teacher, **settings)
    torch.testing.assert_close(distillation(student, unlabelled, teacher, **settings), expected, rtol=0, atol=0)


@pytest.mark.parametrize("settings", [{"loss": "logits"}, {"loss": "decoupled"}, {"standardise": True}])
def test_no_other_soft_term_reaches_the_teacher_or_mixes_members(settings):
    """Each is a constant target and one value per member."""
    teacher = torch.tensor(TEACHER, requires_grad=True)
    student = torch.tensor(STUDENT, requires_grad=True)
    found = distillation(student, torch.tensor(LABELS), teacher, temperature=4.0, hard_weight=0.1, **settings)
    (gradient,) = torch.autograd.grad(found[0], student, retain_graph=True)
    assert gradient[1].abs().max() == 0
    found.sum().backward()
    assert teacher.grad is None
