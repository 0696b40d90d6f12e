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
