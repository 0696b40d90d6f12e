"""What deploy/ says is true of the project: metrics, labels, routes, ports, paths, settings; Ray serves for real.

No container engine, no Kubernetes and no Grafana is needed. deploy/README.md tells what was tried with them.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path, PurePosixPath
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from service.app import create_app
from service.front.keys import scope_of
from service.settings import PREFIX, Settings
from tests.repositories import examples, known_probabilities, serving, write_cascade, write_model, write_pair
from tests.served import ROOT, free_port
from tests.service.test_batching import picky_graph
from tests.test_containers import last, variables

DEPLOY = ROOT / "deploy"
README = (DEPLOY / "README.md").read_text()
MONITORING = ("prometheus", "grafana")
NO_RAY_SERVE = "Ray Serve is not installed: pip install 'ray[serve]'"
PROVISIONED = "/etc/grafana/provisioning/"


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


COMPOSE = read("docker-compose.yml")["services"]
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboards" / "stillroom.json").read_text())
TARGETS = [(panel["title"], target) for panel in DASHBOARD["panels"] for target in panel["targets"]]
KSERVE = read("deploy/kserve.yaml")["spec"]["predictor"]


def routes() -> set[str]:
    return set(create_app(Settings()).openapi()["paths"])


async def exposed(folder: Path) -> dict[str, set[str]]:
    """The labels of every sample of /metrics, by its name, after an answer and a failure."""
    write_cascade(folder)
    write_model(folder, "picky", graph=picky_graph())
    async with serving(folder) as client:
        for model, inputs in (("digits-cascade", examples(2)[0]), ("picky", np.full((1, 8, 8), 99.0))):
            await client.post("/predict", json={"model": model, "inputs": inputs.tolist()})
        text = (await client.get("/metrics")).text
    return {s.name: set(s.labels) for family in text_string_to_metric_families(text) for s in family.samples}


async def test_the_dashboard_asks_for_what_the_service_measures(tmp_path: Path):
    """Every metric and every label of its expressions and legends is among the samples of /metrics."""
    samples = await exposed(tmp_path)
    for title, target in TARGETS:
        expression = target["expr"]
        names = set(re.findall(r"\b[a-z]+_[a-z_]+(?=[\[{)])", expression))
        grouped = {label.strip() for group in re.findall(r"\bby \(([^)]*)\)", expression) for label in group.split(",")}
        assert names, title
        assert names - samples.keys() == set(), title
        assert grouped - set.intersection(*(samples[name] for name in names)) == set(), title
        assert set(re.findall(r"{{(\w+)}}", target.get("legendFormat", ""))) <= grouped - {"le"}, title


def test_the_dashboard_is_what_grafana_shows_first():
    """It lies where Grafana is told to look, and its panels ask the source that is made."""
    environment = COMPOSE["grafana"]["environment"]
    mounts = dict(volume.split(":")[:2] for volume in COMPOSE["grafana"]["volumes"])
    assert mounts == {f"./deploy/grafana/{name}": PROVISIONED + name for name in ("datasources", "dashboards")}
    (provider,) = read("deploy/grafana/dashboards/provider.yml")["providers"]
    (source,) = read("deploy/grafana/datasources/prometheus.yml")["datasources"]
    assert provider["options"]["path"] == PROVISIONED + "dashboards"
    assert environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == PROVISIONED + "dashboards/stillroom.json"
    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]} == {source["uid"]}
    assert source["url"] == "http://prometheus:" + COMPOSE["prometheus"]["ports"][0].rpartition(":")[2]
    assert source["jsonData"]["timeInterval"] == read("deploy/prometheus.yml")["global"]["scrape_interval"]


def test_prometheus_reads_the_service_of_the_compose_file():
    """By its name, on the port that its image exposes, at a route that exists."""
    (job,) = read("deploy/prometheus.yml")["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"service:{last('service', 'EXPOSE')}"]}]
    assert job["metrics_path"] in routes()


def test_the_comment_on_keys_can_be_taken_at_its_word():
    """Its lines, without the #, continue the job; the scope that it names is the one that the route needs."""
    text = (DEPLOY / "prometheus.yml").read_text()
    lines = re.findall(r"^# (    .*)", text, flags=re.M)
    (job,) = yaml.safe_load("\n".join([text.rstrip(), *lines]))["scrape_configs"]
    assert PurePosixPath(job["authorization"]["credentials_file"]).is_absolute()
    assert f"--scopes {scope_of('GET', job['metrics_path'])}" in text


@pytest.mark.parametrize("name", MONITORING)
def test_monitoring_is_pinned_local_hardened_and_asked_for(name: str):
    """An exact version, this machine alone, a read-only root without capabilities, our files read-only, a profile."""
    service = COMPOSE[name]
    assert service["profiles"] == ["monitoring"]
    assert "profiles" not in COMPOSE["service"]
    assert re.fullmatch(r"[a-z]+/[a-z]+:v?\d+\.\d+\.\d+", service["image"])
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in service["ports"])
    for key in ("read_only", "cap_drop", "security_opt"):
        assert service[key] == COMPOSE["service"][key]
    ours = [volume.split(":") for volume in service["volumes"] if isinstance(volume, str)]
    assert ours
    assert [path for path, _, mode in ours if mode != "ro" or not (ROOT / path).exists()] == []


def test_kserve_runs_the_image_as_it_is_made():
    """User, port, folders and variables are the Dockerfile's and the settings'; every mount has its volume."""
    (container,) = KSERVE["containers"]
    given = {pair["name"]: pair["value"] for pair in container["env"]}
    made = variables("service")
    assert given.pop("PROTOCOL") == "v2"
    assert given.keys() <= {PREFIX + field.name.upper() for field in fields(Settings)}
    assert given[PREFIX + "MODELS_DIR"] == made[PREFIX + "MODELS_DIR"]
    assert [port["containerPort"] for port in container["ports"]] == [int(last("service", "EXPOSE"))]
    user = KSERVE["securityContext"]
    assert f"{user['runAsUser']}:{user['runAsGroup']}" == last("service", "USER")
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert mounts.keys() == {str(PurePosixPath(made[PREFIX + "MODELS_DIR"]).parent), made[PREFIX + "STATE_DIR"], "/tmp"}
    assert [path for path, mount in mounts.items() if mount.get("readOnly")] == ["/repository"]
    assert {mount["name"] for mount in mounts.values()} == {volume["name"] for volume in KSERVE["volumes"]}


def test_kserve_asks_for_health_where_the_service_tells_it():
    """Both probes are routes of the protocol; what KServe waits for is longer than what the service does."""
    (container,) = KSERVE["containers"]
    for probe, path in (("livenessProbe", "/v2/health/live"), ("readinessProbe", "/v2/health/ready")):
        assert container[probe]["httpGet"] == {"path": path, "port": container["ports"][0]["containerPort"]}
        assert path in routes()
    assert KSERVE["timeout"] > Settings().timeout_s
    assert KSERVE["terminationGracePeriodSeconds"] > Settings().drain_s


def test_the_readme_tells_what_each_file_is_for():
    """All of them."""
    files = [path for path in DEPLOY.rglob("*.*") if path.suffix in {".py", ".yml", ".yaml", ".json"}]
    assert [path for path in files if f"`{path.relative_to(DEPLOY)}`" not in README] == []


@contextmanager
def ray_serving(configuration: Path, port: int) -> Iterator[httpx.Client]:
    """`serve run` over a configuration, on a Ray of its own, with models; ended by Ctrl-C."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    own = {"HOME": str(configuration.parent), "RAY_ADDRESS": "local", "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, "-m", "ray.serve.scripts", "run", str(configuration)]
    log = configuration.with_suffix(".log")
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=ROOT, env={**kept, **own}, stdout=output, stderr=subprocess.STDOUT)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            for _ in range(300):
                if process.poll() is not None or is_ready(client):
                    break
                time.sleep(0.3)
            assert is_ready(client), log.read_text()
            yield client
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)


def is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def test_ray_serves_the_same_answers(tmp_path: Path):
    """The configuration that ships, on a Ray of this machine: both models answer what numpy computes."""
    pytest.importorskip("ray.serve", reason=NO_RAY_SERVE)
    write_pair(tmp_path / "models")
    configuration, port = read("deploy/ray_serve.yaml"), free_port()
    configuration["http_options"]["port"] = port
    configuration["applications"][0]["args"]["models_dir"] = str(tmp_path / "models")
    (tmp_path / "serve.yaml").write_text(yaml.safe_dump(configuration))
    inputs = examples(3)[0]
    with ray_serving(tmp_path / "serve.yaml", port) as client:
        for model, seed in (("digits-ensemble", 0), ("digits-student", 1)):
            answer = client.post("/predict", json={"model": model, "inputs": inputs.tolist()})
            assert answer.status_code == 200, answer.text
            known = known_probabilities(inputs, seed=seed)
            np.testing.assert_allclose(answer.json()["probabilities"], known, atol=1e-5)
        assert client.post("/predict", json={"model": "nope", "inputs": inputs.tolist()}).status_code == 404


def test_a_misspelt_argument_of_the_ray_application_is_told():
    """With those that there are."""
    pytest.importorskip("ray.serve", reason=NO_RAY_SERVE)
    code = "from deploy.ray_serve import application; application({'model_dir': 'models'})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "SettingsError: unknown argument 'model_dir'; available: models_dir, host, port," in done.stderr
