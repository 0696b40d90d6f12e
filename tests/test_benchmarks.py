"""The benchmarks of training, int8 and specialists run, at a tiny scale; nothing is timed here."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch

from benchmarks import int8, products, textbook, textbrewer_loop, training
from benchmarks.specialists import __main__ as specialists
from benchmarks.specialists import answers, combining
from benchmarks.specialists.data import emnist_shaped
from benchmarks.specialists.descent import Setting, descent, steps_needed
from benchmarks.specialists.mixture import Mixture
from trainer import stages
from trainer.combination import Votes, combine, descend
from trainer.fit import Batch, fit, score
from trainer.modules import Module
from trainer.networks import normalise_for
from trainer.objectives import hard
from trainer.recipe import Training

OF_TEXTBREWER = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::SyntaxWarning")
"""Where it is installed, its code warns when it is compiled."""


@OF_TEXTBREWER
def test_every_row_of_the_training_benchmarks_is_measured_or_says_why_not():
    """A row has both times and their ratio, or the reason why it was skipped."""
    lines = training.measure(training.QUICK).splitlines()
    rows = [line for line in lines if line.startswith(("| a", "| bare"))]
    assert len(rows) >= 10
    for row in rows:
        ratio = row.split("|")[4]
        assert "[" in ratio or ratio.strip() in {"no GPU", "textbrewer is not installed"}


def test_the_textbook_loop_teaches():
    """After a few epochs the student answers more like its teacher."""
    torch.manual_seed(0)
    images = torch.randn(256, 1, 4, 4)
    teacher, student = textbook.network([16, 8, 4]), textbook.network([16, 8, 4])
    labels = teacher(images).argmax(dim=-1)
    batches = textbook.loader(images, labels, 32)
    losses = [textbook.epoch(student, [teacher], batches) for _ in range(5)]
    assert losses[-1] < losses[0]


def test_the_targets_of_several_teachers_are_the_mean_of_their_softened_distributions():
    """Rows of the mean add up to 1, and equal teachers have the targets of one."""
    images = torch.rand(3, 1, 4, 4)
    teacher = textbook.network([16, 8, 4])
    one, many = textbook.soft_targets([teacher], images), textbook.soft_targets([teacher] * 3, images)
    torch.testing.assert_close(one, many)
    torch.testing.assert_close(many.sum(dim=-1), torch.ones(3))


@OF_TEXTBREWER
def test_textbrewer_trains_the_same_student():
    """Where it is installed, its epoch changes the student's weights."""
    pytest.importorskip("textbrewer", exc_type=ImportError)
    student = textbook.network([16, 8, 4])
    before = student[1].weight.detach().clone()
    batches = textbook.loader(torch.rand(64, 1, 4, 4), torch.randint(4, (64,)), 32)
    for count in (1, 2):
        textbrewer_loop.epoch(student, [textbook.network([16, 8, 4]) for _ in range(count)], batches)
    assert not torch.equal(before, student[1].weight)


def test_the_bare_step_and_ours_are_measured_on_the_same_sizes():
    """Both give seconds."""
    assert training.step_s([8, 4, 10], 2, 4, 2) > 0
    assert products.step_s([8, 4, 10], 4, 2, members=2) > 0
    assert products.answers_s([8, 4, 10], 4, 2) > 0


def test_the_int8_benchmark_prints_a_row_for_every_batch(capsys):
    """Both times and their ratio with its interval."""
    int8.main(["--quick"])
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ") and "[" in line]
    assert [row.split("|")[1].strip() for row in rows] == ["1", "32", "64"]


def test_a_mixture_of_experts_is_the_gates_mean_of_their_distributions():
    """p = sum of g_s p_s, and the training loop's loss of it is -log p of the label."""
    torch.manual_seed(0)
    made, inputs, labels = Mixture([5, 4, 3], 2), torch.rand(6, 5), torch.tensor([0, 1, 2, 0, 1, 2])
    gate = made.gate(inputs).softmax(dim=-1)
    p = sum(gate[:, s, None] * expert(inputs).softmax(dim=-1) for s, expert in enumerate(made.experts))
    torch.testing.assert_close(made(inputs).exp(), p)
    loss = hard(made(inputs)[None], Batch(inputs[None], labels[None], None))
    torch.testing.assert_close(loss, -p[torch.arange(6), labels].log().mean()[None])


def test_ten_of_the_drawn_classes_hold_half_of_the_examples():
    """In every part, and the other 52 have equal shares of the rest; of few classes all are equally frequent."""
    split = emnist_shaped(62, 10_400, 1_040, 1_040)
    for part, others in ((split.train, 100), (split.validation, 10), (split.test, 10)):
        assert np.bincount(part.labels).tolist() == [others * 52 // 10] * 10 + [others] * 52
    assert np.bincount(emnist_shaped(4, 80, 4, 4).train.labels).tolist() == [20] * 4


def test_the_training_loop_teaches_a_mixture(tmp_path):
    """Validation errors fall: experts and gate learn in the one loop, as one network."""
    split = emnist_shaped(4, 400, 80, 4)
    train, validation = (stages.examples(part, torch.device("cpu")) for part in (split.train, split.validation))
    torch.manual_seed(0)
    made = Module(Mixture([784, 8, 4], 3), normalise_for(split.train.inputs, None))
    before = int(score(made, validation)[0])
    settings = Training(hidden=(8,), epochs=3, batch_size=20)
    choice = fit(made, train, validation, hard, settings, [0], tmp_path / "checkpoint", lambda _: None)
    assert choice.errors[0] < before / 2


@pytest.mark.parametrize("apart", [1.0, 10.0])
def test_gradient_descent_ends_where_the_combination_does(apart):
    """With the best setting, on images that it gets there; without momentum it is the trainer's own yardstick."""
    groups = [(0, 1, 2, 3), (2, 3, 4, 5), (4, 5, 6, 7)]
    case = answers.drawn(groups, 9, 12, apart, 0)
    solved = combining.solve(case, 9, 2, 500)
    votes = solved.combined.votes(case.answers_NT)
    exact = combine(votes, "newton", combining.REFERENCE)
    there = solved.needed_N <= 500
    assert int(there.sum()) >= 6
    found = next(islice(descent(votes, solved.setting), 5_000, None))
    torch.testing.assert_close(found[there], exact[there], atol=1e-4, rtol=0)
    assert solved.residual < 1e-6
    assert solved.error <= 1e-4
    plain = next(islice(descent(votes, Setting(1.0, 0.0)), 29, None))
    start = votes.given_BK / votes.given_BK.sum(dim=-1, keepdim=True)
    own = [Votes(*(tensor[row : row + 1] for tensor in votes)) for row in range(12)]
    rows = [descend(each, start[row : row + 1], 30, 1.0 / float(each.models)) for row, each in enumerate(own)]
    torch.testing.assert_close(plain, torch.cat(rows))


def test_images_are_counted_until_their_first_step_within_the_tolerance():
    """One step less is off by more; who is not there at the bound is counted as one above it."""
    case = answers.drawn([(0, 1, 2), (2, 3, 4)], 6, 8, 1.0, 0)
    votes = answers.combination_of(case, 6, 1).votes(case.answers_NT)
    exact = combine(votes, "newton", combining.REFERENCE)
    setting = Setting(2.0, 0.0)
    needed = steps_needed(votes, exact, setting, 200)
    errors = torch.stack([(q - exact).abs().amax(dim=-1) for q in islice(descent(votes, setting), 200)])
    for image, number in enumerate(needed.tolist()):
        assert (errors[: number - 1, image] > 1e-4).all()
        assert number == 201 or errors[number - 1, image] <= 1e-4
    assert 0 < int((needed == 201).sum()) < len(needed)


def test_the_benchmark_of_specialists_prints_both_comparisons(capsys):
    """Four trainings with their ratios; how far either combination gets, and its time in both runtimes. What is given
    beside --quick counts."""
    specialists.main(["--quick", "--images", "20"])
    lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| ")]
    trainings, solved, timed = rows[2:6], rows[8:9], rows[11:]
    assert [row[0].split()[0] for row in trainings] == ["the", "all", "the", "a"]
    assert all("[" in row[2] for row in trainings)
    assert [row[0] for row in solved] == ["of trained networks"]
    assert [row[6].partition(" of ")[2] for row in solved] == ["20"]
    asked = [[name, batch] for name in ("onnxruntime", "PyTorch") for batch in ("1", "64")]
    assert [row[1:3] for row in timed] == asked
    assert all("[" in row[-1] for row in timed)
