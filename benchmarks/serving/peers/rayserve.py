"""Ray Serve. A replica takes as many requests at once as may wait for a batch and be in one."""

import os
from typing import Any

import numpy as np
import onnxruntime
import ray
from ray import serve
from starlette.requests import Request


@serve.deployment(num_replicas=1, max_ongoing_requests=128, logging_config={"enable_access_log": False})
class Model:
    """Rows in, probabilities out."""

    def __init__(self) -> None:
        self.session = onnxruntime.InferenceSession(os.environ["MODEL"])

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.002)
    async def predict(self, batch: list[Any]) -> list[Any]:
        """The probabilities of each request."""
        probabilities = self.session.run(["probabilities"], {"input": np.concatenate(batch)})[0]
        return np.split(probabilities, np.cumsum([len(rows) for rows in batch])[:-1])

    async def __call__(self, request: Request) -> dict[str, Any]:
        """One request."""
        rows = (await request.json())["inputs"]
        probabilities = await self.predict(np.array(rows, dtype=np.float32).reshape(-1, 28, 28))
        return {"probabilities": probabilities.tolist()}


if __name__ == "__main__":
    ray.init(address="local", include_dashboard=False)  # by default it would join a cluster that runs here already
    address = {"host": "127.0.0.1", "port": int(os.environ["PORT"])}
    serve.start(http_options=address, logging_config={"enable_access_log": False})
    serve.run(Model.bind(), blocking=True)  # type: ignore[attr-defined]
