"""Specialists that keep all classes: how they begin, what they learn, and how they vote."""

import math

import numpy as np
import pytest
import torch
from scipy import special
from torch import nn

from tests.trainer.test_specialists import CLASSES, CPU, GROUPS, SPLIT, asked, workshop
from trainer.fit import Batch, Examples, plain
from trainer.full_softmax import Asking, Collapsed, LabelsAndSoftTargets
from trainer.networks import Stack
from trainer.specialists import (
    specialist_tasks,
)
from trainer.stages import examples


def test_a_full_softmax_begins_as_the_generalist_and_votes_with_its_odds(tmp_path):
    """Before any step every loss is that of the generalist itself; its dustbin has the mass of the rest."""
    given = asked(tmp_path, full=True)
    (task,) = specialist_tasks(workshop(tmp_path), given)
    stack = Stack(task.sizes, task.seeds, task.normalise)
    stack.load_state_dict(task.start)
    inputs = examples(SPLIT.validation, CPU).inputs
    whole = given.generalist(inputs)
    torch.testing.assert_close(stack(inputs.expand(2, -1, -1)), whole.expand(2, -1, -1))
    vote = Collapsed(stack.member(1), GROUPS[1], CLASSES)(inputs).softmax(dim=-1)
    torch.testing.assert_close(vote[:, 1:], whole.softmax(dim=-1)[:, [2, 3, 4]])
    torch.testing.assert_close(vote[:, 0], whole.softmax(dim=-1)[:, [0, 1, 5]].sum(dim=-1))


def test_a_full_softmax_learns_labels_of_its_classes_and_soft_targets_of_the_rest():
    """Worked in numpy: offset log 3, one special example of class 0 and one of class 2, for which p is (.5, .2, .3)."""
    logits = np.array([[1.0, 0.5, -1.0], [0.2, 0.1, 0.4]])
    log_p = np.log([[0.1, 0.1, 0.8], [0.5, 0.2, 0.3]])
    lower = np.array([0.0, math.log(3), math.log(3)])
    log_q = special.log_softmax(logits - lower, axis=1)
    targets = special.softmax(log_p[1] - lower)
    assert targets == pytest.approx([0.75, 0.1, 0.15])
    expected = (-log_q[0, 0] - (targets * log_q[1]).sum()) / 2
    loss = LabelsAndSoftTargets((math.log(3),), torch.tensor([[True, False, False]]))
    batch = Batch(torch.zeros(1, 2), torch.tensor([[0, 2]]), torch.from_numpy(log_p)[None])
    assert loss(torch.from_numpy(logits)[None], batch).tolist() == pytest.approx([expected])
    with pytest.raises(TypeError, match="a full softmax learns from soft targets; these examples have none"):
        loss(torch.zeros(1, 2, 3), batch._replace(log_teacher=None))


def test_the_generalist_is_asked_of_what_is_seen():
    """Of the view, not of the example behind it; no gradient reaches it."""
    network = nn.Sequential(nn.Linear(2, 3))
    train = Examples(torch.randn(4, 2), torch.arange(4) % 3)

    def doubled(data: Examples, indices: torch.Tensor, epoch: int, generators) -> Batch:
        return plain(data, indices, epoch, generators)._replace(inputs=2 * data.inputs[indices])

    indices = torch.tensor([[0, 1], [3, 2]])
    found = Asking(doubled, network)(train, indices, 0, []).log_teacher
    assert found is not None
    assert not found.requires_grad
    torch.testing.assert_close(found, network(2 * train.inputs[indices]).log_softmax(dim=-1).detach())
