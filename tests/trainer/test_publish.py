"""Publishing: whole or not at all, beside what stands, and what stands is never touched."""

import hashlib
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from service.held_out import input_hashes
from service.manifest import DataReference, FileRecord, InputSpec, Manifest, Metrics
from service.model import load_model
from tests.repositories import examples, known_probabilities, linear_graph
from tests.trainer.conftest import ROOT, contents, environment
from trainer.data.split import Part
from trainer.errors import ExportError
from trainer.publish import Artefact, check_repository, publish, triton_config

CLASSES = ("zero", "one", "zwei", "drei", "vier", "fünf", "six", "sieben", "acht", "neun")
GOLDEN = 0x3877D2D83BF4B622
"""22b6f43bd8d27738, what sha256sum begins with for 0 and 1 as little-endian float32, read backwards."""
CONFIG = """\
name: "mine-student"
backend: "onnxruntime"
max_batch_size: 1024
input [
  { name: "input" data_type: TYPE_FP32 dims: [ 8, 8 ] }
]
output [
  { name: "probabilities" data_type: TYPE_FP32 dims: [ 10 ] label_filename: "labels.txt" },
  { name: "logits" data_type: TYPE_FP32 dims: [ 10 ] label_filename: "labels.txt" }
]
version_policy { all {} }
dynamic_batching {}
"""


def artefact(seed: int = 0, name: str = "mine-student", classes=CLASSES, graph: bytes | None = None) -> Artefact:
    """A model whose answers numpy can work out."""
    inputs, labels = examples(30, classes=len(classes))
    graph = linear_graph((8, 8), len(classes), seed) if graph is None else graph

    def manifest(version: int, files: dict[str, FileRecord]) -> Manifest:
        return Manifest(
            name=name,
            version=version,
            role="student",
            classes=classes,
            input=InputSpec(shape=(8, 8)),
            recipe={},
            data=DataReference(name="mine", sha256="a" * 64),
            seeds=(seed,),
            metrics=Metrics(examples=30, errors=3, accuracy=0.9, accuracy_interval=(0.7, 1.0), nll=0.1, ece=0.1),
            largest_difference=0.0,
            parameters=650,
            multiply_accumulates=640,
            bytes=len(graph),
            files=files,
            libraries={},
            created=datetime.now(UTC),
        )

    return Artefact(name, tuple(classes), (8, 8), graph, Part(inputs.astype(np.uint8), labels), inputs[:20], manifest)


def staged(models: Path) -> list[str]:
    """What is left in the staging folder, its lock apart."""
    root = models.parent / f".{models.name}.staging"
    return [path.name for path in root.iterdir() if path.name != "lock"] if root.exists() else []


def test_the_first_version_has_the_layout_of_the_format(tmp_path):
    """config.pbtxt and labels.txt beside version 1, with four files in it and nothing else."""
    manifest = publish(tmp_path / "models", artefact())
    assert (manifest.name, manifest.version) == ("mine-student", 1)
    assert sorted(contents(tmp_path / "models")) == [
        "mine-student/1/held-out.npz",
        "mine-student/1/manifest.json",
        "mine-student/1/model.onnx",
        "mine-student/1/train-hashes.npy",
        "mine-student/config.pbtxt",
        "mine-student/labels.txt",
    ]
    assert staged(tmp_path / "models") == []


def test_the_manifest_lists_every_file_with_its_checksum(tmp_path):
    manifest = publish(tmp_path / "models", artefact())
    folder = tmp_path / "models" / "mine-student" / "1"
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "manifest.json"}
    assert manifest.files == {
        name: FileRecord(bytes=len(raw), sha256=hashlib.sha256(raw).hexdigest()) for name, raw in files.items()
    }


def test_the_service_loads_it_and_answers_as_numpy_does(tmp_path):
    publish(tmp_path / "models", artefact())
    model = load_model(tmp_path / "models" / "mine-student" / "1", device="cpu")
    inputs, _ = examples(5)
    np.testing.assert_allclose(model.run(inputs).probabilities_BK, known_probabilities(inputs), atol=1e-5)


def test_the_held_out_set_is_the_test_part(tmp_path):
    """In raw units and in the type of its source, labels int64, without pickles."""
    made = artefact()
    publish(tmp_path / "models", made)
    with np.load(tmp_path / "models" / "mine-student" / "1" / "held-out.npz", allow_pickle=False) as file:
        assert sorted(file.files) == ["inputs", "labels"]
        np.testing.assert_array_equal(file["inputs"], made.held_out.inputs)
        np.testing.assert_array_equal(file["labels"], made.held_out.labels)
        assert (file["inputs"].dtype, file["labels"].dtype) == (np.uint8, np.int64)


def test_config_is_what_triton_reads(tmp_path):
    """Golden text."""
    publish(tmp_path / "models", artefact())
    assert (tmp_path / "models" / "mine-student" / "config.pbtxt").read_text() == CONFIG
    assert triton_config("features", (5,), 3).count("dims: [ 5 ]") == 1


def test_labels_are_one_class_a_line_in_utf_8(tmp_path):
    publish(tmp_path / "models", artefact())
    raw = (tmp_path / "models" / "mine-student" / "labels.txt").read_bytes()
    assert raw == b"zero\none\nzwei\ndrei\nvier\nf\xc3\xbcnf\nsix\nsieben\nacht\nneun\n"


def test_hashes_of_inputs_written_by_hand():
    """The first 8 bytes, little-endian, of the SHA-256 of each row's bytes as float32."""
    found = input_hashes(np.array([[0, 1], [16, 0]], dtype=np.uint8))
    assert found.dtype == np.uint64
    second = hashlib.sha256(bytes.fromhex("0000804100000000")).digest()[:8]
    assert found.tolist() == [GOLDEN, int.from_bytes(second, "little")]


def test_hashes_do_not_depend_on_type_or_order_in_memory():
    """uint8, float64 and a Fortran-ordered copy of the same images have the same hashes; other images have others."""
    images = np.random.default_rng(0).integers(0, 17, (9, 4, 5)).astype(np.uint8)
    expected = input_hashes(images).tolist()
    assert input_hashes(images.astype(np.float64)).tolist() == expected
    assert input_hashes(np.asfortranarray(images)).tolist() == expected
    assert len(set(expected)) == 9


def test_a_second_version_leaves_the_first_byte_for_byte(tmp_path):
    """Nor does it touch the interface that they share."""
    publish(tmp_path / "models", artefact(seed=0))
    before = contents(tmp_path / "models")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "models").rglob("*") if path.is_file()}
    assert publish(tmp_path / "models", artefact(seed=1)).version == 2
    after = contents(tmp_path / "models")
    assert {name: raw for name, raw in after.items() if "/2/" not in name} == before
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    assert load_model(tmp_path / "models" / "mine-student" / "2", device="cpu").manifest.seeds == (1,)
    assert staged(tmp_path / "models") == []


def test_a_retired_versions_number_is_not_given_again(tmp_path):
    """The next number is above every one that stands, whatever else lies there."""
    for _ in range(2):
        publish(tmp_path / "models", artefact())
    (tmp_path / "models" / "mine-student" / "1").rename(tmp_path / "retired")
    (tmp_path / "models" / "mine-student" / "notes").mkdir()
    (tmp_path / "models" / "mine-student" / "²").mkdir()  # a digit to Python, and no version
    assert publish(tmp_path / "models", artefact()).version == 3


@pytest.mark.parametrize(
    ("other", "name"),
    [({"classes": CLASSES[::-1]}, "labels.txt"), ({"classes": CLASSES[:9]}, "config.pbtxt")],
)
def test_another_interface_needs_another_name(tmp_path, other, name):
    """Other classes, or as many others."""
    publish(tmp_path / "models", artefact())
    before = contents(tmp_path)
    with pytest.raises(ExportError) as caught:
        publish(tmp_path / "models", artefact(**other))
    message = "mine-student: the interface changed: its {} is not the one that stands; choose another name"
    assert str(caught.value) == message.format(name)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("stands", [False, True])
@pytest.mark.parametrize("graph", [b"no graph", linear_graph((8, 8), 9, 0), linear_graph((4, 4), 10, 0)])
def test_a_graph_that_does_not_load_is_refused_and_leaves_nothing(tmp_path, graph, stands):
    """By the very loader that would have served it."""
    if stands:
        publish(tmp_path / "models", artefact())
    before = contents(tmp_path / "models") if stands else {}
    with pytest.raises(ExportError, match=r"the exported model does not load: mine-student/\d: "):
        publish(tmp_path / "models", artefact(graph=graph))
    assert contents(tmp_path / "models") == before
    assert staged(tmp_path / "models") == []


@pytest.mark.parametrize("stands", [False, True])
@pytest.mark.parametrize("size", [0, 100, 1000, 2500])
def test_a_full_disk_leaves_what_stands_whole(tmp_path, full_disk, size, stands):
    """At whichever file the disk gives out; and the error says so."""
    models = tmp_path / "models"
    if stands:
        publish(models, artefact(seed=0))
    before = contents(models) if stands else {}
    with full_disk(size), pytest.raises(ExportError) as caught:
        publish(models, artefact(seed=1))
    message = f"cannot publish mine-student in {models}: File too large; what stood there is untouched"
    assert str(caught.value) == message
    assert contents(models) == before
    assert staged(models) == []


def test_a_file_for_a_repository(tmp_path):
    (tmp_path / "models").write_text("mine")
    with pytest.raises(ExportError) as caught:
        publish(tmp_path / "models", artefact())
    message = f"cannot publish mine-student in {tmp_path}/models: File exists; what stood there is untouched"
    assert str(caught.value) == message
    assert (tmp_path / "models").read_text() == "mine"


def test_a_repository_that_lost_its_interface_is_told(tmp_path):
    """config.pbtxt was deleted by hand."""
    publish(tmp_path / "models", artefact())
    (tmp_path / "models" / "mine-student" / "config.pbtxt").unlink()
    with pytest.raises(ExportError, match=r"mine-student: it has no config\.pbtxt, so it is no model's folder"):
        publish(tmp_path / "models", artefact())


def test_an_empty_folder_of_that_name_is_as_good_as_none(tmp_path):
    """Left by hand; the rename replaces it."""
    (tmp_path / "models" / "mine-student").mkdir(parents=True)
    assert publish(tmp_path / "models", artefact()).version == 1


def test_what_cannot_be_published_is_known_before_the_training(tmp_path):
    """Another interface under one of the names that a run publishes."""
    publish(tmp_path / "models", artefact())
    check_repository(tmp_path / "models", ["mine-student", "new"], (8, 8), CLASSES)
    with pytest.raises(ExportError, match=r"mine-student: the interface changed"):
        check_repository(tmp_path / "models", ["new", "mine-student"], (8, 8), CLASSES[:9])


def test_ctrl_c_in_the_middle_leaves_nothing(tmp_path):
    """The manifest comes last; here it never comes."""

    def interrupted(version: int, files: dict[str, FileRecord]) -> Manifest:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish(tmp_path / "models", artefact()._replace(manifest=interrupted))
    assert contents(tmp_path / "models") == {}
    assert staged(tmp_path / "models") == []


def test_what_a_killed_publisher_left_is_swept_away(tmp_path):
    """kill -9 cannot clean up after itself: the next publisher does."""
    left = tmp_path / ".models.staging" / "999999" / "mine-student" / "1"
    left.mkdir(parents=True)
    (left / "model.onnx").write_bytes(bytes(1000))
    publish(tmp_path / "models", artefact())
    assert staged(tmp_path / "models") == []


def test_a_repository_behind_a_link_is_staged_on_its_own_disk(tmp_path):
    """Beside the real folder, not beside the link."""
    (tmp_path / "disk" / "real").mkdir(parents=True)
    (tmp_path / "models").symlink_to(tmp_path / "disk" / "real")
    publish(tmp_path / "models", artefact())
    assert (tmp_path / "disk" / "real" / "mine-student" / "1" / "manifest.json").exists()
    assert not (tmp_path / ".models.staging").exists()


def test_publishers_at_the_same_time_get_versions_of_their_own(tmp_path):
    """Two processes publish the same name four times each: eight whole versions, whatever language either speaks."""
    program = (
        "from pathlib import Path; from tests.trainer.test_publish import artefact, publish\n"
        f"for seed in range(4): publish(Path({str(tmp_path / 'models')!r}), artefact(seed=seed))"
    )
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    processes = [
        subprocess.Popen([sys.executable, "-c", program], env=env, cwd=ROOT, stderr=subprocess.PIPE)
        for env in (environment(), {**environment(), **ascii_only})
    ]
    for process in processes:
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, stderr.decode()
    folder = tmp_path / "models" / "mine-student"
    assert sorted(entry.name for entry in folder.iterdir() if entry.is_dir()) == list("12345678")
    for version in "12345678":
        assert load_model(folder / version, device="cpu").manifest.version == int(version)
    assert staged(tmp_path / "models") == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_repository_that_may_not_be_written_is_told(tmp_path):
    (tmp_path / "models").mkdir(mode=0o500)
    with pytest.raises(ExportError, match=r"cannot publish mine-student in .*: Permission denied"):
        publish(tmp_path / "models", artefact())
