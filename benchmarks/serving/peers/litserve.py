"""LitServe. It batches requests, so a batch is a list of their rows."""

import os
from typing import Any

import litserve  # type: ignore[import-not-found]
import numpy as np
import onnxruntime


class Model(litserve.LitAPI):
    """Rows in, probabilities out."""

    def setup(self, device: str) -> None:
        """Loads the model in the worker."""
        self.session = onnxruntime.InferenceSession(os.environ["MODEL"])

    def decode_request(self, request: dict[str, Any]) -> Any:
        """The rows of one request: float32 [N, 28, 28]."""
        return np.array(request["inputs"], dtype=np.float32).reshape(-1, 28, 28)

    def batch(self, inputs: list[Any]) -> list[Any]:
        """As they are: requests differ in rows."""
        return inputs

    def predict(self, batch: list[Any]) -> list[Any]:
        """The probabilities of each request."""
        probabilities = self.session.run(["probabilities"], {"input": np.concatenate(batch)})[0]
        return np.split(probabilities, np.cumsum([len(rows) for rows in batch])[:-1])

    def unbatch(self, output: list[Any]) -> list[Any]:
        """As they are."""
        return output

    def encode_response(self, output: Any) -> dict[str, Any]:
        """Of one request."""
        return {"probabilities": output.tolist()}


if __name__ == "__main__":
    api = Model(max_batch_size=64, batch_timeout=0.002)
    litserve.LitServer(api, accelerator="cpu", workers_per_device=1).run(
        host="127.0.0.1", port=int(os.environ["PORT"]), generate_client_file=False, access_log=False
    )
