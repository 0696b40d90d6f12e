"""The acoustic model made anew: tiny, from the command line, on tunes in place of words, in two goes."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.recordings import write_digits
from tests.trainer.conftest import trainer_here

WANTED = (
    *("wer_gaussians", "single", "ensemble", "ensemble_gain", "distilled_t1", "distilled_t2", "distilled"),
    *("gain_kept_by_student", "wer_single", "wer_ensemble", "wer_distilled", "all_data", "hard_3_percent"),
    *("soft_3_percent", "hard_10_percent", "soft_10_percent", "hard_30_percent", "soft_30_percent", "loss_recovered"),
)


def reproduce(folder: Path, *more: str) -> Any:
    places = ("--data-dir", "data", "--runs-dir", "runs", "--out", "out", "--device", "cpu")
    return trainer_here("reproduce", "speech", "--quick", *places, *more, cwd=folder)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, dict[str, dict[str, Any]]]:
    """The folder of a quick reproduction that was made in two goes, what the second printed, and the rows."""
    folder = tmp_path_factory.mktemp("speech")
    write_digits(folder / "data", each=4)
    first = reproduce(folder, "--rows", "single,ensemble")
    assert first.returncode == 0, first.stderr
    second = reproduce(folder)
    assert second.returncode == 0, second.stderr
    facts = json.loads((folder / "out/speech-quick.json").read_bytes())
    return folder, second.stdout, {row["id"]: row for row in facts["rows"]}


def test_every_row_is_there_in_order(run):
    _, printed, rows = run
    assert tuple(rows) == WANTED
    assert "17 of 19 rows to make; all of them take about 0.0 hours here" in printed
    counts = {name: len(rows[name]["values"]) for name in ("single", "ensemble", "distilled", "all_data")}
    assert counts == {"single": 3, "ensemble": 1, "distilled": 2, "all_data": 2}
    assert rows["gain_kept_by_student"]["goal"] == 86


def test_what_follows_from_other_rows_does(run):
    """Gains and shares, worked out again from the accuracies."""
    _, _, rows = run
    values = {name: np.array(row["values"]) for name, row in rows.items()}
    gain = values["ensemble"][0] - values["single"].mean()
    assert values["ensemble_gain"] == pytest.approx([gain])
    kept = 100 * (values["distilled"] - values["single"].mean()) / gain
    assert values["gain_kept_by_student"] == pytest.approx(kept)
    assert values["all_data"] == pytest.approx(values["single"][:2])
    soft, hard, whole = (values[name] for name in ("soft_30_percent", "hard_30_percent", "all_data"))
    assert values["loss_recovered"] == pytest.approx(100 * (soft - hard) / (whole - hard))
    best = max(("distilled_t1", "distilled_t2"), key=lambda name: values[name][0])
    assert rows["distilled"]["details"]["temperature"] == pytest.approx(rows[best]["details"]["temperature"])


def test_words_are_told_with_their_intervals(run):
    _, _, rows = run
    details = rows["wer_distilled"]["details"]
    value, low, high = details["over_speakers"][0]
    assert value == rows["wer_distilled"]["values"][0]
    assert low is high is None  # one speaker
    above = [value for value, _, _ in details["above_ensemble"]]
    together = rows["wer_ensemble"]["values"][0]
    assert above == pytest.approx([value - together for value in rows["wer_distilled"]["values"]])
    assert set(details["penalties"]) <= {20.0, 40.0}
    assert details["recordings"] == 40
    assert rows["wer_gaussians"]["values"][0] <= 10


def test_few_recordings_are_a_share_with_every_word_alike(run):
    """Of 120 training recordings 3 %, 10 % and 30 %."""
    _, _, rows = run
    kinds = [rows[f"{kind}_{percent}_percent"] for percent in (3, 10, 30) for kind in ("hard", "soft")]
    assert [row["details"]["recordings"] for row in kinds] == [4, 4, 12, 12, 36, 36]
    assert rows["all_data"]["details"]["recordings"] == 120
    assert statistics.fmean(rows["all_data"]["details"]["train"]) > 50


def test_the_tables_and_the_plot_are_written(run):
    folder, _, _ = run
    text = (folder / "out/speech-quick.md").read_text()
    assert all(f"| `{name}` |" in text for name in WANTED)
    assert "## Words" in text
    assert "| `soft_3_percent` | 4 | " in text
    assert "Of what fewer recordings cost, soft targets make good: at 3 % of them " in text
    assert (folder / "out/speech-quick-few.png").stat().st_size > 1000


def test_without_recordings_it_says_where_they_belong(tmp_path):
    done = reproduce(tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("trainer: fsdd: data has no folder fsdd, and nothing is downloaded; put the release")
