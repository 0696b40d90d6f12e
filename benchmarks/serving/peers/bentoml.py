"""BentoML. It joins requests along the first axis by itself, and finds how long to wait for more.

bentoml serve benchmarks.serving.peers.bentoml:Model
"""

import os
from typing import Any

import bentoml  # type: ignore[import-not-found]
import numpy as np
import onnxruntime


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Model:
    """Rows in, probabilities out."""

    def __init__(self) -> None:
        self.session = onnxruntime.InferenceSession(os.environ["MODEL"])

    @bentoml.api(batchable=True, max_batch_size=64)
    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """The probabilities of a batch."""
        rows: Any = inputs.astype(np.float32).reshape(-1, 28, 28)
        probabilities: np.ndarray = self.session.run(["probabilities"], {"input": rows})[0]
        return probabilities
