"""Tensors on disk: whole or not at all."""

import pytest
import torch

from trainer.checkpoint import load_tensors, save_tensors, write_bytes
from trainer.errors import RunError

TENSORS = {
    "weights": torch.randn(3, 4, generator=torch.Generator().manual_seed(0)),
    "transposed": torch.arange(6.0).view(2, 3).T,
    "errors": torch.tensor([2**62, 0]),
    "state": torch.Generator().manual_seed(5).get_state(),
    "nll": torch.tensor([float("inf"), 0.1], dtype=torch.float64),
    "step": torch.tensor(3.0),
}


def test_tensors_and_facts_come_back_as_they_were(tmp_path):
    """Bit for bit, in their types and shapes; generators, infinities and scalars, too."""
    save_tensors(tmp_path / "c", TENSORS, {"epoch": 3, "errors": [1, 2]})
    tensors, facts = load_tensors(tmp_path / "c")
    assert facts == {"epoch": 3, "errors": [1, 2]}
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)


def test_a_missing_folder_is_made(tmp_path):
    """The first checkpoint of a run makes its folder."""
    save_tensors(tmp_path / "a" / "b" / "c", TENSORS, {})
    assert load_tensors(tmp_path / "a" / "b" / "c")[1] == {}


@pytest.mark.parametrize("length", [0, 1, 7, 8, 60, 300, -1])
def test_a_truncated_file_is_damaged(tmp_path, length):
    """Wherever it was cut, the error says which file it is and what to do."""
    path = tmp_path / "c"
    save_tensors(path, TENSORS, {"epoch": 3})
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(RunError, match=r"/c is damaged \(.*\); run again without --resume"):
        load_tensors(path)


@pytest.mark.parametrize("raw", [b"no tensors at all" * 10, b"\xff" * 100])
def test_another_file_is_damaged(tmp_path, raw):
    """So is something that was never a checkpoint."""
    (tmp_path / "c").write_bytes(raw)
    with pytest.raises(RunError, match="is damaged"):
        load_tensors(tmp_path / "c")


def test_a_file_without_facts_is_damaged(tmp_path):
    """Somebody else's safetensors file is not a checkpoint."""
    from safetensors.torch import save_file

    save_file({"weights": torch.zeros(2)}, tmp_path / "c")
    with pytest.raises(RunError, match="is damaged"):
        load_tensors(tmp_path / "c")


def test_a_full_disk_leaves_the_old_file_whole(tmp_path, full_disk):
    """The error says which file, why, and what to do; nothing half-written stays."""
    path = tmp_path / "c"
    save_tensors(path, TENSORS, {"epoch": 3})
    before = path.read_bytes()
    with full_disk(100), pytest.raises(RunError) as caught:
        save_tensors(path, TENSORS, {"epoch": 4})
    assert str(caught.value) == f"cannot write {path}: File too large; choose another place with --runs-dir"
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["c"]


def test_a_folder_that_cannot_be_made_is_an_error_of_the_run(tmp_path):
    """A file stands where the folder should be."""
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot write .*/file/c: .*; choose another place with --runs-dir"):
        write_bytes(tmp_path / "file" / "c", b"raw")


def test_an_interrupted_write_leaves_nothing_beside(tmp_path, monkeypatch):
    """Ctrl-C while the disk works."""

    def interrupted(_descriptor: int) -> None:
        raise KeyboardInterrupt

    (tmp_path / "c").write_bytes(b"old")
    monkeypatch.setattr("os.fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(tmp_path / "c", b"new")
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == {"c": b"old"}
