"""What only a GPU can show: `make check-gpu` runs these; elsewhere they skip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from service.model import load_model
from service.recorded import SIZES, Bucket, Recorded, not_recorded
from service.session import CUDA, open_session
from tests.repositories import write_model
from trainer.fit import Examples, fit
from trainer.losses import cross_entropy
from trainer.networks import Normalise, Stack
from trainer.recipe import Training

pytestmark = pytest.mark.gpu

needs_torch_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA device")
needs_onnxruntime_cuda = pytest.mark.skipif(
    CUDA not in onnxruntime.get_available_providers() or not torch.cuda.is_available(),
    reason="onnxruntime was built without CUDA, or there is no CUDA device",
)


@needs_torch_cuda
def test_a_stack_trains_on_the_gpu_and_resumes_to_the_same_weights(tmp_path: Path):
    """The generators, the optimiser and the best weights survive a checkpoint there too."""
    device = torch.device("cuda")
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(512, 16, generator=draw)
    examples = Examples(inputs.to(device), (inputs.sum(dim=1) > 0).long().to(device))
    weights = []
    for epochs in ((6,), (3, 6)):
        for upto in epochs:
            stack = Stack([16, 32, 2], range(3), Normalise(torch.tensor(0.0), torch.tensor(1.0)), 0.2).to(device)
            settings = Training(hidden=(32,), dropout=0.2, epochs=6, batch_size=64)
            checkpoint = tmp_path / f"{len(epochs)}.safetensors"

            def stop(progress, last=upto):
                if progress.epoch == last < 6:
                    raise KeyboardInterrupt

            try:
                loss = lambda logits, batch: cross_entropy(logits, batch.labels)  # noqa: E731
                choice = fit(stack, examples, examples, loss, settings, range(3), checkpoint, stop)
            except KeyboardInterrupt:
                continue
            weights.append(torch.cat([parameter.flatten() for parameter in stack.parameters()]))
    assert torch.equal(*weights)
    assert max(choice.errors) < 60


@needs_onnxruntime_cuda
@pytest.mark.parametrize("shape", [(8, 8), (28, 28)])
def test_recorded_runs_answer_as_the_session_does(shape: tuple[int, int], tmp_path: Path):
    """For every number of rows, in any order, from several threads, and beyond the largest size."""
    folder = write_model(tmp_path, shape=shape)
    session = open_session((folder / "model.onnx").read_bytes(), device="cuda", threads=1, records=True)
    outputs = ["probabilities", "logits"]
    made = Recorded([Bucket(session, rows, shape, outputs, 10, "cuda") for rows in SIZES])
    plain = load_model(folder, device="cpu")
    draw = np.random.default_rng(0)
    for rows in draw.permutation(300):
        inputs = draw.uniform(0, 16, (1 + rows, *shape)).astype(np.float32)
        found = made.run(inputs) or session.run(outputs, {"input": inputs}, not_recorded())
        np.testing.assert_allclose(found[0], plain.run(inputs).probabilities_BK, atol=1e-4)


@needs_onnxruntime_cuda
def test_a_model_on_cuda_answers_as_on_the_cpu(tmp_path: Path):
    """`provider` says what was got, and the probabilities are the CPU's to 1e-4."""
    folder = write_model(tmp_path)
    on_gpu, on_cpu = load_model(folder, device="cuda"), load_model(folder, device="cpu")
    inputs = np.random.default_rng(0).uniform(0, 16, (64, 8, 8)).astype(np.float32)
    assert on_gpu.provider == CUDA
    assert np.abs(on_gpu.run(inputs).probabilities_BK - on_cpu.run(inputs).probabilities_BK).max() < 1e-4
