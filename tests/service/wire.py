"""A bare connection to the service, and the requests that tests of the hot routes send on it."""

from __future__ import annotations

import json
import socket
from typing import Any

import httpx

from tests.repositories import examples

INPUTS, _ = examples(3)
FLAT = INPUTS.reshape(3, -1).astype(int).tolist()
V2 = "/v2/models/digits-student/infer"


def predict(**fields: Any) -> bytes:
    return json.dumps({"inputs": FLAT, **fields}).encode()


def infer(**changes: Any) -> bytes:
    given = {"name": "input", "shape": [3, 64], "datatype": "FP32", "data": FLAT, **changes}
    return json.dumps({"id": "7", "inputs": [given]}).encode()


def binary() -> tuple[bytes, dict[str, str]]:
    size = {"binary_data_size": INPUTS.nbytes}
    given = {"name": "input", "shape": [3, 8, 8], "datatype": "FP32", "parameters": size}
    head = json.dumps({"inputs": [given], "parameters": {"binary_data_output": True}}).encode()
    return head + INPUTS.tobytes(), {"Inference-Header-Content-Length": str(len(head))}


class Wire:
    """A bare connection to the service."""

    def __init__(self, client: httpx.Client) -> None:
        self.socket = socket.create_connection((client.base_url.host, client.base_url.port or 80), timeout=20)
        self.stream = self.socket.makefile("rb")

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()
        self.socket.close()

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        status = int(self.stream.readline().split()[1])
        headers: dict[str, str] = {}
        while line := self.stream.readline().strip().decode():
            name, _, value = line.partition(": ")
            headers[name] = value
        return status, headers, self.stream.read(int(headers["content-length"]))


def request(body: bytes, path: str = "/predict", *headers: str, version: str = "1.1") -> bytes:
    lines = [f"POST {path} HTTP/{version}", "Host: service", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def labels(body: bytes) -> list[str]:
    """Of an answer of /predict."""
    found: list[str] = json.loads(body)["labels"]
    return found
