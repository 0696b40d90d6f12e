"""Servers and answers that a comparison cannot use: each is told with its reason."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from service.comparison.remote import connect
from service.errors import InputError, RemoteError
from tests.served import free_port
from tests.service.scripted import END, answer, scripted
from tests.service.test_remote import INPUTS, MODEL, P, flat, infer, metadata, server, tensor


def wrong(routes: dict[str, Any], text: str) -> None:
    with server(routes) as there, pytest.raises(RemoteError) as raised, connect(there.url, "m") as model:
        model.run(INPUTS)
    assert str(raised.value).startswith(there.url)
    assert text in str(raised.value)


Y = tensor("y", [-1, 10])


@pytest.mark.parametrize(
    ("told", "text"),
    [
        (
            answer({"error": "Request for unknown model: 'm' is not found" + "!" * 300}, 404),
            "/v2/models/m: 404 Request",
        ),
        (answer(b"", 301, "Location: http://other/\r\n"), "301, go to http://other/: redirects are not followed"),
        (answer({"error": "loading"}, 503), "503 loading; expected the metadata of a model"),
        (answer(b"<html>\x1b[2J"), "what came is no JSON, but b'<html>\\x1b[2J'"),
        (answer([1]), "what came is a list, expected an object"),
        (answer(b"[" * 100_000), "what came is no JSON"),
        ({"inputs": 3}, "inputs is no list of objects with a name, a datatype and a shape"),
        ({"inputs": [{"name": "x"}]}, "inputs is no list of objects with a name, a datatype and a shape"),
        ({}, "the model takes nothing that it names, expected one input of numbers"),
        ({"inputs": [tensor("x", [-1], "BYTES")]}, "the model takes x BYTES [-1], expected one input of numbers"),
        (
            metadata(),
            "the model gives nothing that it names, expected probabilities or logits, or one output of floats",
        ),
        (metadata(Y, tensor("z", [-1, 10])), "the model gives y FP32 [-1, 10], z FP32 [-1, 10], expected"),
        (metadata(tensor("y", [-1, 1])), "the model gives y FP32 [-1, 1], expected"),
        (metadata(Y, row=(-1, 9)), "/infer: got rows of [8, 8], expected input x of [-1, 9]"),
    ],
)
def test_metadata_that_cannot_be_used_is_told(told: Any, text: str):
    """With the URL, what came and what was expected, shortened."""
    wrong({MODEL: told}, text)


def of_y(**output: Any) -> bytes:
    return answer({"outputs": [{**tensor("y", [4, 10], data=P.ravel().tolist()), **output}]})


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (answer({"error": "the queue is full"}, 503), "503 the queue is full"),
        (answer({"detail": "bad"}, 400), "400 bad"),
        (answer(b"\x00\x01 gateway\n down", 502), "502 gateway down"),
        (answer(b"", 307, "Location: /elsewhere\r\n"), "307, go to /elsewhere: redirects are not followed"),
        (answer(b"{"), "what came is no JSON, but"),
        (answer({"outputs": {}}), "outputs is no list of objects"),
        (answer({}), "the answer has the outputs none, expected y too"),
        (of_y(name="z"), "the answer has the outputs z, expected y too"),
        (of_y(datatype="INT64"), "output y is INT64, expected one of FP16, FP32, FP64"),
        (of_y(data=[1.0]), "output y is short or long: 1 numbers, expected those of the shape [4, 10]"),
        (of_y(data=[[1.0], 2.0]), "output y holds no numbers of FP32"),
        (of_y(data=None), "output y is short or long"),
        (of_y(data=["a"] * 40), "output y holds no numbers of FP32"),
        (of_y(data=[10**400] * 40), "output y holds no numbers of FP32"),
        (of_y(shape=[-4, -10]), "output y is short or long: 40 numbers, expected those of the shape [-4, -10]"),
        (of_y(shape=[40]), "output y has the shape [40], expected [4, 10]"),
        (of_y(shape=[8, 5]), "output y has the shape [8, 5], expected [4, 10]"),
        (of_y(shape=[4, 5], data=[0.2] * 20), "output y has the shape [4, 5], expected [4, 10]"),
        (of_y(data=[float("nan")] * 40), "output y is not finite (NaN or infinite) on 4 of 4 rows"),
        (of_y(data=[1e300] * 40), "output y is not finite (NaN or infinite) on 4 of 4 rows"),
        (of_y(data=[0.5] * 40), "ambiguous: output y looks like probabilities, but its rows sum to 5 to 5, expected 1"),
        (of_y(parameters={"binary_data_size": 160}), "output y is short: 0 bytes, expected 160"),
        (of_y(parameters={"binary_data_size": -1}), "output y is short: 0 bytes, expected -1"),
        (END, "the connection was closed without an answer; expected an answer over HTTP/1.1"),
        (b"SSH-2.0-OpenSSH\r\n", "what came is no HTTP/1.1 answer; expected"),
        (
            answer({"outputs": []}, head="Inference-Header-Content-Length: 99\r\n"),
            "Inference-Header-Content-Length is '99', expected at most 15",
        ),
    ],
)
def test_an_answer_that_cannot_be_used_is_told(said: bytes, text: str):
    """With the URL of the model."""
    wrong({MODEL: metadata(Y), f"{MODEL}/infer": said}, f"{MODEL}/infer: {text}")


def test_binary_answers_that_are_short_are_told():
    """Their size and their shape must agree."""
    head = json.dumps({"outputs": [tensor("y", [4, 10], parameters={"binary_data_size": 6})]}).encode()
    said = answer(head + bytes(6), head=f"Inference-Header-Content-Length: {len(head)}\r\n")
    wrong({MODEL: metadata(Y), f"{MODEL}/infer": said}, "output y holds no numbers of FP32")
    wrong(
        {MODEL: metadata(Y), f"{MODEL}/infer": said.replace(b": 6}", b": 4}")}, "output y is short or long: 1 numbers"
    )


def test_an_output_does_not_change_its_meaning():
    """Distributions at first, so later too; and named probabilities are always distributions."""
    say = {"probabilities": P}
    routes = {MODEL: metadata(Y), f"{MODEL}/infer": lambda request: infer(flat("y", say["probabilities"]))(request)}
    with server(routes) as there, connect(there.url, "m") as model:
        model.run(INPUTS)
        say["probabilities"] = P * 3
        with pytest.raises(RemoteError, match="rows of output y sum to 3 to 3, expected 1 as in the answers before"):
            model.run(INPUTS)
    wrong(
        {MODEL: metadata({**Y, "name": "probabilities"}), f"{MODEL}/infer": infer(flat("probabilities", P * 3))},
        "the rows of output probabilities sum to 3 to 3, expected 1",
    )


def test_a_server_that_is_none_is_told():
    """Nobody listens, nobody has that name, another protocol, no answer in time."""
    port = free_port()
    with pytest.raises(RemoteError, match=rf"^http://127.0.0.1:{port}/v2: Connection refused; expected an answer over"):
        connect(f"http://127.0.0.1:{port}", "m")
    with pytest.raises(RemoteError, match=r"^http://nowhere.invalid/v2: .*(name|Name).*; expected an answer over HTTP"):
        connect("http://nowhere.invalid", "m")
    doubt = r"404 Not Found; expected the metadata of a model; /v2 does not answer as a server of the Open Inference"
    with scripted(lambda request: answer(b"Not Found", 404)) as there, pytest.raises(RemoteError, match=doubt):
        connect(there.url, "m")
    done = threading.Event()
    with scripted(lambda request: (done.wait(5) and answer()) or END) as there:
        with pytest.raises(RemoteError, match=r"/v2: no whole answer within 0.05 s; expected an answer over HTTP/1.1$"):
            connect(there.url, "m", timeout_s=0.05)
        done.set()


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("ftp://there", "got the URL 'ftp://there'; expected http://host:port/path or https://..., without a query"),
        ("there:8000", "got the URL 'there:8000'; expected"),
        ("http://", "got the URL 'http://'; expected"),
        ("http://there:99999", "got the URL 'http://there:99999': Port out of range 0-65535; expected"),
        ("http://[::1", "got the URL 'http://[::1': Invalid IPv6 URL; expected"),
        ("http://there/?a=b", "without a query"),
        ("http://me:secret@there/", "holds a space, a control character, a name or a password"),
        ("http://there/a b", "holds a space, a control character, a name or a password"),
        ("http://there\r\nX: y", "holds a space, a control character, a name or a password"),
        (f"http://{'a' * 64}.example", "label"),
    ],
)
def test_a_url_that_is_none_is_refused(url: str, text: str):
    """Without showing a password."""
    with pytest.raises(InputError) as raised:
        connect(url, "m")
    assert text in str(raised.value)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("header", [("Host", "x"), ("A b", "x"), ("Key", "secret\r\nX: y"), ("Key", "secret\u20ac")])
def test_a_header_that_is_none_is_refused(header: tuple[str, str]):
    """Nothing can be smuggled in, and its value does not show."""
    with pytest.raises(InputError, match="header") as raised:
        connect("http://127.0.0.1:1", "m", headers=[header])
    assert "secret" not in str(raised.value)
