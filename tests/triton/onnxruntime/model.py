"""Triton's backend `onnxruntime`, spoken by pip's onnxruntime, for a Triton that came without the one in C++.

Triton loads it where it stands as BACKENDS/onnxruntime/model.py beside its Python backend. It runs in Triton's own
interpreter and knows nothing of this project. https://github.com/triton-inference-server/python_backend
"""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import triton_python_backend_utils as triton


class TritonPythonModel:
    """A version of a model."""

    def initialize(self, args):
        """Opens the file that the configuration names, and sees that it has what that says."""
        config = json.loads(args["model_config"])
        file = config.get("default_model_filename") or "model.onnx"
        path = Path(args["model_repository"]) / args["model_version"] / file
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.inputs = [tensor["name"] for tensor in config["input"]]
        self.outputs = [tensor["name"] for tensor in config["output"]]
        has = {tensor.name for tensor in (*self.session.get_inputs(), *self.session.get_outputs())}
        if missing := {*self.inputs, *self.outputs} - has:
            raise triton.TritonModelException(f"{path} has no {', '.join(missing)}")

    def execute(self, requests):
        """Requests that were batched: one run for all."""
        given = {
            name: [triton.get_input_tensor_by_name(request, name).as_numpy() for request in requests]
            for name in self.inputs
        }
        results = self.session.run(self.outputs, {name: np.concatenate(parts) for name, parts in given.items()})
        ends = np.cumsum([len(part) for part in given[self.inputs[0]]])[:-1]
        shares = zip(*(np.split(result, ends) for result in results), strict=True)
        return [self._response(request, share) for request, share in zip(requests, shares, strict=True)]

    def _response(self, request, share):
        wanted = request.requested_output_names()
        tensors = [
            triton.Tensor(name, np.ascontiguousarray(rows))
            for name, rows in zip(self.outputs, share, strict=True)
            if name in wanted
        ]
        return triton.InferenceResponse(tensors)
