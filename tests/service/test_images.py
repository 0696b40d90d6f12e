"""service/inputs/images.py and the form of POST /predict: pictures become what the model takes, others are refused."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from service.errors import InputError, MalformedError, TooLargeError
from service.inputs.images import read_image
from service.manifest import ImageSpec, Manifest, read_manifest
from tests.repositories import known_probabilities, serving, write_model

GREY = np.arange(0, 256, 4, dtype=np.uint8).reshape(8, 8)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Of a model that takes [8, 8] from 0 to 16."""
    return read_manifest(write_model(tmp_path_factory.mktemp("models")))


def encoded(image: Image.Image | NDArray[np.uint8], kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def read(raw: bytes, manifest: Manifest, *, invert: bool = False, max_pixels: int = 10_000) -> NDArray[np.float32]:
    inputs = read_image(raw, manifest, invert=invert, max_pixels=max_pixels)
    assert (inputs.dtype, inputs.shape) == (np.float32, (1, *manifest.input.shape))
    return inputs[0]


def test_a_grey_picture_of_the_right_size_is_only_mapped_to_the_range(manifest: Manifest):
    """Black is 0 and white is 16."""
    np.testing.assert_allclose(read(encoded(GREY), manifest), GREY * (16 / 255), rtol=1e-6)


def test_the_range_may_begin_anywhere_and_run_downwards(tmp_path: Path):
    """Its first number is what black becomes."""
    spec = ImageSpec(range=(1.0, -1.0))
    manifest = read_manifest(write_model(tmp_path, image=spec))
    np.testing.assert_allclose(read(encoded(GREY), manifest), 1 - GREY / 127.5, atol=1e-6)


def test_a_larger_picture_is_averaged(manifest: Manifest):
    """Each pixel is the mean of the area that it came from, unrounded."""
    picture = np.random.default_rng(0).integers(0, 256, (40, 24), dtype=np.uint8)
    means = picture.reshape(8, 5, 8, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(read(encoded(picture), manifest), means * (16 / 255), rtol=1e-5)


def test_a_smaller_picture_is_enlarged(manifest: Manifest):
    """A plain one stays plain."""
    np.testing.assert_allclose(read(encoded(np.full((2, 3), 51, dtype=np.uint8)), manifest), 3.2, rtol=1e-6)


def test_height_and_width_are_not_mixed_up(tmp_path: Path):
    """A picture is [H, W] as the manifest says."""
    manifest = read_manifest(write_model(tmp_path, shape=(2, 4)))
    picture = np.array([[0, 0, 0, 0], [255, 255, 255, 255]], dtype=np.uint8)
    np.testing.assert_array_equal(read(encoded(picture), manifest), picture / 255 * 16)


def test_colours_are_greyed_by_luminance(manifest: Manifest):
    """ITU-R 601: 0.299 R + 0.587 G + 0.114 B."""
    picture = np.zeros((8, 8, 3), dtype=np.uint8)
    picture[..., 0], picture[..., 1], picture[..., 2] = 200, 100, 50
    expected = (0.299 * 200 + 0.587 * 100 + 0.114 * 50) * 16 / 255
    np.testing.assert_allclose(read(encoded(picture), manifest), expected, atol=16 / 255)


def test_invert_turns_dark_on_bright_into_bright_on_dark(manifest: Manifest):
    """White becomes black."""
    np.testing.assert_allclose(read(encoded(255 - GREY), manifest, invert=True), GREY * (16 / 255), rtol=1e-6)


@pytest.mark.parametrize("invert", [False, True])
def test_what_is_transparent_becomes_black(invert: bool, manifest: Manifest):
    """Whatever colour hides behind it; half transparent is half."""
    picture = np.full((8, 8, 4), 0 if invert else 255, dtype=np.uint8)
    picture[:4, :, 3], picture[4, :, 3], picture[5:, :, 3] = 0, 128, 255
    found = read(encoded(picture), manifest, invert=invert)
    np.testing.assert_array_equal(found[:4], 0.0)
    np.testing.assert_allclose(found[4], 16 * 128 / 255, atol=16 / 255)
    np.testing.assert_array_equal(found[5:], 16.0)


def test_a_palette_with_a_transparent_colour_is_understood(manifest: Manifest):
    """As small drawings are saved."""
    picture = Image.fromarray(GREY).convert("P")
    picture.putpalette([value for grey in range(256) for value in (grey, grey, grey)])
    found = read(encoded(picture, transparency=252), manifest)
    expected = np.where(GREY == 252, 0, GREY) * (16 / 255)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_kind_of_png_is_read(mode: str, manifest: Manifest):
    """A half black, half white picture stays one."""
    picture = np.zeros((8, 8), dtype=np.uint8)
    picture[:, 4:] = 255
    image = (
        Image.fromarray(picture.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(picture).convert(mode)
    )
    np.testing.assert_allclose(read(encoded(image), manifest), picture * (16 / 255), atol=0.1)


def test_a_sixteen_bit_grey_is_scaled_and_not_clipped(manifest: Manifest):
    """Half of 65535 is half of 16."""
    half = Image.fromarray(np.full((8, 8), 32768, dtype=np.uint16))
    np.testing.assert_allclose(read(encoded(half), manifest), 16 * 32768 / 65535, rtol=1e-5)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_every_kind_of_jpeg_is_read(mode: str, manifest: Manifest):
    """To the precision of its compression."""
    image = Image.fromarray(np.full((16, 16), 128, dtype=np.uint8)).convert(mode)
    np.testing.assert_allclose(read(encoded(image, "JPEG", quality=95), manifest), 8.0, atol=0.2)


@pytest.mark.parametrize(("orientation", "turn"), [(3, Image.Transpose.ROTATE_180), (6, Image.Transpose.ROTATE_90)])
def test_a_photograph_stands_as_its_exif_orientation_says(orientation: int, turn: Image.Transpose, manifest: Manifest):
    """Telephones store what the sensor saw and note how it was held."""
    upright = Image.fromarray(np.kron(np.array([[0, 0], [0, 255]], dtype=np.uint8), np.ones((8, 8), dtype=np.uint8)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    raw = encoded(upright.transpose(turn), "JPEG", quality=95, exif=exif)
    found = read(raw, manifest)
    np.testing.assert_allclose(found[4:, 4:], 16.0, atol=0.5)
    np.testing.assert_allclose(found[:4], 0.0, atol=0.5)


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that declares a huge picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("side", "text"),
    [
        (200, "image: got 200 × 200 pixels, expected at most 10000 in all"),
        (10_000, "image: far too many pixels, expected at most 10000"),  # where Pillow begins to warn
        (60_000, "image: far too many pixels, expected at most 10000"),  # where it refuses
    ],
)
def test_a_picture_with_too_many_pixels_is_refused_before_it_is_decoded(side: int, text: str, manifest: Manifest):
    """By what it declares: there is nothing in it to decode."""
    with pytest.raises(TooLargeError) as caught:
        read(bomb(side, side), manifest)
    assert str(caught.value) == text


@pytest.mark.parametrize("raw", [b"", b"hello", b"\x89PNG\r\n\x1a\n", encoded(GREY, "GIF"), encoded(GREY, "BMP")])
def test_what_is_no_png_or_jpeg_is_refused(raw: bytes, manifest: Manifest):
    """Other formats too."""
    with pytest.raises(
        MalformedError, match=r"^image: (got \d+ bytes that are no picture, expected PNG or JPEG|the file)"
    ):
        read(raw, manifest)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_picture_that_is_cut_short_anywhere_is_refused_or_whole(kind: str, manifest: Manifest):
    """Never another exception, and never a picture with a grey rest."""
    noise = np.random.default_rng(0).integers(0, 256, (20, 20), dtype=np.uint8)
    raw = encoded(noise, kind)
    whole = read(raw, manifest)
    for length in range(len(raw)):
        try:
            found = read(raw[:length], manifest)
        except MalformedError:
            continue
        np.testing.assert_array_equal(found, whole)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_picture_with_changed_bytes_is_refused_or_read(kind: str, manifest: Manifest):
    """Never another exception."""
    exif = Image.Exif()
    exif[0x0112] = 6
    raw, random = encoded(GREY, kind, exif=exif), np.random.default_rng(1)
    for _ in range(300):
        changed = bytearray(raw)
        for position in random.integers(0, len(raw), 3):
            changed[position] = random.integers(0, 256)
        with contextlib.suppress(InputError):
            read(bytes(changed), manifest)


def test_a_model_that_takes_no_pictures_says_what_it_takes(tmp_path: Path):
    """JSON of a shape."""
    manifest = read_manifest(write_model(tmp_path, "wine", shape=(13,)))
    with pytest.raises(InputError, match=r"^wine takes no images: send JSON with inputs of shape \[13\]$"):
        read_image(encoded(GREY), manifest, invert=False, max_pixels=100)


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    write_model(tmp_path, seed=1)
    async with serving(tmp_path, max_image_pixels=10_000) as client:
        yield client


async def send(client: httpx.AsyncClient, files: dict[str, Any], **data: str) -> httpx.Response:
    return await client.post("/predict", files=files, data=data)


PICTURE = {"image": ("digit.png", encoded(GREY), "image/png")}


async def test_a_posted_picture_is_classified(client: httpx.AsyncClient):
    """With every option of JSON, and invert; empty fields, as browsers send them, count as not sent."""
    answer = await send(client, PICTURE, temperature="2.5", top_k="4", model="digits-student", version="", invert="")
    assert answer.status_code == 200, answer.text
    expected = known_probabilities(GREY[None] * (16 / 255), seed=1, temperature=2.5)
    np.testing.assert_allclose(answer.json()["probabilities"], expected, atol=1e-5)
    assert len(answer.json()["top_k"][0]) == 4
    inverted = (await send(client, PICTURE, invert="true")).json()["probabilities"]
    np.testing.assert_allclose(inverted, known_probabilities((255 - GREY[None]) * (16 / 255), seed=1), atol=1e-5)


async def test_a_picture_of_over_a_megabyte_needs_no_folder_to_write_to(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
):
    """The root file system may be read-only."""
    monkeypatch.setattr("tempfile.tempdir", "/nonexistent")
    raw = encoded(GREY) + bytes(2**20)
    assert (await send(client, {"image": raw})).status_code == 200


KNOWN = "model, version, temperature, top_k, image, invert"


@pytest.mark.parametrize(
    ("files", "data", "status", "text"),
    [
        ({"image": b"text"}, {}, 400, "image: got 4 bytes that are no picture, expected PNG or JPEG"),
        ({"image": b""}, {}, 400, "image: got 0 bytes that are no picture, expected PNG or JPEG"),
        ({"image": encoded(GREY)[:50]}, {}, 400, "image: the file is damaged or cut short: "),
        ({"image": bomb(10_000, 10_000)}, {}, 413, "image: far too many pixels, expected at most 10000"),
        ({"file": b"x"}, {}, 422, "file: expected a plain value, not a file"),
        ({"model": b"x"}, {}, 422, "model: expected a plain value, not a file"),
        (PICTURE, {"model": "nope"}, 404, "unknown model 'nope'; available: digits-student"),
        (PICTURE, {"temperature": "0"}, 422, "temperature: got 0, expected greater than 0"),
        (PICTURE, {"temperature": "nan"}, 422, 'temperature: got "nan", expected a valid number'),
        (PICTURE, {"top_k": "many"}, 422, 'top_k: got "many", expected a valid integer'),
        (PICTURE, {"top_k": "11"}, 422, "top_k: got 11, expected 1 to 10, the classes of digits-student"),
        (PICTURE, {"invert": "yes"}, 422, 'invert: got "yes", expected a valid boolean'),
        (PICTURE, {"colour": "red"}, 422, f"unknown field 'colour'; known: {KNOWN}"),
    ],
)
async def test_a_wrong_form_is_refused(
    files: dict[str, Any], data: dict[str, str], status: int, text: str, client: httpx.AsyncClient
):
    """With what was given and what was expected."""
    answer = await send(client, files, **data)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert answer.json()["error"].startswith(text)


@pytest.mark.parametrize(
    ("kind", "body", "status", "text"),
    [
        ("multipart/form-data", b"x", 400, "the form cannot be read: Missing boundary in multipart."),
        ("multipart/form-data; boundary=b", b"x", 400, "the form cannot be read: Invalid multipart data."),
        (
            "multipart/form-data; boundary=b",
            b"",
            422,
            "image or audio is missing: PNG or JPEG, or WAV or FLAC where the model hears recordings",
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\ncontent-disposition: form-data; name="image"\r\n\r\n5\r\n--b--\r\n',
            422,
            "image: expected a file (curl -F image=@digit.png)",
        ),
        (
            "multipart/form-data; boundary=b",
            2 * b'--b\r\ncontent-disposition: form-data; name="image"; filename="a"\r\n\r\n5\r\n' + b"--b--\r\n",
            400,
            "the form cannot be read: Too many files. Maximum number of files is 1.",
        ),
    ],
)
async def test_a_form_that_cannot_be_read_is_refused(
    kind: str, body: bytes, status: int, text: str, client: httpx.AsyncClient
):
    """And the next picture is classified."""
    answer = await client.post("/predict", content=body, headers={"content-type": kind})
    assert (answer.status_code, answer.json()) == (status, {"error": text})
    assert (await send(client, PICTURE)).status_code == 200
