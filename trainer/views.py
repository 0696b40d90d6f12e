"""Views: what an input may be turned into while its label, or its teacher's answer, stays true.

It knows images, and which view of an example is which, not training.
Legend: M members, B batch, N examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.distort import distorted, draw_distortions
from trainer.fit import Batch, Examples, Mixture


@dataclass(frozen=True)
class Jittered:
    """Members see their images moved by up to `pixels`, anew in every epoch."""

    pixels: int
    background: float

    def __call__(
        self, train: Examples, indices_MB: Tensor, _epoch: int, generators: Sequence[torch.Generator]
    ) -> Batch:
        """A View."""
        inputs = jitter(train.inputs[indices_MB], generators, pixels=self.pixels, background=self.background)
        return Batch(inputs, train.labels[indices_MB], None)


@dataclass(frozen=True)
class Distorting:
    """Members see their images turned, scaled, slanted, moved and bent, anew in every epoch."""

    background: float

    def __call__(
        self, train: Examples, indices_MB: Tensor, _epoch: int, generators: Sequence[torch.Generator]
    ) -> Batch:
        """A View."""
        shape = train.inputs.shape[1], train.inputs.shape[2]
        drawn = torch.cat([draw_distortions(indices_MB.shape[1], shape, generator) for generator in generators])
        seen = distorted(train.inputs[indices_MB].flatten(0, 1), drawn, self.background)
        return Batch(seen.view(*indices_MB.shape, *shape), train.labels[indices_MB], None)


def jitter(images_MBHW: Tensor, generators: Sequence[torch.Generator], *, pixels: int, background: float) -> Tensor:
    """Moves every image by up to `pixels` in each direction, uniformly; what comes in is `background`. Same shape.

    Each member's shifts come from its own generator.
    """
    batch = images_MBHW.shape[1]
    span, device = 2 * pixels + 1, images_MBHW.device
    shifts = torch.stack([torch.randint(span, (batch, 2), generator=g, device=device) for g in generators])
    return _moved(images_MBHW.flatten(0, 1), shifts.flatten(0, 1), pixels, background).view(images_MBHW.shape)


def _moved(images_BHW: Tensor, shifts_B2: Tensor, pixels: int, background: float) -> Tensor:
    """Each image as seen through a window that starts `shifts` [B, 2], 0 to 2 `pixels`, into a padded copy of it."""
    batch, height, width = images_BHW.shape
    device = images_BHW.device
    padded = F.pad(images_BHW, (pixels,) * 4, value=background)
    rows = shifts_B2[:, :1] + torch.arange(height, device=device)
    columns = shifts_B2[:, 1:] + torch.arange(width, device=device)
    image = torch.arange(batch, device=device)[:, None, None]
    return padded[image, rows[:, :, None], columns[:, None, :]]


def affine_views(images_NHW: Tensor, count: int, seed: int, background: float) -> Tensor:
    """`count` further views of every image, [count * N, H, W]: each slanted, scaled and moved a little of its own.

    Slant is normal with deviation 0.15, width is within 15 %, height within 8 %, and the shift within 0.4 pixels, about
    what tells one hand from another. View v of image n is number v * N + n; the same seed, count and N give the same
    views, so that their soft targets can be stored.
    """
    total, height, width = count * len(images_NHW), *images_NHW.shape[1:]
    draw = torch.Generator().manual_seed(seed)

    def uniform(size: float) -> Tensor:
        return (torch.rand(total, generator=draw) * 2 - 1) * size

    slant = torch.randn(total, generator=draw) * 0.15
    zero = torch.zeros(total)
    across = torch.stack([1 + uniform(0.15), slant, uniform(0.8 / width)], dim=1)
    down = torch.stack([zero, 1 + uniform(0.08), uniform(0.8 / height)], dim=1)
    grid = F.affine_grid(torch.stack([across, down], dim=1), [total, 1, height, width], align_corners=False)
    source = images_NHW.float().repeat(count, 1, 1).unsqueeze(1) - background  # outside of an image is 0 then
    return F.grid_sample(source, grid, align_corners=False).squeeze(1) + background


class NumberedViews(NamedTuple):
    """`number` views of every example, each fixed by the seed and its number, so that a teacher's answers to them can
    be stored and found again: teacher and student see the same view (function matching, Beyer et al. 2022).

    `jitter` moves images by up to that many pixels; `distort` bends them (distort.py); `mix` mixes each example with
    another, the first having a share of 0.5 to 1 (Zhang et al. 2018). View 0 is the examples as they are.
    """

    number: int
    seed: int
    jitter: int
    mix: bool
    background: float
    distort: bool = False

    def draw(self, view: int, inputs: Tensor) -> Draws:
        """What view number `view` of the examples [N, ...] is, the same in every process. It is drawn on the CPU."""
        total = len(inputs)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + view)
        shifts = torch.randint(2 * self.jitter + 1, (total, 2), generator=generator)
        partner = torch.randint(total, (total,), generator=generator)
        share = 1.0 - 0.5 * torch.rand(total, generator=generator)
        if view == 0:
            return Draws(torch.full_like(shifts, self.jitter), partner, torch.ones_like(share), None)
        bent = draw_distortions(total, (inputs.shape[1], inputs.shape[2]), generator) if self.distort else None
        return Draws(shifts, partner, share, bent)

    def see(self, inputs: Tensor, indices_B: Tensor, draws: Draws) -> Tensor:
        """The view of examples `indices` of all inputs [N, ...]: [B, ...]."""
        seen = self._move(inputs, indices_B, draws)
        if not self.mix:
            return seen
        share = draws.share[indices_B].view(-1, *[1] * (inputs.ndim - 1))
        return share * seen + (1.0 - share) * self._move(inputs, draws.partner[indices_B], draws)

    def _move(self, inputs: Tensor, indices_B: Tensor, draws: Draws) -> Tensor:
        seen = inputs[indices_B]
        if self.jitter:
            seen = _moved(seen, draws.shifts[indices_B], self.jitter, self.background)
        if draws.distortions is not None:
            seen = distorted(seen, draws.distortions[indices_B], self.background)
        return seen

    def as_view(self, targets_VNK: Sequence[Tensor] | None) -> Numbered:
        """Epoch e sees view e modulo `number`, with the teacher's answers to it where they are given."""
        return Numbered(self, targets_VNK)


class Numbered:
    """A View: numbered views in turn, one an epoch. It keeps the draws of the last one."""

    def __init__(self, views: NumberedViews, targets_VNK: Sequence[Tensor] | None) -> None:
        self.views = views
        self.targets_VNK = targets_VNK
        self._last: tuple[int, Draws] | None = None

    def __call__(
        self, train: Examples, indices_MB: Tensor, epoch: int, _generators: Sequence[torch.Generator]
    ) -> Batch:
        """What members see of the examples in that epoch."""
        number = epoch % self.views.number
        if self._last is None or self._last[0] != number:
            self._last = number, self.views.draw(number, train.inputs).to(train.inputs.device)
        draws = self._last[1]
        seen = self.views.see(train.inputs, indices_MB.flatten(), draws)
        log_teacher = None if self.targets_VNK is None else self.targets_VNK[number][indices_MB]
        mixture = None
        if self.views.mix:
            mixture = Mixture(train.labels[draws.partner[indices_MB]], draws.share[indices_MB])
        inputs = seen.view(*indices_MB.shape, *train.inputs.shape[1:])
        return Batch(inputs, train.labels[indices_MB], log_teacher, mixture)


class Draws(NamedTuple):
    """One view of N examples: shifts [N, 2], the other that each is mixed with [N], its own share [N], distortions."""

    shifts: Tensor
    partner: Tensor
    share: Tensor
    distortions: Tensor | None

    def to(self, device: torch.device) -> Draws:
        """The same on a device."""
        return Draws(*(None if tensor is None else tensor.to(device) for tensor in self))  # type: ignore[arg-type]
