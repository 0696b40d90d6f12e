"""The endpoint that one writes in ten minutes: FastAPI, pydantic, onnxruntime, all with their defaults.

    MODEL=path/to/model.onnx uvicorn benchmarks.serving.ten_minutes:app --port 9000

It is the other side of the serving benchmarks, and knows nothing of this project.
"""

import os
from typing import Any

import numpy as np
import onnxruntime
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
session = onnxruntime.InferenceSession(os.environ["MODEL"])


class Rows(BaseModel):
    """One image a row, flat."""

    inputs: list[list[float]]


@app.post("/predict")
def predict(rows: Rows) -> dict[str, Any]:
    """The probabilities of each row."""
    inputs = np.array(rows.inputs, dtype=np.float32).reshape(-1, 28, 28)
    probabilities = session.run(["probabilities"], {"input": inputs})[0]
    return {"labels": probabilities.argmax(axis=1).tolist(), "probabilities": probabilities.tolist()}
