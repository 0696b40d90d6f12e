"""Soft targets on disk: answered once, found again, and never taken for somebody else's."""

import re

import pytest
import torch
from torch import Tensor

from trainer.errors import RunError
from trainer.targets import stored_targets

FACTS = {"teacher": "a" * 64, "inputs": "b" * 64, "views": [0, 2, True, 0.0], "view": 1}
LOG_P = torch.randn(7, 3, generator=torch.Generator().manual_seed(0)).log_softmax(dim=-1)


class Answers:
    """A teacher that remembers what it was asked, and fails at the example that it is told to."""

    def __init__(self, fails_at: int = 99) -> None:
        self.asked: list[range] = []
        self.fails_at = fails_at

    def __call__(self, rows: range) -> Tensor:
        if self.fails_at in rows:
            raise KeyboardInterrupt
        self.asked.append(rows)
        return LOG_P[rows.start : rows.stop]


def test_targets_come_back_as_they_were(tmp_path):
    """float32 [N, K], bit for bit, in the order of the examples, from shards of three; the teacher is asked once."""
    answers = Answers()
    for _ in range(2):
        assert torch.equal(stored_targets(tmp_path, FACTS, 7, answers, shard=3), LOG_P)
    assert answers.asked == [range(0, 3), range(3, 6), range(6, 7)]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{row:010d}.safetensors" for row in (0, 3, 6)]


def test_an_interrupted_teacher_goes_on_where_it_was(tmp_path):
    """What was answered before is not asked again."""
    with pytest.raises(KeyboardInterrupt):
        stored_targets(tmp_path, FACTS, 7, Answers(fails_at=4), shard=3)
    answers = Answers()
    assert torch.equal(stored_targets(tmp_path, FACTS, 7, answers, shard=3), LOG_P)
    assert answers.asked == [range(3, 6), range(6, 7)]


@pytest.mark.parametrize(
    ("what", "other", "told"),
    [
        ("teacher", "c" * 64, "teacher aaaaaaaaaaaa…, expected cccccccccccc…"),
        ("inputs", "c" * 64, "inputs bbbbbbbbbbbb…, expected cccccccccccc…"),
        ("views", [0, 1, True, 0.0], "views [0, 2, True, 0.0], expected [0, 1, True, 0.0]"),
        ("view", 2, "view 1, expected 2"),
    ],
)
def test_targets_of_others_are_refused(tmp_path, what, other, told):
    """Another teacher's, over other inputs, or of other views."""
    stored_targets(tmp_path, FACTS, 7, Answers())
    with pytest.raises(
        RunError, match=re.escape(f"the soft targets were made with {told}; run again without --resume")
    ):
        stored_targets(tmp_path, {**FACTS, what: other}, 7, Answers())


def test_targets_of_fewer_examples_are_refused(tmp_path):
    """A shard says how many rows it holds."""
    stored_targets(tmp_path, FACTS, 6, Answers())
    with pytest.raises(RunError, match="made with rows 6, expected 7"):
        stored_targets(tmp_path, FACTS, 7, Answers())
