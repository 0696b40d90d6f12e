"""Generalists, their specialists and the combination of both as they are served: one module without control flow.

It knows networks and which classes are special to whom, not how the combination is worked out (combination.py) or how
specialists are trained (specialists.py).
Legend: G generalists, S specialists, B batch, K classes, A specialists that may be active at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from service.measures import FLOOR
from trainer.combination import MOST_ACTIVE, Method, Votes, combine
from trainer.ensemble import log_mean
from trainer.errors import TrainerError
from trainer.groups import Group


class Voting(nn.Module):
    """Which specialists are asked, and what they and the generalists say of each class.

    Active are the specialists of which one of the `top` most probable classes of the generalists is a special class.
    """

    special_KS: Tensor
    sources_CK: Tensor

    def __init__(self, groups: Sequence[Group], classes: int, top: int) -> None:
        super().__init__()
        _check(groups, classes, top)
        self.top = top
        special_KS = torch.zeros(classes, len(groups), dtype=torch.float64)
        nothing = sum(map(len, groups))
        sources: list[list[int]] = [[] for _ in range(classes)]
        columns = ((label, number) for number, group in enumerate(groups) for label in group)
        for column, (label, number) in enumerate(columns):
            special_KS[label, number] = 1.0
            sources[label].append(column)
        covered = max(map(len, sources))
        padded = [columns + [nothing] * (covered - len(columns)) for columns in sources]
        self.active = min(len(groups), sum(sorted(map(len, sources), reverse=True)[:top]))
        if self.active > MOST_ACTIVE:
            raise TrainerError(
                f"top_classes = {top} and these groups make up to {self.active} specialists active at once, expected "
                f"at most {MOST_ACTIVE}; choose fewer top_classes, or groups that share fewer classes"
            )
        self.register_buffer("special_KS", special_KS)
        self.register_buffer("sources_CK", torch.tensor(padded).T.contiguous())

    def forward(self, log_p_GBK: Tensor, specialists: Sequence[Tensor]) -> Votes:
        """Log-probabilities of the generalists [G, B, K] and of each specialist [B, 1 + its classes], whose first
        column is the dustbin, both in float64."""
        log_p_BK = log_mean(log_p_GBK, "arithmetic")
        chosen_BN = log_p_BK.topk(self.top, dim=-1).indices
        active_BS = self.special_KS[chosen_BN].amax(dim=1)
        p = [log_p.clamp(min=FLOOR).exp() for log_p in specialists]
        special = [p_BN[:, 1:] * active_BS[:, number, None] for number, p_BN in enumerate(p)]
        columns = torch.cat([*special, torch.zeros_like(active_BS[:, :1])], dim=-1)
        given_BK = len(log_p_GBK) * log_p_BK.exp()
        for sources_K in self.sources_CK:
            given_BK = given_BK + columns[:, sources_K]
        on_BA, who_BA = active_BS.topk(self.active, dim=-1)
        dustbin_BS = torch.stack([p_BN[:, 0] for p_BN in p], dim=-1)
        outside_BAK = (1.0 - self.special_KS.T)[who_BA] * on_BA.unsqueeze(-1)
        return Votes(given_BK, dustbin_BS.gather(1, who_BA) * on_BA, outside_BAK)


class Combined(nn.Module):
    """Networks [G] to logits [B, K] and networks [S] to logits [B, 1 + special classes], combined in so many steps.

    Its logits are log q, clamped as an ensemble's. Votes and combination are in float64: tiny probabilities decide
    where a generalist and specialists disagree.
    """

    def __init__(
        self,
        generalists: Sequence[nn.Module],
        specialists: Sequence[nn.Module],
        voting: Voting,
        method: Method,
        steps: int,
    ) -> None:
        super().__init__()
        self.generalists = nn.ModuleList(generalists)
        self.specialists = nn.ModuleList(specialists)
        self.voting = voting
        self.method: Method = method
        self.steps = steps

    def votes(self, input: Tensor) -> Votes:  # noqa: A002 - as below
        """What generalists and specialists say of raw inputs [B, ...]."""
        log_p_GBK = torch.stack([network(input).double().log_softmax(dim=-1) for network in self.generalists])
        return self.voting(log_p_GBK, [network(input).double().log_softmax(dim=-1) for network in self.specialists])

    def forward(self, input: Tensor) -> tuple[Tensor, Tensor]:  # noqa: A002 - the graph's input has this name
        """Raw [B, ...] -> probabilities and log-probabilities, both float32 [B, K]."""
        q_BK = combine(self.votes(input), self.method, self.steps)
        log_q_BK = q_BK.log().clamp(min=FLOOR).float()
        return log_q_BK.softmax(dim=-1), log_q_BK


@torch.no_grad()
def votes_on(combined: Combined, inputs: Tensor, batch_size: int = 2048) -> Iterator[Votes]:
    """The votes on many raw inputs [N, ...], batch by batch."""
    for batch in inputs.split(batch_size):
        yield combined.votes(batch)


def _check(groups: Sequence[Group], classes: int, top: int) -> None:
    if not groups:
        raise TrainerError("there are no specialists to combine, expected at least 1 group")
    if not 1 <= top <= classes:
        raise TrainerError(f"top_classes = {top}: expected 1 to {classes}, the number of classes")
    for number, group in enumerate(groups):
        if not group or len(set(group)) < len(group) or not set(group) <= set(range(classes)):
            raise TrainerError(f"group {number} is {list(group)}, expected different classes from 0 to {classes - 1}")
        if len(group) == classes:
            raise TrainerError(f"group {number} holds all {classes} classes and leaves none for its dustbin")
