"""Studies from disk: one tidy table, honest curves, words, and a report whose numbers can be traced."""

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import troubled
from troubled import TRAINED

from sparse_rl import laws as command
from sparse_rl.analysis import (
    budgets,
    figures,
    findings,
    load,
    load_runs,
    looks,
    page,
    ranges,
    series,
    statistics,
    tables,
)
from sparse_rl.analysis.report import write_report
from sparse_rl.analysis.scores import RETURN, final_values
from sparse_rl.analysis.selection import choose_rows
from sparse_rl.records import results


def write(
    study: Path, width: int, sparsity: float, seed: int, status: str = "done", points: int = 10,
    **record: Any,
) -> str:  # fmt: skip
    """A run of rows 100 env steps apart: return = env_steps · width / 1000 + seed, every second row."""
    run_id = record.pop("run_id", f"w{width}_s{sparsity:g}_seed{seed}")
    identity = {
        "run_id": run_id, "agent": "sac", "network": "simba", "env": "probe/x", "width": width,
        "sparsity": sparsity, "seed": seed, "mask_seed": seed, "pattern": "unstructured",
        "distribution": "uniform", "parameters_total": width**2, "flops_per_update": width**2,
        "parameters_nonzero": round((1 - sparsity) * width**2), "status": status,
        "reason": None if status == "done" else "loss/critic is nan",
        "timings": {"train_seconds": 1.0}, "versions": {"jax": "0"}, "host": {"name": "h"},
    }  # fmt: skip
    results.write_run(study / run_id, identity | record)
    rows = [
        {
            "env_steps": 100 * i, "updates": 90 * i, "wall_time": 0.5 * i,
            "return_mean": 0.1 * i * width + seed if i % 2 == 0 else np.nan,
            "dormant_ratio/critic": 0.1, "grad_norm/critic": 2.0,
        }
        for i in range(1, points + 1)
    ]  # fmt: skip
    if rows:
        results.write_metrics(study / run_id, rows)
    return str(run_id)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    for width in (8, 16):
        for sparsity in (0.0, 0.5):
            for seed in (0, 1, 2):
                write(tmp_path, width, sparsity, seed)
    return tmp_path


@pytest.fixture(scope="module")
def hurt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained study with a run that failed, one that diverged, one half done and one never begun."""
    return troubled.study(tmp_path_factory.mktemp("studies"))


def only(frame: pd.DataFrame) -> series.Series:
    (found,) = series.split(frame)
    return found


def test_load_is_one_row_per_run_and_log_point(study: Path) -> None:
    write(study, 32, 0.0, 0, status="diverged")
    rows = load(study)
    assert len(rows) == 13 * 10
    assert {"env_steps", "width", "sparsity", "seed", "status", "train_seconds", "wall_time"} <= set(
        rows
    )
    assert len(load_runs(study)) == 13
    assert load_runs(study).set_index("run_id").loc["w32_s0_seed0", "status"] == "diverged"


def test_rows_are_those_of_the_files(study: Path) -> None:
    """Read in columns by threads, each run's rows stand beside its own axes."""
    for run_id, rows in load(study).groupby("run_id"):
        own = results.read_metrics(study / str(run_id))
        assert np.array_equal(rows["return_mean"], own["return_mean"], equal_nan=True)
        assert set(rows["width"]) == {int(re.findall(r"w(\d+)", str(run_id))[0])}


def test_a_crash_between_rows_and_times_loses_neither(study: Path) -> None:
    path = study / "w8_s0_seed0" / results.TIMES
    pd.read_parquet(path).iloc[:9].to_parquet(path)
    own = load(study).query("run_id == 'w8_s0_seed0'")
    assert own["env_steps"].tolist() == list(range(100, 1001, 100))
    assert own["wall_time"].isna().tolist() == [False] * 9 + [True]


def test_runs_that_were_asked_for_are_listed(study: Path) -> None:
    axes = {"env": "probe/x", "agent": "sac", "width": 64, "sparsity": 0.0, "seed": 0, "pattern": "x"}
    results.write_grid(study, {"w64": axes | {"env_steps": 1000}})
    write(study, 32, 0.0, 0, status="failed", points=0)
    runs = load_runs(study).set_index("run_id")
    assert runs.loc["w64", "status"] == "pending"
    assert runs.loc["w64", "env_steps_planned"] == 1000
    assert {32, 64}.isdisjoint(load(study)["width"])
    assert tables.missing(load_runs(study))["status"].tolist() == ["failed", "pending"]


def test_several_studies_count_a_run_once(study: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    write(other, 8, 0.0, 0, status="running", points=2)
    write(other, 8, 0.0, 7)
    runs = load_runs(other, study).set_index("run_id")
    assert len(runs) == 13
    assert runs.loc["w8_s0_seed0", "status"] == "done"
    assert runs.loc["w8_s0_seed7", "study"] == str(other)
    assert len(load(other, study)) == 130


def test_runs_that_differ_in_something_else_are_told_apart(study: Path) -> None:
    """Two batch sizes of one width, sparsity and seed are no two seeds."""
    for run_dir in results.run_dirs(study):
        results.write_config(run_dir, {"width": 8, "agent": {"batch_size": 64}})
    run_id = write(study, 8, 0.0, 0, run_id="other")
    results.write_config(study / run_id, {"width": 8, "agent": {"batch_size": 128}})
    runs = load_runs(study).set_index("run_id")["variant"]
    assert runs["other"] == "agent.batch_size=128"
    assert set(runs.drop("other")) == {"agent.batch_size=64"}
    labels = {grid.label for grid in series.split(load(study))}
    assert labels == {"probe/x, agent.batch_size=64", "probe/x, agent.batch_size=128"}


def test_patterns_share_their_dense_runs_and_are_never_averaged(study: Path) -> None:
    write(study, 8, 0.5, 0, pattern="block", run_id="block")
    grids = {grid.label: grid for grid in series.split(load(study))}
    assert set(grids) == {"probe/x, block", "probe/x, unstructured"}
    for name, sparse in (("block", 1), ("unstructured", 6)):
        rows = grids[f"probe/x, {name}"].rows.drop_duplicates("run_id")
        assert (rows["sparsity"] == 0).sum() == 6
        assert (rows["sparsity"] > 0).sum() == sparse
    cells = tables.cell_table(grids["probe/x, block"]).set_index(["width", "sparsity"])
    assert cells.loc[(8, 0.5), RETURN] == "8"  # one run has no interval
    assert cells.loc[(8, 0.0), RETURN] == "9"  # nor have two cells of three


def test_returns_stand_beside_those_of_training_and_one_episode_is_said(study: Path) -> None:
    for run_dir in results.run_dirs(study):
        frame = results.read_metrics(run_dir)
        distinct = 1.0 if run_dir.name.startswith("w8_s0_") else 10.0
        frame["eval_episodes_distinct"] = distinct + 0.0 * frame[RETURN]
        frame["train_return_mean"] = 7.0 if run_dir.name.startswith("w16") else 5.0
        rows: Any = frame.to_dict("records")
        results.write_metrics(run_dir, rows)
    grid = only(load(study))
    table = tables.cell_table(grid)
    at = table.columns.get_loc(RETURN)
    beside = table.columns[at + 1 : at + 3].tolist()  # type: ignore[operator]
    assert beside == ["train_return_mean", "eval_episodes_distinct"]
    assert table["train_return_mean"].tolist() == ["5"] * 2 + ["7"] * 2
    assert budgets.frontier(grid)["train_return_mean"].iloc[-1] == "7"
    assert next(iter(findings.words(grid))).startswith("In 3 of 12 runs all episodes of the last eval")


@pytest.mark.parametrize("width", [None, 8])
@pytest.mark.parametrize("sparsity", [None, 0.0, 0.5])
def test_queries_find_their_rows(study: Path, width: int | None, sparsity: float | None) -> None:
    write(study, 8, 0.5, 0, pattern="block", run_id="block")
    rows = load(study)
    grid = next(grid for grid in series.split(rows) if grid.label.endswith("unstructured"))
    found = rows.query(grid.query(width, sparsity))
    chosen = grid.rows
    chosen = chosen if width is None else chosen[chosen["width"] == width]
    chosen = chosen if sparsity is None else chosen[chosen["sparsity"] == sparsity]
    assert set(found.index) == set(chosen.index)


def test_scaling_curves_draw_the_values(study: Path) -> None:
    figure = figures.scaling_curves(load(study))
    ax = figure.axes[0]
    assert ax.get_xlabel() == "critic width (units)"
    assert ax.get_ylabel() == "return (per episode)"
    assert len(ax.get_lines()) == 2
    for line in ax.get_lines():  # interquartile mean of seeds 0, 1, 2
        assert line.get_xydata() == pytest.approx(np.array([[8.0, 9.0], [16.0, 17.0]]))
    assert len(ax.collections) == 2  # a band per sparsity
    survivors = figure.axes[1]
    assert survivors.get_xlabel() == "surviving parameters (count)"
    assert {x for line in survivors.get_lines() for x in line.get_xdata()} == {64, 256, 32, 128}  # type: ignore[union-attr]
    assert "mean of 3 seeds; band: 95 % moderated t interval" in figure.get_suptitle()


def test_learning_curves_show_runs_that_did_not_end_as_what_they_are(study: Path) -> None:
    write(study, 16, 0.0, 3, status="running", points=4)
    figure = figures.learning_curves(load(study))
    assert [ax.get_title() for ax in figure.axes] == ["width 8", "width 16"]
    styles = [line.get_linestyle() for line in figure.axes[1].get_lines()]
    assert styles.count(":") == 1
    assert "dotted: 1 run that did not end done" in figure.get_suptitle()


def test_the_note_counts_seeds_and_diverged_runs(study: Path) -> None:
    final = final_values(load(study), RETURN)
    assert "of 3 seeds" in figures.seeds_note(final)
    write(study, 16, 0.5, 3, status="diverged")
    final = final_values(load(study), RETURN)
    assert "of 3 to 4 seeds" in figures.seeds_note(final)
    assert "1 diverged, counted as untrained" in figures.seeds_note(final)


def test_colours_are_the_same_whatever_their_order() -> None:
    assert looks.palette([0.9, 0.0, 0.5]) == looks.palette([0.0, 0.5, 0.9])


def test_figures_are_written_as_vector_and_raster(study: Path, tmp_path: Path) -> None:
    text = page.show(figures.heat_maps(load(study)), "map", "A <map>", tmp_path / "out")
    assert (tmp_path / "out" / "map.svg").read_text().startswith("<?xml")
    assert (tmp_path / "out" / "map.png").read_bytes().startswith(b"\x89PNG")
    assert "A &lt;map&gt;" in text
    assert 'src="data:image/png;base64,' in text


def test_every_figure_is_drawn_from_a_trained_study() -> None:
    rows = load(TRAINED)
    grid = only(rows)
    final = ranges.normalised(final_values(rows, RETURN))
    for figure in (
        figures.scaling_curves(rows),
        figures.learning_curves(rows),
        figures.heat_maps(rows),
        figures.health_against_score(rows),
        figures.iso_flops(rows, budgets.budgets(grid)),
        figures.performance_profiles(final, "all"),
    ):
        for ax in figure.axes:
            beside = ax.get_shared_x_axes().get_siblings(ax)
            named = any(other.get_xlabel() for other in beside) or ax.get_label() == "<colorbar>"
            assert named or not ax.has_data()
        figure.draw_without_rendering()


def test_words_say_what_the_runs_cannot(study: Path) -> None:
    """Two widths carry no law with a peak; one sparsity has no comparison."""
    text = " ".join(findings.words(only(load(study))))
    assert "at equal width, 2 comparisons: sparsity 0.5: 2 cannot tell" in text
    assert "At the largest size that both have, sparse less dense is +0 [" in text
    lone = only(load(study).query("sparsity == 0.5 and seed == 0 and width == 8"))
    text = " ".join(findings.words(lone))
    assert "only sparsity 0.5 was measured" in text
    assert "no run has sparsity 0" in text
    assert "1 size cannot be fitted and 1 held out" in text
    (correlation,) = findings.association_words(lone, ["grad_norm/critic"])
    assert correlation.endswith("needs three runs, there are 1.")


def test_words_of_a_trained_study_are_its_numbers() -> None:
    grid = only(load(TRAINED))
    text = list(findings.words(grid))
    final = final_values(grid.rows, "dormant_ratio/critic").query("width == 128 and sparsity == 0")
    value = statistics.iqm(statistics.scores({"": final["dormant_ratio/critic"].to_numpy()}))
    (dormant,) = [sentence for sentence in text if "dormant units" in sentence]
    assert f"{float(value):.4g} [" in dormant
    assert sum("laws in" in sentence for sentence in text) == 3


def test_tasks_of_known_range_are_pooled(study: Path) -> None:
    """Returns of 8 and 16 at width 8 and 16, of two tasks that run from 0 to 1000."""
    for env in ("dog-run", "dog-walk"):
        for width in (8, 16):
            write(study, width, 0.0, 0, env=env, run_id=f"{env}{width}")
    (pooled,) = series.pool(series.split(load(study)))  # the range of probe/x is not known
    assert pooled.label == "2 tasks, normalised"
    final = final_values(pooled.rows, RETURN).set_index("run_id")[RETURN]
    assert final.to_dict() == {
        "dog-run8": 0.008,
        "dog-run16": 0.016,
        "dog-walk8": 0.008,
        "dog-walk16": 0.016,
    }
    assert tables.size_of(pooled) == "width"
    figure = figures.scaling_curves(pooled.rows)
    assert figure.axes[0].get_ylabel() == "score (normalised, per episode)"
    assert len(figure.axes) == 3  # against the width alone


def test_tables_beside_dense_and_the_best_sparsity() -> None:
    grid = only(load(TRAINED))
    chances = tables.improvement_table(grid).set_index(["width", "sparsity"])["P(above dense)"]
    # every run is below every dense one: of three and three that is one in ten where nothing differs
    assert chances.xs((16, 0.9)).startswith("0 [0, 0.8")
    assert len(chances) == 8
    best = tables.optimum_table(grid).set_index("width")
    assert best.loc[16, "best measured"] == "0 [0, 0.5]"
    (aggregates,) = tables.aggregates(grid)
    assert len(aggregates) == 12
    assert aggregates["optimality gap"].str.contains(r"\[").all()


def test_data_to_a_threshold_marks_what_never_gets_there() -> None:
    table = budgets.data_table(only(load(TRAINED))).set_index(["width", "sparsity"])
    assert table.xs((16, 0.9)).str.startswith("> ").all()
    assert not table.xs((128, 0.0)).str.startswith("> ").any()


def test_a_study_with_holes_yields_honest_curves(hurt: Path) -> None:
    runs, grid = load_runs(hurt), only(load(hurt))
    absent = tables.missing(runs)
    assert sorted(absent["status"]) == ["diverged", "failed", "pending", "running"]
    table = tables.cell_table(grid)
    assert table["runs"].sum() == 36 - 3  # the diverged one counts
    assert table["diverged"].sum() == 1
    diverged = absent.loc[absent["status"] == "diverged", "run_id"].iloc[0]
    first = grid.rows.query("run_id == @diverged")[RETURN].dropna().iloc[0]
    final = final_values(grid.rows, RETURN).set_index("run_id")
    assert final.loc[diverged, RETURN] == first
    figures.learning_curves(grid.rows)


def test_a_study_that_only_started_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no runs in"):
        load(tmp_path)
    write(tmp_path, 8, 0.0, 0, status="running", points=0)
    with pytest.raises(ValueError, match=r"no run in .* is done with a return_mean \(1 running\)"):
        write_report([tmp_path])
    assert load(tmp_path).empty


def test_a_missing_package_is_named_before_anything_starts(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'sparse_rl\[report\]'"):
        write_report([study])


def test_the_law_command_reads_studies_and_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = ["--figure", str(tmp_path / "laws.png")]
    command.main([str(TRAINED), "--sparsity", "0.9", "--size", "parameters_nonzero", *drawn])
    text = capsys.readouterr().out
    assert (tmp_path / "laws.png").exists()
    assert "29612" in text
    assert "The power law came closest to that one" in " ".join(text.split())
    lines = ["exp_name,env_name,seed,metric,env_step,value"]
    for width in (8, 16, 32, 64):
        for env in ("dog_run", "dog-walk"):
            lines += [
                f"n_width{width},{env},{seed},avg_return,100,{10 * width + seed}" for seed in (1, 2)
            ]
    lines.append("n_width8,dog_run,3,avg_return,100,999")
    path = tmp_path / "published.csv"
    path.write_text("\n".join(lines))
    command.main([str(path), "--tasks", "dog-*", "--at-steps", "100", "--shared-seeds"])
    text = capsys.readouterr().out
    assert "normalised score" in text
    assert "0.6415" in text  # width 64: 641 and 642 of 1000 on both tasks
    assert "999" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tasks", "cat-*"], "no task matches; there are gymnax/Pendulum-v1"),
        (["--sparsity", "0.3"], "no run has sparsity 0.3"),
        (["--at-steps", "1e9"], "no run has a value there"),
    ],
)
def test_the_law_command_says_what_there_is(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        command.main([str(TRAINED), *arguments])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_the_trained_study_is_whole() -> None:
    grid = json.loads((TRAINED / results.GRID).read_text())
    assert len(grid) == 36
    assert set(load_runs(TRAINED)["status"]) == {"done"}


def test_points_of_studies_from_before_settings_were_rounded_are_one(tmp_path: Path) -> None:
    """3 · 0.1 and 0.3 are one cell, which either finds."""
    write(tmp_path, 8, 0.1 * 3, 0, run_id="old")
    write(tmp_path, 8, 0.3, 1, run_id="new")
    rows = load(tmp_path)
    assert set(rows["sparsity"]) == {0.3}
    for asked in (0.3, 0.1 * 3):
        assert set(choose_rows(rows, (), asked, False)["run_id"]) == {"old", "new"}
    raw = rows.assign(sparsity=0.1 * 3)  # of somebody who made rows without us
    assert len(choose_rows(raw, (), 0.3, False)) == len(rows)


def test_seeds_that_not_all_widths_have_are_left_out() -> None:
    """Task by task: seed 3 counts where both widths have it."""
    run, walk = "dog-run", "dog-walk"
    runs = [(run, 8, 1), (run, 16, 1), (run, 8, 3), (walk, 8, 3), (walk, 16, 3)]
    rows = pd.DataFrame(runs, columns=["env", "width", "seed"]).assign(sparsity=0.5)
    chosen = choose_rows(rows, ("dog-*",), 0.5, shared_seeds=True)
    assert list(chosen[["env", "width", "seed"]].itertuples(index=False, name=None)) == [
        runs[0], runs[1], runs[3], runs[4],
    ]  # fmt: skip
    assert len(choose_rows(rows, ("dog-run",), 0.5, shared_seeds=False)) == 3
    with pytest.raises(ValueError, match="no task has a seed that all widths share"):
        choose_rows(rows.iloc[2:4].assign(width=[8, 16]), (), 0.5, shared_seeds=True)
