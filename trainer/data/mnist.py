"""MNIST from its four canonical gzipped IDX files, downloaded where they are not at hand."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import platformdirs
import pooch
from numpy.typing import NDArray
from requests import RequestException

from service.manifest import ImageSpec
from trainer.data.split import TEST, Shares, Split, make_split, stratified
from trainer.errors import DataError

BASE_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
FILES = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}


def load_mnist(data_dir: Path | None, shares: Shares, base_url: str = BASE_URL) -> Split:
    """Inputs uint8 [70,000, 28, 28], 0 to 255; the canonical 10,000 are the test part.

    Reads `<data_dir>/mnist/`, or downloads where no `data_dir` is given. The validation share is of the other 60,000.
    Raises DataError: files missing, corrupt, or out of reach.
    """
    folder = _download(base_url) if data_dir is None else data_dir / "mnist"
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise DataError(f"MNIST: {folder} lacks {', '.join(missing)}; {_what_to_do()}")
    train_images, train_labels, test_images, test_labels = (read_idx(folder / name) for name in FILES)
    for images, digits, name in ((train_images, train_labels, "train"), (test_images, test_labels, "t10k")):
        if images.ndim != 3 or digits.ndim != 1 or len(images) != len(digits):
            raise DataError(
                f"MNIST: the {name} files of {folder} hold images {list(images.shape)} and labels "
                f"{list(digits.shape)}, expected [N, 28, 28] and [N]; {_what_to_do()}"
            )
    part_N = np.full(len(train_labels) + len(test_labels), TEST, dtype=np.int8)
    labels = np.concatenate([train_labels, test_labels]).astype(np.int64)
    train = labels[: len(train_labels)]
    part_N[: len(train)] = stratified("mnist", train, shares._replace(test=0.0))
    images = np.concatenate([train_images, test_images])
    image = ImageSpec(range=(0.0, 255.0), margin=4 / 28)  # 20x20 digits, centred in 28x28
    return make_split("mnist", images, labels, tuple("0123456789"), image, part_N)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The uint8 array in a gzipped IDX file: two zero bytes, the type 8, the rank, big-endian sizes, the data.

    Raises DataError where it is truncated, corrupt, or something else.
    """
    try:
        raw = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is corrupt or not gzip: {error}; fetch it again") from error
    if len(raw) < 4 or raw[:3] != b"\0\0\x08":
        raise DataError(f"{path} is no IDX file of bytes: it starts with {raw[:4].hex() or 'nothing'}, expected 000008")
    start = 4 + 4 * raw[3]
    shape = struct.unpack(f">{raw[3]}I", raw[4:start]) if len(raw) >= start else (0,)
    if len(raw) - start != math.prod(shape):
        raise DataError(f"{path} holds {len(raw) - start} bytes after its header, expected {math.prod(shape)}")
    return np.frombuffer(raw, dtype=np.uint8, offset=start).reshape(shape)


def _download(base_url: str) -> Path:
    """Fetches what the cache lacks, with a progress bar, and checks each file's SHA-256."""
    cache = platformdirs.user_cache_path("stillroom") / "mnist"
    store = pooch.create(path=cache, base_url=base_url, registry={name: f"sha256:{sha}" for name, sha in FILES.items()})
    downloader = pooch.HTTPDownloader(progressbar=True, timeout=30)
    for name in FILES:
        try:
            store.fetch(name, downloader=downloader)
        except RequestException as error:
            why = type(error).__name__
            raise DataError(f"MNIST: cannot download {base_url}{name} ({why}); {_what_to_do()}") from error
        except ValueError as error:  # pooch: the hash differs; it has deleted what it fetched
            expected = FILES[name][:12]
            raise DataError(f"MNIST: the download of {name} is corrupt: its SHA-256 is not {expected}…") from error
        except OSError as error:
            raise DataError(f"MNIST: cannot write the download of {name} to {cache}: {error.strerror}") from error
    return cache


def _what_to_do() -> str:
    return f"put {', '.join(FILES)} into a folder DIR/mnist and pass --data-dir DIR, or set STILLROOM_DATA=DIR"
