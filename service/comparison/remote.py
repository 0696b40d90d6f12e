"""A model behind a URL, on any server of the Open Inference Protocol v2: Triton, KServe, MLServer, this one.

It knows what the server says of the model and what its answers mean. It does not know what they are compared with.
Legend: B batch, K classes.
"""

from __future__ import annotations

import math
from types import TracebackType
from typing import Any, Literal
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from service import measures
from service.comparison.client.answers import Answers
from service.comparison.client.metadata import Interface, fit, read_interface
from service.comparison.client.server import JSON_LENGTH, Headers, Server, said
from service.comparison.client.tensors import parse_object, read_body, write_body
from service.model import Prediction
from service.protocol.datatypes import NUMBERS

SUM_TOLERANCE = 1e-3
SMALLEST = math.exp(measures.FLOOR)

Floats = NDArray[np.float32]


def connect(
    url: str, name: str, version: str | int | None = None, headers: Headers = (), *, timeout_s: float = 30.0
) -> RemoteModel:
    """A model, by default the version that the server chooses; `headers` go with every request, say a key.

    Raises RemoteError, naming the URL, what was expected and what came, and InputError where the URL or a header
    cannot be one.
    """
    server = Server(url, headers, timeout_s)
    path = f"/v2/models/{quote(name, safe='')}"
    if version is not None:
        path += f"/versions/{quote(str(version), safe='')}"
    try:
        about = _optional(server.get("/v2"))
        metadata = _metadata(server, path, is_known=bool(about))
        config = _optional(server.get(f"{path}/config"))
        interface = read_interface(metadata, config)
    except ValueError as error:
        raise server.wrong(path, str(error)) from error
    finally:
        server.close()
    extensions = about.get("extensions")
    binary = isinstance(extensions, list) and "binary_tensor_data" in extensions
    return RemoteModel(server, name, path, interface, binary=binary)


class RemoteModel:
    """Asked over one connection, by one thread at a time. `version` is the one that answered last, where it is told."""

    def __init__(self, server: Server, name: str, path: str, interface: Interface, *, binary: bool) -> None:
        self.target, self.name, self.interface = server.target, name, interface
        self.version: str | None = None
        self.encoding: Literal["binary", "JSON"] = "binary" if binary else "JSON"
        self.classes = interface.classes
        self._server, self._path = server, f"{path}/infer"
        self._is_distribution: bool | None = None
        """Of an output that does not say by its name; None before the first answer."""

    def __repr__(self) -> str:
        return f"RemoteModel({self.name} at {self.target.url})"

    def __enter__(self) -> RemoteModel:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """The connection; a later run opens it again."""
        self._server.close()

    def request(self, inputs: Floats) -> bytes:
        """All the bytes of a request for rows [B, ...]. Raises RemoteError where the model takes no such rows."""
        tensor = self.interface.input
        try:
            shape = fit(self.interface, inputs.shape)
            values = _cast(inputs, tensor.datatype)
        except ValueError as error:
            raise self._server.wrong(self._path, str(error)) from error
        binary = self.encoding == "binary"
        body, json_length = write_body(tensor._replace(shape=shape), values, self.interface.outputs, binary=binary)
        return self._server.request("POST", self._path, body, json_length if binary else None)

    def run(self, inputs: Floats) -> Prediction:
        """Answers for rows [B, ...]. Raises RemoteError."""
        answers = self.send(self.request(inputs))
        try:
            answer = read_body(answers.body, answers.field(JSON_LENGTH.lower()), self.interface.outputs)
            prediction = self._meaning({name: self._rows(v, name, len(inputs)) for name, v in answer.outputs.items()})
        except ValueError as error:
            raise self._server.wrong(self._path, str(error)) from error
        self.version = answer.version
        return prediction

    def send(self, request: bytes) -> Answers:
        """The answer to a request of `request`'s, unread, good until the next one. Raises RemoteError."""
        answers = self._server.ask(self._path, request)
        if answers.status != 200:
            raise self._server.wrong(self._path, said(answers))
        return answers

    def _rows(self, values: Floats, name: str, rows: int) -> Floats:
        """An output as [B, K], finite."""
        if rows == 1 and values.ndim == 1:
            values = values[np.newaxis]
        if values.ndim != 2 or len(values) != rows or values.shape[1] != (self.classes or max(2, values.shape[1])):
            expected = [rows, self.classes or "K"]
            raise ValueError(
                f"output {name} has the shape {list(values.shape)}, expected {expected}, 2 classes or more"
            )
        if bad := int((~np.isfinite(values)).any(axis=1).sum()):
            raise ValueError(f"output {name} is not finite (NaN or infinite) on {bad} of {rows} rows")
        self.classes = values.shape[1]
        return values

    def _meaning(self, outputs: dict[str, Floats]) -> Prediction:
        """Probabilities and logits, either from the other where one is missing."""
        probabilities, logits = outputs.get("probabilities"), outputs.get("logits")
        if probabilities is None and logits is None:
            ((name, values),) = outputs.items()
            if self._distribution(name, values):
                probabilities = values
            else:
                logits = values
        if probabilities is None:
            assert logits is not None
            probabilities = np.exp(measures.log_softmax(logits)).astype(np.float32)
        elif not _sums_to_one(probabilities):
            raise ValueError(f"the rows of output probabilities sum to {_sums(probabilities)}, expected 1")
        if logits is None:
            logits = np.log(np.maximum(probabilities, SMALLEST, dtype=np.float64)).astype(np.float32)
        return Prediction(probabilities, logits)

    def _distribution(self, name: str, values: Floats) -> bool:
        """Whether rows are distributions, else logits: as the first ones were."""
        sums, within = _sums_to_one(values), _is_within(values)
        if self._is_distribution is None and within and not sums:
            raise ValueError(
                f"ambiguous: output {name} looks like probabilities, but its rows sum to {_sums(values)}, expected 1"
            )
        if self._is_distribution is None:
            self._is_distribution = sums
        if self._is_distribution and not sums:
            raise ValueError(f"the rows of output {name} sum to {_sums(values)}, expected 1 as in the answers before")
        return self._is_distribution


def _optional(answers: Answers) -> dict[str, Any]:
    """What a server need not tell: empty where it does not."""
    try:
        return parse_object(answers.body) if answers.status == 200 else {}
    except ValueError:
        return {}


def _metadata(server: Server, path: str, *, is_known: bool) -> dict[str, Any]:
    answers = server.get(path)
    if answers.status == 200:
        return parse_object(answers.body)
    doubt = "" if is_known else "; /v2 does not answer as a server of the Open Inference Protocol does"
    raise server.wrong(path, f"{said(answers)}; expected the metadata of a model{doubt}")


def _cast(inputs: Floats, datatype: str) -> NDArray[Any]:
    with np.errstate(invalid="ignore", over="ignore"):
        values = inputs.astype(NUMBERS[datatype])
    if values.dtype.kind != "f" and not np.array_equal(values.astype(np.float32), inputs):
        raise ValueError(f"the model takes {datatype}, but the inputs are not such numbers")
    return values


def _is_within(values: Floats) -> bool:
    return bool((values >= -SUM_TOLERANCE).all() and (values <= 1 + SUM_TOLERANCE).all())


def _sums_to_one(values: Floats) -> bool:
    return _is_within(values) and np.allclose(values.sum(axis=1, dtype=np.float64), 1, rtol=0, atol=SUM_TOLERANCE)


def _sums(values: Floats) -> str:
    sums = values.sum(axis=1, dtype=np.float64)
    return f"{sums.min():.3g} to {sums.max():.3g}"
