"""mosec. `forward` is given the decoded bodies of a batch."""

import os
from typing import Any

import mosec  # type: ignore[import-not-found]
import numpy as np
import onnxruntime


class Model(mosec.Worker):
    """Rows in, probabilities out."""

    def __init__(self) -> None:
        self.session = onnxruntime.InferenceSession(os.environ["MODEL"])

    def forward(self, data: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The probabilities of each request."""
        batch = [np.array(request["inputs"], dtype=np.float32).reshape(-1, 28, 28) for request in data]
        probabilities = self.session.run(["probabilities"], {"input": np.concatenate(batch)})[0]
        parts = np.split(probabilities, np.cumsum([len(rows) for rows in batch])[:-1])
        return [{"probabilities": part.tolist()} for part in parts]


if __name__ == "__main__":
    server = mosec.Server()
    server.append_worker(Model, num=1, max_batch_size=64, max_wait_time=2, route="/predict")
    server.run()  # on MOSEC_PORT
