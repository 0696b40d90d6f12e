"""Distortions against fields that are worked out pixel by pixel, and what they leave alone."""

import numpy as np
import torch

from trainer.distort import GRID, distorted, draw_distortions
from trainer.fit import Examples
from trainer.views import Distorting, NumberedViews

PICTURES = torch.rand(40, 9, 12, generator=torch.Generator().manual_seed(2))
NOTHING = torch.zeros(40, 2, 3 + GRID * GRID)
NOTHING[:, 0, 0] = NOTHING[:, 1, 1] = 1.0


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_no_distortion_leaves_an_image_as_it_is():
    """Each pixel comes from its own place."""
    torch.testing.assert_close(distorted(PICTURES, NOTHING, -1.0), PICTURES, atol=1e-5, rtol=0)


def test_a_shift_of_a_pixel_is_the_image_a_pixel_on():
    """What comes in is the background."""
    moved = NOTHING.clone()
    moved[:, 0, 2] = 2 / 12
    found = distorted(PICTURES, moved, -1.0)
    torch.testing.assert_close(found[:, :, :-1], PICTURES[:, :, 1:], atol=1e-5, rtol=0)
    torch.testing.assert_close(found[:, :, -1], torch.full((40, 9), -1.0), atol=1e-5, rtol=0)


def test_a_bump_moves_the_pixels_at_its_place_alone():
    """The bump in the middle of the grid: the corners stay."""
    bent = NOTHING.clone()
    bent[:, :, 3 + (GRID * GRID) // 2] = 0.3
    changed = (distorted(PICTURES, bent, 0.0) - PICTURES).abs().amax(dim=0) > 1e-4
    assert changed[4, 6]
    assert not changed[[0, 0, -1, -1], [0, -1, 0, -1]].any()


def test_sources_of_pixels_equal_the_field_worked_out_by_hand():
    """On ramps, whose value is the place: numpy's bilinear bumps and the affine part, pixel by pixel."""
    height = width = 21
    ramp = torch.arange(width, dtype=torch.float32).expand(1, height, width).contiguous()
    drawn = draw_distortions(1, (height, width), generator()) * 0.3
    drawn[:, 0, 0] += 0.7
    found = distorted(ramp, drawn, 0.0)[0].numpy()
    bumps = drawn[0, 0, 3:].view(GRID, GRID).numpy()
    ticks = np.linspace(0, height - 1, GRID)
    for row, column in ((10, 10), (8, 12), (11, 9)):
        along = np.array([np.interp(column, ticks, line) for line in bumps])
        bump = np.interp(row, ticks, along)
        x, y = (2 * column + 1) / width - 1, (2 * row + 1) / height - 1
        source = drawn[0, 0, 0] * x + drawn[0, 0, 1] * y + drawn[0, 0, 2] + bump
        assert abs(found[row, column] - ((source.item() + 1) * width - 1) / 2) < 1e-3


def test_distortions_depend_on_the_generator_alone():
    """The same seed, the same bits."""
    assert torch.equal(draw_distortions(5, (9, 12), generator()), draw_distortions(5, (9, 12), generator()))
    assert not torch.equal(draw_distortions(5, (9, 12), generator()), draw_distortions(5, (9, 12), generator(1)))


def test_members_see_distortions_of_their_own():
    """From their own generators, the same together or apart; images stay within their range."""
    train = Examples(PICTURES, torch.zeros(40, dtype=torch.int64))
    indices = torch.arange(10).expand(2, 10)
    together = Distorting(0.0)(train, indices, 0, [generator(1), generator(2)]).inputs
    apart = [Distorting(0.0)(train, indices[:1], 0, [generator(seed)]).inputs[0] for seed in (1, 2)]
    torch.testing.assert_close(together, torch.stack(apart))
    assert not torch.allclose(together[0], together[1])
    assert together.min() >= -1e-6
    assert together.max() <= 1 + 1e-6


def test_numbered_distortions_are_found_again():
    """View 2 of an example is the same in any batch; view 0 is the example itself."""
    views = NumberedViews(number=3, seed=1, jitter=0, mix=False, background=0.0, distort=True)
    some = torch.tensor([7, 3])
    whole = views.see(PICTURES, torch.arange(40), views.draw(2, PICTURES))
    torch.testing.assert_close(views.see(PICTURES, some, views.draw(2, PICTURES)), whole[some], atol=1e-6, rtol=0)
    assert not torch.allclose(whole, PICTURES, atol=1e-2)
    assert torch.equal(views.see(PICTURES, some, views.draw(0, PICTURES)), PICTURES[some])
