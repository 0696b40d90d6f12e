"""`make check-gpu` runs to its end and writes its figures: here on the CPU with tiny networks, for want of a GPU."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import main


def test_the_whole_of_it_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Each figure names its device and the provider that was got."""
    assert main(["--device", "cpu", "--quick", "--results-dir", str(tmp_path)]) == 0
    found, text = json.loads((tmp_path / "gpu.json").read_text()), (tmp_path / "gpu.md").read_text()
    assert capsys.readouterr().out == text + "\n"
    assert [row["members"] for row in found["training"]] == [1, 2]
    assert [(row["model"], row["rows"]) for row in found["runs"]] == [
        (model, rows) for model in ("bench-student", "bench-ensemble") for rows in (1, 2)
    ]
    assert all(row["session_ms"] > 0 and row["recorded_ms"] > 0 for row in found["runs"])
    (compared,) = found["compared"]
    assert {model["provider"] for model in compared["report"]["models"]} == {"CPUExecutionProvider"}
    assert "| cpu | bench-student | CPUExecutionProvider |" in text
    if shutil.which("wrk") is None:
        assert found["serving"] == "wrk is not installed"
    else:
        assert len(found["serving"]) == 4
        assert all(row["failed"] == 0 and row["rate"] > 0 for row in found["serving"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_nothing_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """And nothing is written over."""
    assert main(["--results-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "PyTorch finds no CUDA device: nothing was measured\n"
    assert list(tmp_path.iterdir()) == []
