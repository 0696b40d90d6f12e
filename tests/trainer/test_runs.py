"""A run's folder: found again, set aside, never shared, never lost."""

import pytest

from trainer.errors import RunError
from trainer.recipe import EnsembleTable, Recipe
from trainer.runs import RESULTS, open_run, run_name

RECIPE = Recipe(name="mine", data="digits")
FACTS = {"data_sha256": "a" * 64, "seed": 0, "device": "cpu"}


def test_resume_finds_an_unfinished_run(tmp_path):
    """With everything that it had."""
    with open_run(tmp_path, "run", resume=False) as folder:
        (folder / "checkpoint").write_text("half")
    with open_run(tmp_path, "run", resume=True) as folder:
        assert (folder / "checkpoint").read_text() == "half"


def test_an_unfinished_run_is_set_aside_and_not_lost(tmp_path):
    """Without --resume a run starts empty."""
    with open_run(tmp_path, "run", resume=False) as folder:
        (folder / "checkpoint").write_text("half")
    with open_run(tmp_path, "run", resume=False) as folder:
        assert list(folder.iterdir()) == []
    (previous,) = tmp_path.glob("run.previous*")
    assert (previous / "checkpoint").read_text() == "half"


def test_what_was_set_aside_stays_when_another_run_is_set_aside(tmp_path):
    """Forgetting --resume twice loses nothing, either."""
    for text in ("first", "second", "third"):
        with open_run(tmp_path, "run", resume=False) as folder:
            (folder / "checkpoint").write_text(text)
    kept = {path.read_text() for path in tmp_path.rglob("checkpoint")}
    assert kept == {"first", "second", "third"}


def test_a_run_without_anything_in_it_does_not_replace_what_was_set_aside(tmp_path):
    """Ctrl-C right at the start, twice."""
    with open_run(tmp_path, "run", resume=False) as folder:
        (folder / "checkpoint").write_text("hours")
    for _ in range(3):
        with open_run(tmp_path, "run", resume=False):
            pass
    assert [path.read_text() for path in tmp_path.rglob("checkpoint")] == ["hours"]


def test_a_finished_run_makes_room(tmp_path):
    """It comes out the same again; an unfinished one that was set aside before stays."""
    with open_run(tmp_path, "run", resume=False) as folder:
        (folder / "checkpoint").write_text("half")
    for _ in range(2):
        with open_run(tmp_path, "run", resume=False) as folder:
            (folder / RESULTS).write_text("{}")
    with open_run(tmp_path, "run", resume=False) as folder:
        assert list(folder.iterdir()) == []
    assert [path.name for path in tmp_path.rglob("checkpoint")] == ["checkpoint"]


def test_a_second_trainer_at_the_same_run_is_refused(tmp_path):
    """And does not touch it; afterwards the run is free again."""
    with open_run(tmp_path, "run", resume=False) as folder:
        (folder / "checkpoint").write_text("half")
        for resume in (True, False):
            with pytest.raises(RunError) as caught, open_run(tmp_path, "run", resume=resume):
                pass
            assert str(caught.value) == f"another trainer is at work on the run {folder}"
        assert (folder / "checkpoint").read_text() == "half"
        with open_run(tmp_path, "other", resume=False):
            pass
    with open_run(tmp_path, "run", resume=True):
        pass


def test_a_lock_is_free_after_an_error(tmp_path):
    with pytest.raises(KeyboardInterrupt), open_run(tmp_path, "run", resume=False):
        raise KeyboardInterrupt
    with open_run(tmp_path, "run", resume=True):
        pass


def test_a_file_for_a_runs_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError) as caught, open_run(tmp_path / "file", "run", resume=False):
        pass
    assert str(caught.value) == f"cannot use the runs folder {tmp_path}/file: File exists"


def test_a_file_in_a_runs_place(tmp_path):
    """It cannot be made, and that is told."""
    (tmp_path / "run").write_text("")
    with pytest.raises(RunError, match="cannot use"), open_run(tmp_path, "run", resume=True):
        pass


def test_the_same_command_finds_the_same_folder():
    assert run_name(RECIPE, **FACTS) == run_name(RECIPE.model_copy(), **FACTS)
    assert run_name(RECIPE, **FACTS).startswith("mine-seed0-")


@pytest.mark.parametrize("change", [{"data_sha256": "b" * 64}, {"seed": 1}, {"device": "cuda"}])
def test_other_facts_are_another_run(change):
    """Data, seed and device: the weights depend on all of them."""
    assert run_name(RECIPE, **{**FACTS, **change}) != run_name(RECIPE, **FACTS)


def test_another_value_in_the_recipe_is_another_run():
    other = RECIPE.model_copy(update={"ensemble": EnsembleTable(epochs=61)})
    assert run_name(other, **FACTS) != run_name(RECIPE, **FACTS)
