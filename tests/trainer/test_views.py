"""Jitter against every shift in numpy; slanted, scaled and moved views against what ramps say of them."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from trainer.fit import Examples
from trainer.views import NumberedViews, affine_views, jitter

BACKGROUND = -1.0


def images(members: int, batch: int, height: int = 5, width: int = 4) -> torch.Tensor:
    """Every pixel has a value of its own, so that a shift can be told."""
    return torch.arange(members * batch * height * width, dtype=torch.float32).view(members, batch, height, width)


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def shifted(image: NDArray, down: int, right: int) -> NDArray:
    """The image moved, with the background where nothing is left."""
    height, width = image.shape
    moved = np.full_like(image, BACKGROUND)
    for row in range(height):
        for column in range(width):
            if 0 <= row - down < height and 0 <= column - right < width:
                moved[row, column] = image[row - down, column - right]
    return moved


def shift_of(view: NDArray, image: NDArray, pixels: int) -> tuple[int, int]:
    """The one shift that explains a view."""
    span = range(-pixels, pixels + 1)
    found = [(down, right) for down in span for right in span if np.array_equal(shifted(image, down, right), view)]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("pixels", [1, 2])
def test_every_view_is_a_shifted_copy(pixels):
    """By up to `pixels` each way, with the background where the image has left; all shifts happen."""
    before = images(2, 100)
    after = jitter(before, generators(0, 1), pixels=pixels, background=BACKGROUND)
    assert after.shape == before.shape
    for member in range(2):
        pairs = zip(after[member].numpy(), before[member].numpy(), strict=True)
        seen = {shift_of(view, image, pixels) for view, image in pairs}
        assert len(seen) > 0.9 * (2 * pixels + 1) ** 2


def test_no_pixels_is_no_change():
    """A jitter of 0 gives the images back."""
    assert torch.equal(jitter(images(2, 3), generators(0, 1), pixels=0, background=BACKGROUND), images(2, 3))


def test_members_shift_by_their_own_generators():
    """A member's views are the same trained together or apart, and differ from another member's."""
    before = images(1, 50)
    alone = jitter(before, generators(7), pixels=2, background=BACKGROUND)
    together = jitter(before.expand(2, -1, -1, -1), generators(8, 7), pixels=2, background=BACKGROUND)
    assert torch.equal(together[1], alone[0])
    assert not torch.equal(together[0], alone[0])


def test_shifts_are_uniform():
    """Each of nine shifts comes up about as often as the others (chi-squared, fixed seed)."""
    before = images(1, 1).expand(1, 1800, -1, -1)
    after = jitter(before, generators(3), pixels=1, background=BACKGROUND)[0].numpy()
    found = [shift_of(view, before[0, 0].numpy(), 1) for view in after]
    counts = np.unique(found, axis=0, return_counts=True)[1]
    assert len(counts) == 9
    assert ((counts - 200) ** 2 / 200).sum() < 26.1  # the 99.9 % quantile with 8 degrees of freedom


VIEWS, SIDE, MIDDLE = 1000, 21, slice(6, 15)


@pytest.fixture(scope="module")
def sources() -> tuple[NDArray, NDArray]:
    """Where the pixels in the middle of each view come from: column and row in the image, [views, 9, 9].

    A ramp tells: its value at a pixel is that pixel's column (or row), and between pixels it is exact.
    """
    ramp = torch.arange(SIDE, dtype=torch.float32).expand(1, SIDE, SIDE)
    columns, rows = (affine_views(image, VIEWS, 5, 0.0)[:, MIDDLE, MIDDLE] for image in (ramp, ramp.transpose(1, 2)))
    return columns.double().numpy(), rows.double().numpy()


def plane(source: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Slope along columns, slope along rows, and the value in the middle, for each view; it must be a plane."""
    across, down, centre = np.diff(source, axis=2), np.diff(source, axis=1), source[:, 4, 4]
    assert np.ptp(across, axis=(1, 2)).max() < 1e-4
    assert np.ptp(down, axis=(1, 2)).max() < 1e-4
    return across[:, 0, 0], down[:, 0, 0], centre


def test_views_are_slanted_scaled_and_moved_a_little(sources):
    """Width within 15 %, height within 8 %, slant of deviation 0.15, shift within 0.4 pixels; rows stay level."""
    width, slant, column = plane(sources[0])
    level, height, row = plane(sources[1])
    assert np.abs(level).max() < 1e-5
    for found, centre, most in ((width, 1.0, 0.15), (height, 1.0, 0.08), (column, 10.0, 0.4), (row, 10.0, 0.4)):
        assert np.abs(found - centre).max() <= most + 1e-4
        assert np.abs(found - centre).max() > 0.9 * most
        assert abs(found.mean() - centre) < 0.1 * most
    assert slant.std() == pytest.approx(0.15, rel=0.15)
    assert abs(slant.mean()) < 0.03


def test_view_v_of_image_n_is_number_v_n_plus_n():
    """So that labels and soft targets find their views: each image has a brightness of its own."""
    brightness = torch.tensor([20.0, 40.0, 60.0])
    squares = torch.zeros(3, 12, 12)
    squares[:, 3:9, 3:9] = brightness[:, None, None]
    views = affine_views(squares, 4, 0, 0.0)
    assert views.shape == (12, 12, 12)
    assert views.flatten(1).max(dim=1).values.tolist() == pytest.approx(brightness.repeat(4).tolist(), rel=1e-5)
    assert len({view.numpy().tobytes() for view in views / brightness.repeat(4)[:, None, None]}) == 12


def test_the_seed_decides_the_views():
    """The same seed gives the same views, bit for bit, and another seed others."""
    pictures = torch.rand(5, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(affine_views(pictures, 3, 7, 0.0), affine_views(pictures, 3, 7, 0.0))
    assert not torch.equal(affine_views(pictures, 3, 7, 0.0), affine_views(pictures, 3, 8, 0.0))


def test_views_stay_within_the_images_range():
    """What comes in at the border is the background; nothing gets darker than it or brighter than white."""
    views = affine_views(torch.full((50, 8, 8), 16.0), 1, 0, -4.0)
    assert views.max().item() <= 16.0 + 1e-4
    assert -4.0 - 1e-4 <= views.min().item() < 10.0
    blank = affine_views(torch.full((50, 8, 8), -4.0), 1, 0, -4.0)
    assert blank.eq(-4.0).all()


IMAGES = torch.rand(6, 5, 5, generator=torch.Generator().manual_seed(1))
ALL = torch.arange(6)


def numbered(**changes) -> NumberedViews:
    return NumberedViews(number=3, seed=4, jitter=1, mix=True, background=BACKGROUND)._replace(**changes)


def test_a_numbered_view_is_the_same_wherever_its_examples_stand_in_a_batch():
    """It depends on seed, view and example alone: soft targets that are keyed by them fit under any shuffle."""
    views = numbered()
    whole = views.see(IMAGES, ALL, views.draw(2, IMAGES))
    some = torch.tensor([4, 0, 3])
    assert torch.equal(views.see(IMAGES, some, numbered().draw(2, IMAGES)), whole[some])
    assert not torch.equal(views.see(IMAGES, ALL, views.draw(1, IMAGES)), whole)
    assert not torch.equal(views.see(IMAGES, ALL, numbered(seed=5).draw(2, IMAGES)), whole)


def test_view_0_is_the_examples_as_they_are():
    """So that one of the views is what the student will be served."""
    views = numbered()
    assert torch.equal(views.see(IMAGES, ALL, views.draw(0, IMAGES)), IMAGES)
    assert torch.equal(views._replace(distort=True).see(IMAGES, ALL, views.draw(0, IMAGES)), IMAGES)


def test_a_numbered_jitter_moves_an_image_by_its_own_shift():
    """Against the shift in numpy."""
    views = numbered(mix=False)
    draws = views.draw(1, IMAGES)
    seen = views.see(IMAGES, ALL, draws).numpy()
    for image, shift, view in zip(IMAGES.numpy(), draws.shifts, seen, strict=True):
        np.testing.assert_array_equal(view, shifted(image, *(1 - int(s) for s in shift)))


def test_a_mixture_is_the_weighted_sum_of_two_examples_and_tells_both_labels():
    """Shares are of 0.5 to 1, and the labels of the batch are those of the two."""
    views = numbered(jitter=0)
    train = Examples(IMAGES, torch.tensor([0, 1, 2, 3, 4, 5]))
    indices = torch.tensor([[5, 1], [0, 2]])
    batch = views.as_view(None)(train, indices, 4, [])
    draws = views.draw(1, IMAGES)
    assert batch.mixture is not None
    assert torch.equal(batch.labels, indices)
    assert torch.equal(batch.mixture.labels, draws.partner[indices])
    assert batch.mixture.share.min() >= 0.5
    share = batch.mixture.share[..., None, None]
    torch.testing.assert_close(batch.inputs, share * IMAGES[indices] + (1 - share) * IMAGES[draws.partner[indices]])


def test_students_find_the_teachers_answer_to_the_view_that_they_see():
    """Epoch 5 of three views sees view 2, whose targets are the third."""
    targets = [torch.full((6, 2), float(view)) for view in range(3)]
    train = Examples(IMAGES, torch.zeros(6, dtype=torch.int64))
    view = numbered().as_view(targets)
    for epoch, number in ((5, 2), (6, 0), (7, 1)):
        batch = view(train, torch.tensor([[1, 3]]), epoch, [])
        assert batch.log_teacher is not None
        assert batch.log_teacher.unique().tolist() == [number]
