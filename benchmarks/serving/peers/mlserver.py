"""MLServer, by a runtime of one's own: it ships none for ONNX. It joins requests along the first axis by itself."""

import os
import tempfile

import mlserver  # type: ignore[import-not-found]
import numpy as np
import onnxruntime
import uvloop
from mlserver.codecs import NumpyCodec  # type: ignore[import-not-found]
from mlserver.types import InferenceRequest, InferenceResponse  # type: ignore[import-not-found]


class Model(mlserver.MLModel):
    """Rows in, probabilities out."""

    async def load(self) -> bool:
        """Loads the model in the worker."""
        self.session = onnxruntime.InferenceSession(os.environ["MODEL"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """The probabilities of a batch."""
        inputs = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32, copy=False)
        probabilities = self.session.run(["probabilities"], {"input": inputs})[0]
        return InferenceResponse(
            model_name=self.name, outputs=[NumpyCodec.encode_output("probabilities", probabilities)]
        )


async def main() -> None:
    """What `mlserver start` does with its two JSON files."""
    port = int(os.environ["PORT"])
    settings = mlserver.Settings(
        host="127.0.0.1",
        http_port=port,
        grpc_port=port + 1,
        metrics_port=port + 2,
        metrics_dir=tempfile.mkdtemp(),  # by default the working folder
        debug=False,
    )
    model = mlserver.ModelSettings(
        name="model",
        implementation="benchmarks.serving.peers.mlserver.Model",
        max_batch_size=64,
        max_batch_time=0.002,
    )
    await mlserver.MLServer(settings).start([model])


if __name__ == "__main__":
    uvloop.run(main())
