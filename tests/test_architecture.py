"""Which arrows there are between the packages: read from the imports at any depth, and from a bare process."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TRAINING_LIBRARIES = {
    "torch",
    "sklearn",
    "scipy",
    "matplotlib",
    "rich",
    "safetensors",
    "onnxscript",
    "pooch",
    "platformdirs",
    "pyarrow",
}
WEB_LIBRARIES = {"fastapi", "starlette", "uvicorn", "prometheus_client", "python_multipart"}
WEB_SIDE = {"app", "batching", "body", "catalogue", "comparison", "health", "library", "predict", "settings"}
"""What of service/ the trainer may not import."""


def imports(package: str) -> Iterator[tuple[Path, str]]:
    """Every import of a package's files, at any depth of nesting, as (file, dotted module)."""
    for path in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from ((path, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: imports are absolute"
                yield from ((path, f"{node.module}.{alias.name}") for alias in node.names)


def test_the_service_imports_neither_the_trainer_nor_what_it_trains_with():
    """Arrows point one way: service/ never imports trainer/."""
    forbidden = TRAINING_LIBRARIES | {"trainer", "tests"}
    assert [(str(path), name) for path, name in imports("service") if name.split(".")[0] in forbidden] == []


def test_the_trainer_imports_nothing_of_the_web_side():
    """Of service/ the trainer takes the manifest, the loading of a model, the measures and the front ends."""
    bad = [
        (str(path), name)
        for path, name in imports("trainer")
        if name.split(".")[0] in WEB_LIBRARIES or (name.startswith("service.") and name.split(".")[1] in WEB_SIDE)
    ]
    assert bad == []


def test_only_the_check_of_a_graph_imports_onnx_in_the_service():
    """The service trusts onnxruntime with graphs; onnx is there to check one before it is trusted, and to read files of
    any origin, which the command line compares and the trainer distils."""
    files = {path for path, name in imports("service") if name.split(".")[0] == "onnx"}
    assert {path.name for path in files if path.parent.name != "foreign"} == {"session.py"}


def test_nobody_imports_pickle():
    """Artefacts are safetensors, npz, ONNX and JSON."""
    found = [
        (str(path), name)
        for package in ("service", "trainer")
        for path, name in imports(package)
        if name.split(".")[0] in {"pickle", "joblib", "dill", "cloudpickle", "shelve", "marshal"}
    ]
    assert found == []


@pytest.mark.parametrize("package", ["service", "trainer"])
def test_imports_within_a_package_make_no_cycle(package):
    """A package is a graph with a floor and a roof."""
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in (ROOT / package).rglob("*.py")
    }
    arrows: dict[str, set[str]] = {module: set() for module in modules}
    for path, name in imports(package):
        importer = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        target = name if name in modules else name.rpartition(".")[0]
        if target in modules and target != importer:
            arrows[importer].add(target)
    floors: list[set[str]] = []
    while arrows:
        floor = {module for module, targets in arrows.items() if not targets & arrows.keys()}
        assert floor, f"a cycle among {sorted(arrows)}"
        floors.append(floor)
        arrows = {module: targets for module, targets in arrows.items() if module not in floor}
    assert len(floors) > 2


def test_the_service_starts_in_a_bare_process_without_the_training_libraries():
    """Its image holds none of them, so importing the whole service must load none of them."""
    code = (
        "import sys, service.app, service.__main__; "
        f"print(sorted({TRAINING_LIBRARIES | {'trainer'}!r} & {{m.split('.')[0] for m in sys.modules}}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_importing_does_no_work():
    """No argument parsing, no environment reads, no threads and no output at import."""
    code = (
        "import os, sys, threading; sys.argv = ['x', '--nonsense']; os.environ['STILLROOM_PORT'] = 'nonsense'; "
        "import service.app, service.__main__, trainer.__main__; print(threading.active_count())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("1", "")


def test_files_stay_small():
    """Files are mostly under 200 lines; one above 300 is two."""
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for package in ("service", "trainer")
        for path in (ROOT / package).rglob("*.py")
    }
    assert {name: lines for name, lines in lengths.items() if lines > 300} == {}
    assert sum(lines > 200 for lines in lengths.values()) <= len(lengths) / 10


def test_every_python_file_says_what_it_knows():
    """A file's first lines are a docstring."""
    missing = [
        str(path.relative_to(ROOT))
        for folder in ("service", "trainer", "tests")
        for path in (ROOT / folder).rglob("*.py")
        if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert missing == []


def test_the_project_speaks_of_itself_alone():
    """No file of the project names a machine's paths or an issue's number."""
    pattern = re.compile(r"/work/|/root/|\bissue #?\d")
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    texts = [ROOT / name for name in files if name and Path(name).suffix in {".py", ".md", ".toml", ".js", ".yml", ""}]
    here = Path(__file__).name
    assert [str(p) for p in texts if p.name != here and p.is_file() and pattern.search(p.read_text())] == []
