"""Views of a batch: what an input may be turned into while its label stays true. It knows images, not training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def jitter(images_MBHW: Tensor, generators: Sequence[torch.Generator], *, pixels: int, background: float) -> Tensor:
    """Moves every image by up to `pixels` in each direction, uniformly; what comes in is `background`. Same shape.

    Each member's shifts come from its own generator.
    """
    members, batch, height, width = images_MBHW.shape
    device = images_MBHW.device
    span = 2 * pixels + 1
    shifts = torch.stack([torch.randint(span, (batch, 2), generator=g, device=device) for g in generators])
    padded = F.pad(images_MBHW, (pixels,) * 4, value=background).flatten(0, 1)
    rows = shifts[..., 0].flatten()[:, None] + torch.arange(height, device=device)
    columns = shifts[..., 1].flatten()[:, None] + torch.arange(width, device=device)
    image = torch.arange(members * batch, device=device)[:, None, None]
    return padded[image, rows[:, :, None], columns[:, None, :]].view(members, batch, height, width)


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
