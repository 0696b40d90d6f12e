"""Distorted images: each turned, scaled, slanted, moved and bent a little of its own. It knows images, not training.

A distortion of an [H, W] image is 2 x 28 numbers: a displacement field is their product with 28 fixed fields over the
image (its two coordinates, 1, and a 5x5 grid of bumps, between which the bending is linear). So the fields of a whole
batch are one matrix product, which took a thirteenth of the time of making and enlarging each by itself.
Legend: B batch, N examples.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

GRID = 5
TURN, SCALE, SLANT, SHIFT, BEND = 0.2, 0.15, 0.2, 2.0, 0.8
"""Largest turn in radians, change of scale, slant, shift in pixels; deviation of a bump's displacement in pixels."""


def draw_distortions(total: int, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Coefficients [total, 2, 28] of as many distortions, on the generator's device."""

    def uniform(size: float) -> Tensor:
        return (torch.rand(total, generator=generator, device=generator.device) * 2 - 1) * size

    angle, slant = uniform(TURN), uniform(SLANT)
    wide, high = 1 + uniform(SCALE), 1 + uniform(SCALE)
    height, width = shape
    pixel = torch.tensor([2 / width, 2 / height], device=generator.device)  # an image goes from -1 to 1
    across = torch.stack([wide * angle.cos(), slant - angle.sin(), uniform(SHIFT) * pixel[0]], dim=1)
    down = torch.stack([angle.sin(), high * angle.cos(), uniform(SHIFT) * pixel[1]], dim=1)
    bumps = torch.randn(total, 2, GRID * GRID, generator=generator, device=generator.device)
    return torch.cat([torch.stack([across, down], dim=1), bumps * BEND * pixel[:, None]], dim=2)


def distorted(images_BHW: Tensor, coefficients_B: Tensor, background: float) -> Tensor:
    """Images, float32 [B, H, W], distorted by coefficients [B, 2, 28]; what comes in is `background`."""
    batch, height, width = images_BHW.shape
    fields = coefficients_B.flatten(0, 1) @ _basis(height, width).to(images_BHW.device)
    grid = fields.view(batch, 2, height, width).permute(0, 2, 3, 1)
    source = (images_BHW - background).unsqueeze(1)  # outside of an image is 0 then
    return F.grid_sample(source, grid, align_corners=False).squeeze(1) + background


@lru_cache(maxsize=4)
def _basis(height: int, width: int) -> Tensor:
    """The fixed fields [28, H * W]: x, y, 1, and the bumps."""
    rows, columns = ((torch.arange(size) * 2 + 1) / size - 1 for size in (height, width))
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    ones = torch.eye(GRID * GRID).view(-1, 1, GRID, GRID)
    bumps = F.interpolate(ones, (height, width), mode="bilinear", align_corners=True).flatten(1)
    return torch.cat([torch.stack([x.flatten(), y.flatten(), torch.ones(height * width)]), bumps])
