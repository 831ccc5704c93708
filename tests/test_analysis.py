"""One tidy table, final values by hand, and figures that show what they say."""

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from sparse_rl import results
from sparse_rl.analysis import final_values, load, load_runs
from sparse_rl.analysis.figures import learning_curves, scaling_curves, seeds_note
from sparse_rl.analysis.report import final_table, write_report


def write(study: Path, width: int, sparsity: float, seed: int, status: str = "done") -> None:
    """A run of ten rows: return = env_steps · width / 1000 + seed, evaluated at every second."""
    run_id = f"w{width}_s{sparsity:g}_seed{seed}"
    record = {
        "run_id": run_id, "agent": "sac", "env": "probe/x", "width": width, "sparsity": sparsity,
        "seed": seed, "mask_seed": seed, "pattern": "unstructured", "parameters_total": width**2,
        "parameters_nonzero": round((1 - sparsity) * width**2), "status": status,
        "reason": None if status == "done" else "loss/critic is nan", "timings": {"train_seconds": 1.0},
        "versions": {"jax": "0"}, "host": {"name": "h"},
    }  # fmt: skip
    results.write_run(study / run_id, record)
    rows = [
        {
            "env_steps": 100 * i,
            "updates": 90 * i,
            "return_mean": 0.1 * i * width + seed if i % 2 == 0 else math.nan,
            "dormant_ratio/critic": 0.1,
            "grad_norm/critic": 2.0,
        }
        for i in range(1, 11)
    ]
    results.write_metrics(study / run_id, rows)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    for width in (8, 16):
        for sparsity in (0.0, 0.5):
            for seed in (0, 1, 2):
                write(tmp_path, width, sparsity, seed)
    write(tmp_path, 32, 0.0, 0, status="diverged")
    return tmp_path


def test_load_is_one_row_per_run_and_log_point(study: Path) -> None:
    rows = load(study)
    assert len(rows) == 13 * 10
    assert {"env_steps", "width", "sparsity", "seed", "status", "train_seconds"} <= set(rows)
    assert len(load_runs(study)) == 13
    assert load_runs(study).set_index("run_id").loc["w32_s0_seed0", "status"] == "diverged"


def test_final_value_is_the_mean_over_the_last_fifth(study: Path) -> None:
    """Rows after 800 of 1000 steps: 900 (not evaluated) and 1000: 0.1 · 10 · 8 + 2 = 10."""
    final = final_values(load(study), "return_mean").set_index("run_id")["return_mean"]
    assert final["w8_s0_seed2"] == pytest.approx(10.0)
    assert "w32_s0_seed0" not in final  # diverged runs are no points of the curve


def test_a_run_without_rows_is_listed(study: Path) -> None:
    record = results.read_run(study / "w8_s0_seed0")
    assert record is not None
    results.write_run(study / "w64", record | {"run_id": "w64", "width": 64, "status": "failed"})
    assert 64 in set(load_runs(study)["width"])
    assert 64 not in set(load(study)["width"])


def test_scaling_curves_draw_the_values(study: Path) -> None:
    rows = load(study)
    figure = scaling_curves(rows[rows["status"] == "done"])
    ax = figure.axes[0]
    assert ax.get_xlabel() == "critic width (units)"
    assert ax.get_ylabel() == "return (per episode)"
    lines = [line.get_xydata().tolist() for line in ax.get_lines()]  # type: ignore[union-attr]
    assert [[8.0, 9.0], [16.0, 17.0]] in lines  # mean of seeds 0, 1, 2
    assert len(ax.collections) == 2  # a band per sparsity
    survivors = figure.axes[1]
    assert survivors.get_xlabel() == "surviving parameters (count)"
    assert {x for line in survivors.get_lines() for x in line.get_xdata()} == {64, 256, 32, 128}  # type: ignore[union-attr]


def test_learning_curves_have_a_panel_per_width(study: Path) -> None:
    titles = [ax.get_title() for ax in learning_curves(load(study)).axes]
    assert titles[:3] == ["width 8", "width 16", "width 32"]


def test_the_note_counts_the_seeds(study: Path) -> None:
    rows = load(study)
    assert "mean of 3 seeds" in seeds_note(rows[rows["status"] == "done"])
    assert "mean of 1 to 3 seeds" in seeds_note(rows)


def test_the_report_names_what_is_missing(study: Path) -> None:
    text = write_report(study, study / "out").read_text()
    assert "1 of 13 runs did not end" in text
    assert "loss/critic is nan" in text
    assert 'src="data:image/png;base64,' in text
    assert "http" not in text  # self-contained
    table = final_table(load(study))
    assert table["seeds"].tolist() == [3, 3, 3, 3]
    assert table["return_mean"].tolist()[0] == "9 [8, 10]"


def test_patterns_are_never_averaged_together(study: Path) -> None:
    """Each has figures of its own, with the dense runs beside it, and lines of its own in the table."""
    record, source = (
        results.read_run(study / "w8_s0.5_seed0"),
        results.read_metrics(study / "w8_s0_seed1"),
    )
    assert record is not None
    results.write_run(study / "block", record | {"run_id": "block", "pattern": "block"})
    rows: Any = source.to_dict("records")
    results.write_metrics(study / "block", rows)
    write_report(study, study / "out")
    drawn = {path.name for path in (study / "out").glob("scaling_*.png")}
    assert drawn == {"scaling_probe_x_block.png", "scaling_probe_x_unstructured.png"}
    table = final_table(load(study)).set_index(["pattern", "width", "sparsity"])["return_mean"]
    assert table["block", 8, 0.5] == "9 [9, 9]"
    assert table["unstructured", 8, 0.5] == "9 [8, 10]"


def test_a_study_that_only_started_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no runs in"):
        load(tmp_path)
    write(tmp_path, 8, 0.0, 0, status="running")
    (tmp_path / "w8_s0_seed0" / results.METRICS).unlink()
    with pytest.raises(ValueError, match=r"no run in .* has an evaluation yet"):
        write_report(tmp_path)
    assert isinstance(load(tmp_path), pd.DataFrame)
