"""Work in other processes and on a Ray cluster: the same weights to the bit, and a lost worker costs only time."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.trainer.conftest import TINY, environment, trainer
from trainer.cluster import Here, OnRay, Processes, cluster_of
from trainer.errors import RunError

RECIPE = TINY.replace("hidden = [16]", "hidden = [560, 560]").replace("epochs = 40", "epochs = 12")
"""Members too large to be trained at once, and long enough to leave a checkpoint: two tasks."""


def write(shared: Path, item: int) -> None:
    """Leaves a file that says which process made it."""
    (shared / str(item)).write_text(str(os.getpid()))


def die_once(shared: Path, item: int) -> None:
    """The first process that is given item 1 is killed."""
    if item == 1 and not (shared / "died").exists():
        (shared / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    write(shared, item)


def always_die(_shared: Path, _item: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(_shared: Path, item: int) -> None:
    raise RunError(f"item {item} is not to be had")


@pytest.mark.parametrize(
    ("text", "cluster"),
    [
        ("here", Here),
        ("processes:3", Processes(3)),
        ("processes", Processes(os.cpu_count() or 1)),
        ("ray", OnRay("ray")),
        ("ray://head:10001", OnRay("ray://head:10001")),
    ],
)
def test_a_cluster_is_named(text, cluster):
    """By one word, with a number or an address."""
    found = cluster_of(text)
    assert isinstance(found, Here) if cluster is Here else found == cluster


@pytest.mark.parametrize("text", ["", "there", "processes:0", "processes:x", "ray:head", "here:2"])
def test_another_name_is_told(text):
    """With what there is."""
    with pytest.raises(RunError, match="expected here, processes, processes:N, ray, or ray://host:port"):
        cluster_of(text)


def test_processes_do_all_items_and_tell_how_many(tmp_path):
    """In processes that are not this one."""
    told: list[int] = []
    Processes(2).run(write, tmp_path, [1, 2, 3], told.append)
    assert told == [1, 2, 3]
    assert str(os.getpid()) not in {(tmp_path / str(item)).read_text() for item in (1, 2, 3)}


def test_an_item_whose_process_is_killed_is_begun_again(tmp_path):
    """In a new one, and the other items too where they were lost with it."""
    Processes(2).run(die_once, tmp_path, [0, 1, 2], lambda _done: None)
    assert {path.name for path in tmp_path.iterdir()} == {"0", "1", "2", "died"}


def test_an_item_that_always_kills_its_process_is_given_up(tmp_path):
    """After some tries, and it is told."""
    with pytest.raises(RunError, match="2 of 2 pieces of work lost their process 4 times"):
        Processes(1).run(always_die, tmp_path, [0, 1], lambda _done: None)


def test_an_error_in_another_process_is_the_same_error_here(tmp_path):
    """It is not tried again."""
    with pytest.raises(RunError, match="item 5 is not to be had"):
        Processes(1).run(refuse, tmp_path, [5, 5], lambda _done: None)


def test_a_lone_item_runs_in_this_process(tmp_path):
    """There is nothing to spread."""
    Processes(2).run(write, tmp_path, [1], lambda _done: None)
    assert (tmp_path / "1").read_text() == str(os.getpid())


def weights(home: Path) -> dict[str, bytes]:
    """The trained networks and soft targets of the one run there, by name."""
    return {str(path.relative_to(home)): path.read_bytes() for path in sorted(home.rglob("*.safetensors"))}


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> tuple[Path, dict[str, bytes]]:
    """A recipe, and what training it in one process leaves."""
    home = tmp_path_factory.mktemp("here")
    (home / "wide.toml").write_text(RECIPE)
    done = trainer("train", "wide.toml", "--runs-dir", "runs", "--device", "cpu", cwd=home)
    assert done.returncode == 0, done.stderr
    assert len(weights(home / "runs")) > 4
    return home, weights(home / "runs")


def test_two_processes_train_the_same_weights(here):
    """To the bit: seeds, and not places, decide."""
    home, expected = here
    where = ("--on", "processes:2", "--runs-dir", "spread", "--models-dir", "others")
    done = trainer("train", "wide.toml", "--device", "cpu", *where, cwd=home)
    assert done.returncode == 0, done.stderr
    assert weights(home / "spread") == expected


RAY = """
import sys, threading, time
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from trainer.__main__ import main

home = Path(sys.argv[1])
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
ray.init(cluster.address, log_to_driver=False)

def kill():
    while not list(home.glob("spread/*/members-*.checkpoint.safetensors")):
        time.sleep(0.02)
    cluster.remove_node(nodes[0], allow_graceful=False)
    print("killed a node", flush=True)
    nodes.append(cluster.add_node(num_cpus=1))

threading.Thread(target=kill, daemon=True).start()
status = main(["train", str(home / "wide.toml"), "--device", "cpu", "--on", "ray", "--runs-dir", str(home / "spread"),
               "--models-dir", str(home / "rayed")])
ray.shutdown()
cluster.shutdown()
sys.exit(status)
"""


def test_a_ray_cluster_that_loses_a_node_trains_the_same_weights(here, tmp_path):
    """Three nodes on this machine; one with a worker on it is killed while the members train."""
    pytest.importorskip("ray", reason="Ray is not installed")
    home, expected = here
    (tmp_path / "wide.toml").write_text((home / "wide.toml").read_text())
    variables = {**environment(), "RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}
    command = [sys.executable, "-c", RAY, str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "killed a node" in done.stdout
    assert weights(tmp_path / "spread") == expected
