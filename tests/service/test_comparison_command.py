"""`python -m service compare`: over a repository, over plain ONNX files, at a service, against other servers."""

from __future__ import annotations

import io
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from service.__main__ import main
from service.comparison.onnx_files import names_of
from service.comparison.schema.report import Report
from service.front.keys import make_key
from tests.repositories import examples, known_logits, linear, write_model, write_pair
from tests.served import free_port, running

QUICK = ["--blocks", "3", "--batch", "2", "--scenarios", "none"]
PAIR = ["--models", "digits-student,digits-ensemble"]


@pytest.fixture(autouse=True)
def _same_signals(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("STILLROOM_API_KEY", raising=False)
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def own_data(folder: Path, count: int = 40, **arrays: Any) -> Path:
    inputs, labels = examples(count)
    np.savez(folder / "own.npz", inputs=inputs, labels=labels, **arrays)
    return folder / "own.npz"


def plain_onnx(path: Path, seed: int, *, name: str = "scores", softmax: bool = False) -> Path:
    """A file without a manifest: x [B, 64] -> one output [B, 10], logits or probabilities."""
    weights, bias = linear((8, 8), 10, seed)
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["z" if softmax else name])]
    nodes += [helper.make_node("Softmax", ["z"], [name], axis=1)] if softmax else []
    graph = helper.make_graph(
        nodes,
        "plain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 64])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(bias, "b")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
    return path


def test_a_repository_is_compared_without_a_server_and_the_exit_status_is_the_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pair(tmp_path / "models")
    out = {kind: tmp_path / f"r.{kind}" for kind in ("json", "html", "markdown", "samples")}
    files = [part for kind, path in out.items() for part in (f"--{kind}", str(path))]
    assert main(["compare", str(tmp_path / "models"), *PAIR, *QUICK, "--margin", "90", "--limit", "30", *files]) == 0
    said = capsys.readouterr()
    report = Report.model_validate_json(out["json"].read_text())
    assert said.out.startswith("# digits-student/1 vs digits-ensemble/1\n")
    assert out["markdown"].read_text().strip() == said.out.strip()
    assert out["html"].read_text().startswith("<!doctype html>")
    assert "timing single rows" in said.err
    assert (report.data.examples, report.data.dataset) == (30, "held-out")
    assert report.pairs[0].verdict is not None
    assert report.pairs[0].verdict.result == "shown"
    with np.load(out["samples"], allow_pickle=False) as arrays:
        assert sum(len(arrays[f"0-digits-student/batch-1/{at}"]) for at in range(3)) == report.models[0].calls


@pytest.mark.parametrize(("margin", "status"), [("40", 3), (None, 0)])
def test_a_verdict_that_is_not_shown_fails_a_deployment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], margin: str | None, status: int
) -> None:
    """Forty examples do not decide about the very difference that they show; without a margin nothing can fail."""
    write_pair(tmp_path)
    stated = [] if margin is None else ["--margin", margin]
    assert main(["compare", str(tmp_path), *PAIR, *QUICK, *stated]) == status
    assert ("not shown" in capsys.readouterr().out) is (status == 3)


def test_plain_onnx_files_are_compared_on_the_users_own_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One gives logits, the other probabilities; the worse of the two is refuted against the better."""
    weights, bias = linear((8, 8), 10, seed=0)
    files = [plain_onnx(tmp_path / "worse.onnx", 5), plain_onnx(tmp_path / "right.onnx", 0, softmax=True)]
    rng = np.random.default_rng(1)
    inputs = rng.uniform(0, 16, (600, 64)).astype(np.float32)
    labels = (inputs @ weights + bias).argmax(axis=1)
    np.savez(tmp_path / "own.npz", inputs=inputs, labels=labels)
    arguments = ["--onnx", *map(str, files), "--data", str(tmp_path / "own.npz"), *QUICK, "--margin", "1"]
    assert main(["compare", *arguments, "--json", str(tmp_path / "r.json")]) == 1
    report = Report.model_validate_json((tmp_path / "r.json").read_text())
    worse, right = report.models
    expected = known_logits(inputs.reshape(600, 8, 8), seed=5).argmax(axis=1)
    assert worse.accuracy == pytest.approx((expected == labels).mean())
    assert right.accuracy == 1.0
    assert (worse.name, worse.version, worse.role, worse.parameters) == ("worse", None, "file", 650)
    assert worse.multiply_accumulates == 640
    assert report.pairs[0].verdict is not None
    assert report.pairs[0].verdict.result == "refuted"
    assert capsys.readouterr().out.startswith("# worse vs right\n")


def test_own_data_for_a_repository_takes_its_classes_and_its_shape(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pair(tmp_path / "models")
    inputs, labels = examples(12)
    lines = [",".join(["kind", *(f"p{i}" for i in range(64))])]
    lines += [",".join([str(label), *map(str, row)]) for label, row in zip(labels, inputs.reshape(12, -1), strict=True)]
    (tmp_path / "own.csv").write_text("\n".join(lines))
    arguments = [str(tmp_path / "models"), *PAIR, "--data", str(tmp_path / "own.csv"), "--label", "kind", *QUICK]
    assert main(["compare", *arguments, "--limit", "9", "--json", str(tmp_path / "r.json")]) == 0
    report = Report.model_validate_json((tmp_path / "r.json").read_text())
    assert (report.data.examples, report.data.labelled, report.data.dataset) == (9, True, None)
    assert report.models[0].accuracy is not None


def test_what_cannot_be_compared_is_one_line_and_exit_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pair(tmp_path / "models")
    models, data = str(tmp_path / "models"), str(own_data(tmp_path))
    file = str(plain_onnx(tmp_path / "a.onnx", 0))
    (tmp_path / "b.onnx").write_bytes(b"no graph")
    cases = [
        ([], "got 0 places (), expected a URL, two URLs, or a models folder"),
        ([models, models], "expected a URL, two URLs, or a models folder"),
        ([str(tmp_path / "none")], "no such folder, expected a model repository or a URL"),
        ([models, "--models", "digits-student"], "models: got 1, expected two or more of: digits-ensemble, digits-st"),
        ([models, "--data", data, "--dataset", "held-out"], "--dataset: got it together with --data, expected one"),
        ([models, "--blocks", "1"], "blocks: got 1, expected greater than or equal to 3"),
        ([models, "--blocks", "x"], "argument --blocks: invalid int value: 'x'; see --help"),
        ([models, "--scenarios", "fast"], "scenarios.0: got \"fast\", expected 'offline', 'server', 'alternating'"),
        (
            [models, "--scenarios", "http", "--blocks", "3"],
            "scenarios: got http, but the models are compared without a",
        ),
        (["--onnx", file, "--data", data], "--onnx: expected two files or more, --data with examples, and no other"),
        (["--onnx", file, file], "--onnx: expected two files or more, --data with examples, and no other place"),
        (["--onnx", file, str(tmp_path / "b.onnx"), "--data", data], "b.onnx: not an ONNX file: "),
        (["--onnx", file, str(tmp_path / "c.onnx"), "--data", data], "c.onnx: No such file or directory, expected an"),
        (["--onnx", file, file, "--data", data, *PAIR], "--models: got it together with --onnx, expected one of them"),
        ([f"http://127.0.0.1:{free_port()}", *PAIR], "Connection refused"),
        (
            [models, *PAIR, *QUICK, "--json", str(tmp_path / "no" / "r.json")],
            "r.json: cannot be written: no such folder",
        ),
    ]
    for arguments, message in cases:
        assert main(["compare", *arguments]) == 2, arguments
        said = capsys.readouterr().err
        assert message in said.splitlines()[-1]
        assert said.splitlines()[-1].startswith("service: ")
        assert "timing" not in said, "refused only after it was measured"


def test_a_file_that_does_not_say_how_many_classes_there_are_needs_them_from_the_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    proto = onnx.load(plain_onnx(tmp_path / "a.onnx", 0))
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    onnx.save(proto, tmp_path / "a.onnx")
    files = ["--onnx", str(tmp_path / "a.onnx"), str(tmp_path / "a.onnx")]
    assert main(["compare", *files, "--data", str(own_data(tmp_path)), *QUICK]) == 2
    assert "which does not say how many classes there are; put their names into the data" in capsys.readouterr().err
    assert main(["compare", *files, "--data", str(own_data(tmp_path, classes=list("0123456789"))), *QUICK]) == 0


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, Path]]:
    """A real service that asks for keys: its URL, a key of every scope, its folder."""
    folder = tmp_path_factory.mktemp("service")
    write_pair(folder / "models")
    write_model(folder / "models", "flat", shape=(64,), classes="ab", role="baseline")
    secret, line = make_key("tests", ["predict", "compare", "admin"])
    port = free_port()
    options = ["--api-keys", line, "--state-dir", str(folder / "state"), "--device", "cpu", "--threads", "1"]
    with running(folder / "models", port, *options):
        yield f"http://127.0.0.1:{port}", secret, folder


def signed_in(service: tuple[str, str, Path], monkeypatch: pytest.MonkeyPatch) -> str:
    """Its URL, once the command has its key."""
    monkeypatch.setenv("STILLROOM_API_KEY", service[1])
    return service[0]


def test_a_service_is_asked_as_a_job_and_measures_its_own_http(
    service: tuple[str, str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = signed_in(service, monkeypatch)
    arguments = ["--scenarios", "http", "--rate", "200", "--json", str(tmp_path / "r.json")]
    samples = ["--samples", str(tmp_path / "s.npz")]
    assert main(["compare", url, *PAIR, *QUICK, "--margin", "90", *arguments, *samples]) == 0
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["other_runs"] == 0  # its own requests are not others'
    for index, model in enumerate(report["models"]):
        http = model["http"]
        assert (http["url"], http["encoding"], http["failures"]) == (url, "binary", 0)
        assert http["latency_ms"]["p50"] > model["latency_ms"]["p50"]
        assert http["throughput"]["value"] > 0
        assert (http["server"]["rate"], http["server"]["failures"]) == (200.0, 0)
        with np.load(io.BytesIO((tmp_path / "s.npz").read_bytes()), allow_pickle=False) as arrays:
            kept = [arrays[f"{index}-{model['name']}/http/{at}"] for at in range(3)]
        assert np.concatenate(kept).mean() * 1e3 == pytest.approx(http["latency_ms"]["mean"], rel=1e-4)
    assert report["pairs"][0]["http_speed_up"]["value"] > 0
    assert "Through HTTP" in capsys.readouterr().out


def test_through_http_requests_arrive_at_half_the_rate_of_the_slowest_answers_through_http(
    service: tuple[str, str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not at half of what the model does without HTTP, which is far above what any service does."""
    url = signed_in(service, monkeypatch)
    arguments = [
        *PAIR,
        "--blocks",
        "3",
        "--batch",
        "2",
        "--scenarios",
        "server,http",
        "--json",
        str(tmp_path / "r.json"),
    ]
    assert main(["compare", url, *arguments]) == 0
    models = json.loads((tmp_path / "r.json").read_text())["models"]
    for of, single in (
        (lambda it: it["http"], lambda it: it["http"]["latency_ms"]),
        (dict, lambda it: it["latency_ms"]),
    ):
        slowest_ms = max(single(model)["mean"] for model in models)
        assert [of(model)["server"]["rate"] for model in models] == [pytest.approx(500 / slowest_ms)] * 2


def test_own_data_travel_to_a_service(
    service: tuple[str, str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = signed_in(service, monkeypatch)
    data = str(own_data(tmp_path, 12))
    assert (
        main(["compare", url, *PAIR, "--data", data, "--limit", "9", *QUICK, "--json", str(tmp_path / "r.json")]) == 0
    )
    report = json.loads((tmp_path / "r.json").read_text())
    assert (report["data"]["examples"], report["data"]["dataset"]) == (9, None)
    drawn = np.random.default_rng(0).choice(12, size=9, replace=False)
    inputs, labels = (part[drawn] for part in examples(12))
    answers = known_logits(inputs, seed=1).argmax(axis=1)
    assert report["models"][0]["accuracy"] == pytest.approx((answers == labels).mean())


def test_pictures_travel_to_a_service_in_the_range_of_its_model(
    service: tuple[str, str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """White is 16 for the digits, as in a folder of models here."""
    url, folder = signed_in(service, monkeypatch), service[2]
    inputs, labels = examples(12)
    for index, (picture, label) in enumerate(zip(inputs, labels, strict=True)):
        (tmp_path / "own" / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray((picture * 255 / 16).round().astype(np.uint8)).save(
            tmp_path / "own" / str(label) / f"{index}.png"
        )
    hashes = []
    for where in (url, str(folder / "models")):
        arguments = [*PAIR, "--data", str(tmp_path / "own"), *QUICK, "--json", str(tmp_path / "r.json")]
        assert main(["compare", where, *arguments]) == 0
        hashes.append(json.loads((tmp_path / "r.json").read_text())["data"]["sha256"])
    assert hashes[0] == hashes[1]


def test_any_two_servers_of_the_protocol_are_compared_by_their_urls(
    service: tuple[str, str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same service stands for two: what it answers is known."""
    url = signed_in(service, monkeypatch)
    arguments = [url, url, *PAIR, "--data", str(own_data(tmp_path)), *QUICK, "--rate", "200"]
    assert main(["compare", *arguments, "--json", str(tmp_path / "r.json")]) == 0
    assert "give python -m service compare the URLs of these models, the same data, and" in capsys.readouterr().out
    report = json.loads((tmp_path / "r.json").read_text())
    for model, seed in zip(report["models"], (1, 0), strict=True):
        answers = known_logits(examples()[0], seed=seed).argmax(axis=1)
        assert model["accuracy"] == pytest.approx((answers == examples()[1]).mean())
        assert (model["role"], model["provider"], model["parameters"]) == ("remote", None, None)
        assert model["http"]["failures"] == 0
        assert model["latency_ms"]["p50"] == pytest.approx(model["http"]["latency_ms"]["p50"], rel=0.9)


def test_a_key_is_sent_to_the_server_that_it_is_for_and_to_no_other(
    service: tuple[str, str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = signed_in(service, monkeypatch)
    other = url.replace("127.0.0.1", "localhost")
    assert main(["compare", url, other, *PAIR, "--data", str(own_data(tmp_path)), *QUICK]) == 2
    assert "401 this service asks for a key" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_comparison_that_is_interrupted_does_not_pass_a_gate(
    number: signal.Signals, status: int, tmp_path: Path
) -> None:
    write_pair(tmp_path)
    command = [sys.executable, "-m", "service", "compare", str(tmp_path), *PAIR, "--blocks", "100", "--margin", "90"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stderr
        while "timing single rows" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(number)
        said, _ = process.communicate(timeout=20)
    assert (process.returncode, said) == (status, "")


def test_a_mistake_of_ours_is_no_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exit status of 1 would say `refuted`."""
    monkeypatch.setattr("service.comparison.command.markdown", lambda report: 1 / 0)
    write_pair(tmp_path)
    assert main(["compare", str(tmp_path), *PAIR, *QUICK]) == 2
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_files_of_the_same_name_are_told_apart_by_their_folders() -> None:
    assert names_of([Path("a/x.onnx"), Path("b/y.onnx")]) == ["x", "y"]
    assert names_of([Path("/a/1/model.onnx"), Path("/a/2/model.onnx")]) == ["1/model", "2/model"]
    assert names_of([Path("m.onnx"), Path("m.onnx")]) == ["m", "m"]


def test_what_a_service_refuses_is_said_in_its_words(
    service: tuple[str, str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url, secret, _ = service
    data = ["--data", str(own_data(tmp_path))]
    cases = [
        ("wrong", [url, *PAIR], "401 the key that was sent is none of this service's"),
        (secret, [url, "--models", "digits-student,nope"], "404 unknown model 'nope'; available: digits-ensemble, "),
        (secret, [url, *data], "--models: expected two or more beside --data"),
        (secret, [url, url, *PAIR], "--data: expected examples, because only a Stillroom service has a held-out set"),
        (secret, [url, url, "--models", "digits-student", *data], "--models: got 1 for 2 URLs, expected two or more, "),
        (secret, [url, url, "--models", "digits-student,flat", *data], "have different numbers of classes ("),
    ]
    for key, arguments, message in cases:
        monkeypatch.setenv("STILLROOM_API_KEY", key)
        assert main(["compare", *arguments]) == 2, arguments
        said = capsys.readouterr().err.splitlines()[-1]
        assert re.match(r"service: ", said)
        assert message in said
