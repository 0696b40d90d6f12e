"""MNIST: the IDX format byte by byte, its four files, and a download that goes wrong on a real socket."""

import gc
import gzip
import hashlib
import os
import struct
import threading
import warnings
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import socket

import numpy as np
import pytest
from numpy.typing import NDArray

from trainer.data import mnist
from trainer.data.mnist import FILES, load_mnist, read_idx
from trainer.data.split import Shares
from trainer.errors import DataError

SHARES = Shares(validation=0.2, test=0.2, seed=0)
TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = FILES
WHAT_TO_DO = (
    "put train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz, "
    "t10k-labels-idx1-ubyte.gz into a folder DIR/mnist and pass --data-dir DIR, or set STILLROOM_DATA=DIR"
)


def idx(array: NDArray) -> bytes:
    """An IDX file as its specification says."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def small_mnist() -> dict[str, bytes]:
    """The four files with 100 and 20 images in which every pixel of one image holds its number."""
    images = np.arange(120)[:, None, None] * np.ones((1, 28, 28))
    labels = np.arange(120) % 10
    arrays = (images[:100], labels[:100], images[100:], labels[100:])
    return {name: gzip.compress(idx(array)) for name, array in zip(FILES, arrays, strict=True)}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    (folder / "mnist").mkdir(parents=True)
    for name, raw in files.items():
        (folder / "mnist" / name).write_bytes(raw)
    return folder


def gzipped(folder: Path, raw: bytes) -> Path:
    path = folder / "file.gz"
    path.write_bytes(gzip.compress(raw))
    return path


def test_an_idx_file_written_by_hand(tmp_path):
    """Two zero bytes, type 8 (uint8), rank 3, big-endian sizes 1, 2, 3, the pixels row by row."""
    raw = bytes.fromhex("00000803 00000001 00000002 00000003 000102 0a0bff".replace(" ", ""))
    assert read_idx(gzipped(tmp_path, raw)).tolist() == [[[0, 1, 2], [10, 11, 255]]]


def test_labels_have_rank_1(tmp_path):
    assert read_idx(gzipped(tmp_path, bytes.fromhex("00000801 00000002 0709"))).tolist() == [7, 9]


@pytest.mark.parametrize(("head", "shown"), [("00000d03", "00000d03"), ("504b0304", "504b0304"), ("", "nothing")])
def test_another_magic_number_is_refused(tmp_path, head, shown):
    """Floats, zip files, nothing."""
    path = gzipped(tmp_path, bytes.fromhex(head) + bytes(20) * bool(head))
    with pytest.raises(DataError) as caught:
        read_idx(path)
    assert str(caught.value) == f"{path} is no IDX file of bytes: it starts with {shown}, expected 000008"


@pytest.mark.parametrize("held", [b"", b"12345", b"1234567"])
def test_fewer_or_more_pixels_than_announced_are_refused(tmp_path, held):
    path = gzipped(tmp_path, bytes.fromhex("00000803 00000001 00000002 00000003") + held)
    with pytest.raises(DataError) as caught:
        read_idx(path)
    assert str(caught.value) == f"{path} holds {len(held)} bytes after its header, expected 6"


def test_a_header_that_ends_early_is_refused(tmp_path):
    with pytest.raises(DataError, match="after its header"):
        read_idx(gzipped(tmp_path, bytes.fromhex("00000803 00000001 0000")))


@pytest.mark.parametrize("damage", ["truncated", "plain", "empty", "flipped", "trailing"])
def test_a_file_that_is_no_gzip_is_refused(tmp_path, damage):
    """Cut short, not compressed, empty, with a wrong byte, with something after its end."""
    raw = gzip.compress(idx(np.arange(600).reshape(6, 10, 10)))
    damaged = {
        "truncated": raw[: len(raw) // 2],
        "plain": idx(np.zeros((1, 2))),
        "empty": b"\x1f",
        "flipped": raw[:40] + bytes([raw[40] ^ 0xFF]) + raw[41:],
        "trailing": raw + b"garbage",
    }
    path = tmp_path / "file.gz"
    path.write_bytes(damaged[damage])
    with pytest.raises(DataError, match=r"file\.gz is corrupt or not gzip: .*; fetch it again"):
        read_idx(path)


def test_the_canonical_test_set_stays_the_test_set(tmp_path):
    """Training and validation come from the first file, every image keeps its label, 20x20 digits lie in 28x28."""
    split = load_mnist(write(tmp_path, small_mnist()), SHARES)
    assert split.shape == (28, 28)
    assert split.test.inputs[:, 0, 0].tolist() == list(range(100, 120))
    numbers = np.concatenate([split.train.inputs[:, 0, 0], split.validation.inputs[:, 0, 0]])
    assert sorted(numbers.tolist()) == list(range(100))
    for part in (split.train, split.validation, split.test):
        assert (part.inputs[:, 27, 27] % 10).tolist() == part.labels.tolist()
    assert np.bincount(split.validation.labels).tolist() == [2] * 10
    assert split.image is not None
    assert split.image.range == (0.0, 255.0)
    assert split.image.margin == pytest.approx(4 / 28)


def test_missing_files_are_named_with_what_to_do(tmp_path):
    files = small_mnist()
    del files[TRAIN_LABELS], files[TEST_IMAGES]
    with pytest.raises(DataError) as caught:
        load_mnist(write(tmp_path, files), SHARES)
    assert str(caught.value) == f"MNIST: {tmp_path}/mnist lacks {TRAIN_LABELS}, {TEST_IMAGES}; {WHAT_TO_DO}"


def test_a_missing_folder_is_told_the_same(tmp_path):
    with pytest.raises(DataError) as caught:
        load_mnist(tmp_path / "nowhere", SHARES)
    assert str(caught.value) == f"MNIST: {tmp_path}/nowhere/mnist lacks {', '.join(FILES)}; {WHAT_TO_DO}"


@pytest.mark.parametrize(
    ("first", "second"), [(TRAIN_IMAGES, TEST_IMAGES), (TRAIN_LABELS, TEST_LABELS), (TRAIN_IMAGES, TRAIN_LABELS)]
)
def test_files_under_each_others_names_are_refused(tmp_path, first, second):
    """Images must not silently get other images' labels."""
    files = small_mnist()
    files[first], files[second] = files[second], files[first]
    with pytest.raises(DataError, match="MNIST"):
        load_mnist(write(tmp_path, files), SHARES)


def test_images_without_their_labels_are_refused(tmp_path):
    """One label is missing."""
    files = {**small_mnist(), TRAIN_LABELS: gzip.compress(idx(np.arange(99) % 10))}
    with pytest.raises(DataError, match="MNIST"):
        load_mnist(write(tmp_path, files), SHARES)


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Iterator[Path]:
    """An empty cache directory, and no proxy on the way to this machine."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield tmp_path / "cache" / "stillroom" / "mnist"
    with warnings.catch_warnings():  # pooch leaves the connection of a download that failed to the collector
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


Server = Callable[[dict[str, bytes]], str]


@pytest.fixture
def serve() -> Iterator[Server]:
    """Serves files on 127.0.0.1 and gives the address of their folder."""
    servers: list[ThreadingHTTPServer] = []

    def start(files: dict[str, bytes]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                raw = files.get(self.path.removeprefix("/mnist/"))
                self.send_response(404 if raw is None else 200)
                self.send_header("Content-Length", str(len(raw or b"")))
                self.end_headers()
                self.wfile.write(raw or b"")

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}/mnist/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def left(cache: Path) -> list[str]:
    return [path.name for path in cache.rglob("*")] if cache.exists() else []


def test_a_download_is_checked_and_kept(cache, serve, monkeypatch):
    """Fetched once into the user's cache; afterwards nobody need be there."""
    files = small_mnist()
    for name, raw in files.items():
        monkeypatch.setitem(mnist.FILES, name, hashlib.sha256(raw).hexdigest())
    split = load_mnist(None, SHARES, base_url=serve(files))
    assert len(split.test.labels) == 20
    assert sorted(left(cache)) == sorted(FILES)
    assert load_mnist(None, SHARES, base_url=closed_port()).sha256() == split.sha256()


def test_a_corrupt_download_is_refused_and_not_kept(cache, serve):
    """The SHA-256 decides, whatever the server says."""
    with pytest.raises(DataError) as caught:
        load_mnist(None, SHARES, base_url=serve(small_mnist()))
    message = f"MNIST: the download of {TRAIN_IMAGES} is corrupt: its SHA-256 is not 440fcabf73cc…"
    assert str(caught.value) == message
    assert left(cache) == []


def test_a_server_without_the_file_is_told_with_what_to_do(cache, serve):
    url = serve({})
    with pytest.raises(DataError) as caught:
        load_mnist(None, SHARES, base_url=url)
    assert str(caught.value) == f"MNIST: cannot download {url}{TRAIN_IMAGES} (HTTPError); {WHAT_TO_DO}"


def closed_port() -> str:
    with socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}/mnist/"


def test_offline_it_says_what_to_put_where(cache):
    """Nobody listens."""
    url = closed_port()
    with pytest.raises(DataError) as caught:
        load_mnist(None, SHARES, base_url=url)
    assert str(caught.value) == f"MNIST: cannot download {url}{TRAIN_IMAGES} (ConnectionError); {WHAT_TO_DO}"
    assert left(cache) == []


def test_a_full_disk_is_told_from_a_broken_line(cache, serve, full_disk):
    """The cache is named, and nothing half-fetched stays in it."""
    url = serve({name: bytes(5000) for name in FILES})
    with full_disk(1000), pytest.raises(DataError) as caught:
        load_mnist(None, SHARES, base_url=url)
    assert str(caught.value) == f"MNIST: cannot write the download of {TRAIN_IMAGES} to {cache}: File too large"
    assert left(cache) == []


DATA = os.environ.get("STILLROOM_DATA")


@pytest.mark.skipif(
    not (DATA and (Path(DATA) / "mnist").is_dir()), reason="needs the real MNIST: set STILLROOM_DATA to a folder of it"
)
def test_the_real_mnist():
    """The four canonical files, by their SHA-256, give 70,000 images of which the last 10,000 are the test set."""
    for name, sha256 in FILES.items():
        assert hashlib.sha256((Path(str(DATA)) / "mnist" / name).read_bytes()).hexdigest() == sha256
    split = load_mnist(Path(str(DATA)), SHARES)
    assert [len(part.labels) for part in (split.train, split.validation, split.test)] == [48_000, 12_000, 10_000]
    assert split.test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert np.bincount(split.test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
