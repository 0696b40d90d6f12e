"""From the bytes of a PNG or JPEG to what a model takes that was trained on grey images.

It knows pictures, and of a model only its manifest. It does not centre or crop: the picture as a whole becomes [H, W].
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from service.errors import InputError, MalformedError, TooLargeError
from service.machine import give_back_memory
from service.manifest import ImageSpec, Manifest

FORMATS = ("PNG", "JPEG")
LARGE = 2**22
"""Pixels."""


def read_image(raw: bytes, manifest: Manifest, *, invert: bool, max_pixels: int) -> NDArray[np.float32]:
    """One picture as the model of that manifest takes it: float32 [1, H, W].

    Raises InputError (no such input), MalformedError (no picture), TooLargeError (too many pixels).
    """
    spec = manifest.input
    if spec.image is None:
        raise InputError(f"{manifest.name} takes no images: send JSON with inputs of shape {list(spec.shape)}")
    height, width = spec.shape
    return decode_image(raw, (height, width), spec.image, invert=invert, max_pixels=max_pixels)[None]


def decode_image(
    raw: bytes, size: tuple[int, int], spec: ImageSpec, *, invert: bool = False, max_pixels: int = 2**24
) -> NDArray[np.float32]:
    """One picture, upright, greyed, resized to `size` [H, W] and mapped to the range of `spec`: float32 [H, W].

    What is transparent becomes black. `invert` turns black on white into white on black; then it was white.
    Raises MalformedError (no picture), TooLargeError (too many pixels).
    """
    small = _resized(_grey(_decode(raw, max_pixels), background="white" if invert else "black"), size)
    bright = np.asarray(small, dtype=np.float32) / 255
    black, white = spec.range
    return np.asarray(black + (white - black) * (1 - bright if invert else bright), dtype=np.float32)


def _resized(grey: Image.Image, size: tuple[int, int]) -> Image.Image:
    height, width = size
    shrinks = grey.width >= width and grey.height >= height
    # BOX is the mean over the area that becomes one pixel; it would enlarge to blocks.
    small = grey.resize((width, height), Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR)
    if grey.width * grey.height > LARGE:
        grey.close()
        give_back_memory()  # the allocator would keep four bytes of each pixel
    return small


def count_pixels(raw: bytes) -> int:
    """Of a picture that `decode_image` has read."""
    with Image.open(io.BytesIO(raw), formats=FORMATS) as image:
        return image.width * image.height


def _decode(raw: bytes, max_pixels: int) -> Image.Image:
    """The picture, turned as its EXIF orientation says; its pixels are counted before they are decoded."""
    try:
        image = Image.open(io.BytesIO(raw), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooLargeError(f"image: far too many pixels, expected at most {max_pixels}") from error
    except UnidentifiedImageError as error:
        expected = " or ".join(FORMATS)
        raise MalformedError(f"image: got {len(raw)} bytes that are no picture, expected {expected}") from error
    except Exception as error:  # a parser may raise anything on a damaged file
        raise _damaged(error) from error
    with image:
        if image.width * image.height > max_pixels:
            raise TooLargeError(
                f"image: got {image.width} × {image.height} pixels, expected at most {max_pixels} in all"
            )
        try:
            return ImageOps.exif_transpose(image)
        except Exception as error:  # as above
            raise _damaged(error) from error


def _damaged(error: Exception) -> MalformedError:
    return MalformedError(f"image: the file is damaged or cut short: {error}")


def _grey(image: Image.Image, *, background: str) -> Image.Image:
    """Luminance from 0 to 255 in floating point, so that averaging does not round."""
    if image.mode.startswith("I"):  # 16 bits; Pillow's own conversion to 8 clips them
        return image.convert("F").point(lambda value: value * (1 / 257))
    if image.has_transparency_data:
        picture = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", picture.size, background), picture)
    return image.convert("L").convert("F")
