"""Specialists that teach: the student learns from the combination, from the soft targets to what its manifest says."""

import json
import shutil
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.numpy import load_file
from scipy import special

from service.cascade import Cascade
from service.library import Library
from service.manifest import GRAPH, read_manifest
from tests.trainer.conftest import TINY, contents, trainer, trainer_here
from tests.trainer.test_specialise import RECIPE, folders, manifest, write_clouds
from tests.trainer.test_specialists import CLASSES, GROUPS, SPLIT, generalist, trained, workshop
from trainer.__main__ import main
from trainer.answers import soft_targets
from trainer.combination import Method
from trainer.combined import Combined, Voting
from trainer.errors import RunError
from trainer.specialise import answering

TEACHING = f"{RECIPE}teach = true\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a finished run; tests only read it."""
    home = write_clouds(tmp_path_factory.mktemp("clouds"), TEACHING)
    assert main(["train", str(home / "clouds.toml"), *folders(home)]) == 0
    return home


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return Path(shutil.copytree(run, tmp_path / "clouds"))


def folder_of(home: Path) -> Path:
    (folder,) = home.glob("runs/clouds-*")
    return folder


def targets_of(folder: Path) -> np.ndarray:
    (shard,) = folder.glob("soft-targets/view-0000/*.safetensors")
    return load_file(shard)["log_probabilities"]


def logits_of(home: Path, name: str) -> np.ndarray:
    """What onnxruntime alone makes of a published graph, over the training examples."""
    session = onnxruntime.InferenceSession(home / "models" / name / "1" / GRAPH)
    return np.asarray(session.run(["logits"], {"input": SPLIT.train.inputs})[0])


def test_the_soft_targets_are_the_published_specialists_answers(run):
    """And not the ensemble's."""
    found = np.exp(targets_of(folder_of(run)))
    np.testing.assert_allclose(found, special.softmax(logits_of(run, "clouds-specialists"), axis=1), atol=1e-5)
    assert np.abs(found - special.softmax(logits_of(run, "clouds-ensemble"), axis=1)).max() > 0.05


def test_the_student_names_the_specialists_as_its_teacher(run):
    """By the SHA-256 of the published graph; nobody else has one."""
    taught = manifest(run, "clouds-student").teacher
    assert taught is not None
    assert (taught.name, taught.version) == ("clouds-specialists", 1)
    assert taught.sha256 == manifest(run, "clouds-specialists").files[GRAPH].sha256
    for name in ("ensemble", "member", "baseline", "specialists"):
        assert manifest(run, f"clouds-{name}").teacher is None


def test_gain_and_agreement_are_with_the_specialists(run):
    """In the table, its JSON and the manifests."""
    facts = json.loads((folder_of(run) / "results.json").read_bytes())
    assert facts["taught_by"] == "specialists"
    right = {row["role"]: row["examples"] - row["errors"] for row in facts["rows"]}
    gain = (right["specialists"] - right["baseline"]) / len(SPLIT.test.labels)
    assert facts["gain"]["teacher"][0] == pytest.approx(gain)
    assert "(paired, 95 %): specialists " in (folder_of(run) / "results.md").read_text()
    assert manifest(run, "clouds-specialists").metrics.agreement is None
    assert manifest(run, "clouds-ensemble").metrics.agreement is not None


def test_a_run_that_is_gone_on_with_ends_the_same(copy):
    """From before its soft targets: specialists are found again, and what was published is left as it is."""
    before = contents(copy / "models")
    folder = folder_of(copy)
    shutil.rmtree(folder / "soft-targets")
    for name in ("student-0.safetensors", "results.json"):
        (folder / name).unlink()
    made = (folder / "specialists-0.safetensors").stat().st_mtime_ns
    assert main(["train", str(copy / "clouds.toml"), *folders(copy), "--resume"]) == 0
    assert contents(copy / "models") == before
    assert (folder / "specialists-0.safetensors").stat().st_mtime_ns == made


def combined(folder: Path, top: int, method: Method = "newton", steps: int = 3) -> Combined:
    voting = Voting(GROUPS, CLASSES, top)
    return Combined([generalist(folder)], trained(folder).networks, voting, method, steps).eval()


def test_soft_targets_of_other_specialists_are_refused(tmp_path):
    """Other are those with other weights, and the same that are combined in another way."""
    shop, inputs = workshop(tmp_path), torch.from_numpy(SPLIT.test.inputs)
    first = answering(shop, combined(tmp_path, 2))
    (kept,) = soft_targets(shop, first, inputs, None)
    (again,) = soft_targets(shop, answering(shop, combined(tmp_path, 2)), inputs, None)
    assert torch.equal(kept, again)
    retrained = combined(tmp_path, 2)
    with torch.no_grad():
        next(retrained.specialists.parameters()).mul_(1.01)
    others = (retrained, combined(tmp_path, 1), combined(tmp_path, 2, steps=4), combined(tmp_path, 2, "plain"))
    for other in others:
        with pytest.raises(RunError, match=r"the soft targets were made with teacher .*; run again without --resume"):
            soft_targets(shop, answering(shop, other), inputs, None)


def test_specialists_answer_alike_in_another_process(tmp_path):
    """To which they travel with all that combines them."""
    teacher = answering(workshop(tmp_path), combined(tmp_path, 2))
    inputs = torch.from_numpy(SPLIT.test.inputs)
    travelled = ForkingPickler.loads(ForkingPickler.dumps(teacher.answer))
    assert torch.equal(travelled(inputs), teacher.answer(inputs))


@pytest.mark.parametrize("teach", [True, False])
def test_a_sweep_trains_specialists_where_they_teach(tmp_path, teach):
    """And only then; its students have the run's soft targets."""
    home = write_clouds(tmp_path, TEACHING if teach else RECIPE)
    done = trainer_here("sweep", "clouds.toml", "--runs-dir", "runs", "--device", "cpu", cwd=home)
    assert done.returncode == 0, done.stderr
    assert bool(list(home.glob("runs/clouds-sweep-*/specialists-0.safetensors"))) == teach


def test_the_smallest_student_is_held_against_the_specialists(tmp_path, run):
    """That taught it, and are published with it."""
    home = write_clouds(tmp_path, TEACHING)
    places = ("--models-dir", "models", "--runs-dir", "runs", "--device", "cpu")
    done = trainer_here("smallest", "clouds.toml", "--tolerance", "100", "--hidden", "2", *places, cwd=home)
    assert done.returncode == 0, done.stderr
    assert "accuracy on 90 validation examples, specialists " in done.stdout
    taught = manifest(home, "clouds-student").teacher
    assert taught == manifest(run, "clouds-student").teacher
    assert "clouds-specialists/1" in done.stdout.splitlines()[-1]


def test_the_digits_over_the_command_line_and_a_cascade_of_them(tmp_path):
    """In a process of its own; the student defers to the specialists, which its manifest names."""
    (tmp_path / "tiny.toml").write_text(f"{TINY}\n[specialists]\nteach = true\nepochs = 2\n")
    places = ("--models-dir", "models", "--runs-dir", "runs", "--device", "cpu")
    done = trainer("train", "tiny.toml", *places, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines().index("combination …") < done.stdout.splitlines().index("soft targets …")
    assert "Accuracy above the baseline (paired, 95 %): specialists " in done.stdout
    done = trainer_here("cascade", "tiny-student", "--max-loss", "1", "--models-dir", "models", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rule = read_manifest(tmp_path / "models" / "tiny-student" / "2").cascade
    assert rule is not None
    assert (rule.name, rule.version) == ("tiny-specialists", 1)
    library = Library(tmp_path / "models", device="cpu")
    library.scan()
    assert isinstance(library.get("tiny-cascade"), Cascade)
