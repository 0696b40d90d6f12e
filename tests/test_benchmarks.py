"""The benchmarks of training run, at a tiny scale; nothing is timed here."""

from __future__ import annotations

import pytest
import torch

from benchmarks import int8, textbook, textbrewer_loop, training


def test_every_row_of_the_training_benchmarks_is_measured_or_says_why_not():
    """A row has both times and their ratio, or the reason why it was skipped."""
    lines = training.measure(training.QUICK).splitlines()
    rows = [line for line in lines if line.startswith("| a")]
    assert len(rows) >= 7
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
    assert training.bare_step_s([8, 4, 10], 4, 2) > 0


def test_the_int8_benchmark_prints_a_row_for_every_batch(capsys):
    """Both times and their ratio with its interval."""
    int8.main(["--quick"])
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ") and "[" in line]
    assert [row.split("|")[1].strip() for row in rows] == ["1", "32", "64"]
