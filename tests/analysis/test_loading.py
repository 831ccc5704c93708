"""Studies that are not as we wrote them: what can be read is loaded, the rest named with its reason."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up import rows as made_rows

from sparse_rl import laws as command
from sparse_rl.analysis import budgets, curves, load_all, scores, series, tables
from sparse_rl.analysis.report import refuse_nothing
from sparse_rl.records import results


def write(study: Path, run_id: str, seed: int = 0, width: int = 8, status: str = "done") -> Path:
    """A run of ten rows."""
    record = {
        "run_id": run_id, "agent": "sac", "network": "simba", "env": "probe/x", "width": width,
        "sparsity": 0.0, "seed": seed, "mask_seed": seed, "pattern": "x", "distribution": "u",
        "parameters_total": 99, "parameters_nonzero": 99, "flops_per_update": 9, "status": status,
        "timings": {"train_seconds": 1.0},
    }  # fmt: skip
    results.write_run(study / run_id, record)
    results.write_metrics(
        study / run_id,
        [
            {"env_steps": 10 * i, "updates": i, "wall_time": 1.0 * i, "return_mean": float(i + seed)}
            for i in range(1, 11)
        ],
    )
    return study / run_id


def spoil_record(text: bytes) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        (run / results.RUN).write_bytes(text)

    return change


def cut(name: str) -> Callable[[Path], None]:
    """The first 40 bytes of a file."""

    def change(run: Path) -> None:
        (run / name).write_bytes((run / name).read_bytes()[:40])

    return change


def edit(**values: object) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        results.write_run(run, results.known_run(run) | values)

    return change


def returns(value: float) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        frame = results.read_metrics(run).assign(return_mean=value)
        results.write_metrics(run, frame.to_dict("records"))  # type: ignore[arg-type]

    return change


@pytest.mark.parametrize(
    ("harm", "file", "reason", "left"),
    [
        (spoil_record(b'{"run_id": "b"'), "b/run.json", "cannot be read: Expecting", ["a"]),
        (spoil_record(b""), "b/run.json", "cannot be read", ["a"]),
        (spoil_record(b"{}"), "b/run.json", "begins neither with its checksum nor", ["a"]),
        (spoil_record(b'{"run_id": 1}'), "b/run.json", "cannot be read: status=None", ["a"]),
        (spoil_record(b'{"run_id": "\xe9"}'), "b/run.json", "cannot be read: 'utf-8'", ["a"]),
        (cut(results.METRICS), "b/metrics.parquet", "cannot be read", ["a"]),
        (cut(results.TIMES), "b/times.parquet", "the rows have no times", ["a", "b"]),
        (lambda run: (run / results.METRICS).unlink(), "metrics.parquet", "has no return", ["a"]),
        (returns(np.nan), "metrics.parquet", "is done and has no return", ["a", "b"]),
        (returns(-np.inf), "metrics.parquet", "infinite values", ["a", "b"]),
        (edit(width=None), "run.json", "has no width", ["a"]),
        (edit(run_id="other"), "b/run.json", "folder of another name", ["a", "other"]),
        (edit(seed=0, mask_seed=0), "b", "another run; it is left out", ["a"]),
    ],
)
def test_what_cannot_be_read_is_named_and_the_rest_is_loaded(
    tmp_path: Path, harm: Callable[[Path], None], file: str, reason: str, left: list[str]
) -> None:
    write(tmp_path, "a")
    harm(write(tmp_path, "b", seed=1))
    loaded = load_all(tmp_path)
    assert sorted(loaded.rows["run_id"].unique()) == left
    assert loaded.rows.query("run_id == 'a'")["return_mean"].tolist() == [float(i) for i in range(1, 11)]
    problem = loaded.problems[0]
    assert problem.file.endswith(file)
    assert re.search(reason, problem.reason)
    told = tables.troubles(loaded.problems, loaded.rows)
    assert told["reason"].iloc[0] == problem.reason
    if left == ["a"] and "left out" not in reason and "width" not in reason:
        assert set(loaded.runs["run_id"]) == {"a", "b"}  # it is still listed


def test_a_whole_study_has_no_problems(tmp_path: Path) -> None:
    write(tmp_path, "a")
    write(tmp_path, "b", seed=1)
    assert load_all(tmp_path).problems == []


def test_the_law_command_names_the_file_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for width in (8, 16, 32):
        for seed in (0, 1):
            write(tmp_path, f"w{width}-{seed}", seed, width)
    cut(results.METRICS)(write(tmp_path, "broken", 2))
    command.main([str(tmp_path)])
    told = capsys.readouterr()
    assert "broken/metrics.parquet: cannot be read" in told.err
    assert "laws fitted without the largest 1" in told.out
    assert "1 task" in told.out
    assert "1 tasks" not in told.out


def test_a_study_without_a_return_says_how_it_ended(tmp_path: Path) -> None:
    write(tmp_path, "a", status="failed")
    cut(results.METRICS)(write(tmp_path, "b", 1))
    loaded = load_all(tmp_path)
    with pytest.raises(ValueError, match=r"\(1 failed, 1 done\); .*b/metrics.parquet: cannot be read"):
        refuse_nothing(loaded.runs, loaded.rows, loaded.problems, [tmp_path])


def test_runs_evaluated_at_other_steps_are_read_between_theirs() -> None:
    """One at 100, 200 … 1000, the other seven steps later: at the first one's steps from 107 on."""
    late = made_rows("b", [float(i) for i in range(10)], seed=1).assign(
        env_steps=np.arange(107, 1108, 100)[:10]
    )
    both = pd.concat([made_rows("a", [float(i) for i in range(10)]), late], ignore_index=True)
    curve = curves.learning_curves(both)
    assert curve.env_steps.tolist() == [200.0 + 100 * i for i in range(9)]
    assert curve.values[:, 0].tolist() == [float(i) for i in range(1, 10)]
    assert curve.values[:, 1] == pytest.approx(np.arange(9) + 0.93)
    tasks = pd.concat([both, late.assign(run_id="c", env="probe/y")], ignore_index=True)
    assert len(curves.sample_efficiency(tasks)) == 9


def test_runs_that_diverge_count_wherever_a_run_is_counted() -> None:
    """At budgets beyond their end, in thresholds, and where they had no evaluation yet."""
    done = made_rows("a", [-50.0, 10.0, 20.0, 30.0])
    gone = made_rows("b", [-70.0, 90.0], status="diverged", seed=1)
    early = made_rows("c", [np.nan], status="diverged", seed=2)
    every = pd.concat([done, gone, early], ignore_index=True)
    at = scores.at_budget(every, "env_steps", 400).set_index("run_id")["return_mean"]
    assert at.to_dict() == {"a": 30.0, "b": -70.0, "c": -60.0}  # c: the mean of a's and b's first
    assert scores.at_budget(every, "env_steps", 200).set_index("run_id")["return_mean"]["b"] == 90.0
    assert scores.final_values(every, "return_mean")["return_mean"].tolist() == [30.0, -70.0, -60.0]
    other = made_rows("d", [-50.0, -40.0], width=16, status="diverged", seed=3)
    (grid,) = series.split(pd.concat([every, other], ignore_index=True))
    crossing = budgets.crossings(grid, 0.0)[16, 0.0]
    assert crossing.env_steps == 400.0
    assert crossing.censored.all()


def test_evaluations_that_stop_early_are_no_final_value() -> None:
    stops = made_rows("a", [1.0] * 8 + [np.nan] * 2)  # at 800 of 1,000
    whole = made_rows("b", [1.0] * 9 + [np.nan], seed=1)
    both = pd.concat([stops, whole], ignore_index=True)
    assert scores.stopped_early(both) == ["a"]
    assert scores.final_values(both, "return_mean")["run_id"].tolist() == ["b"]
    told = tables.troubles([], both)
    assert told["run_id"].tolist() == ["a"]
    assert "stop before the last fifth" in told["reason"].iloc[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hold-out", "0"], "--hold-out takes a whole number > 0, got 0"),
        (["--hold-out", "-1"], "--hold-out takes a whole number > 0, got -1"),
        (["--at-steps", "inf"], "--at-steps takes a number > 0, got inf"),
        (["--sparsity", "nan"], "--sparsity takes a number, got nan"),
        (["--with-data", "--thresholds", "1", "nan"], "--thresholds takes a number, got nan"),
        (["--figure", "x.xyz"], r"--figure ends in .png, .svg, .pdf, got x.xyz"),
        (["--sparsity", "0.7"], "no run has sparsity 0.7; there are 0"),
        (["--only", "agent=ppo"], "no run has agent=ppo; there are a2c, sac"),
        (["--only", "hue=3"], "--only takes column=value"),
        (["--seeds", "9"], "no run has one of these seeds; there are 0, 1"),
        (["--ranges", "x=3:1"], "--ranges takes TASK=LOW:HIGH"),
        ([], r"these runs differ in agent \('a2c', 'sac'\), and are not averaged"),
    ],
)
def test_the_law_command_refuses_by_name(
    tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, "a")
    edit(agent="a2c")(write(tmp_path, "b", 1))
    with pytest.raises(SystemExit) as stopped:
        command.main([str(tmp_path), *arguments])
    assert stopped.value.code == 2
    assert re.search(message, capsys.readouterr().err)


def test_laws_do_not_average_methods(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, method in enumerate(("rigl", "static")):
        edit(method=method)(write(tmp_path, method, seed))
    with pytest.raises(SystemExit):
        command.main([str(tmp_path)])
    assert "these runs differ in method ('rigl', 'static')" in capsys.readouterr().err


def test_cells_of_different_tasks_are_not_compared() -> None:
    final = pd.DataFrame({"width": [8, 8, 16], "env": ["a", "b", "a"], "run_id": ["x", "y", "z"]})
    with pytest.raises(ValueError, match="width 16 lacks b; choose tasks that all have"):
        scores.refuse_uneven_tasks(final, ["width"])
    scores.refuse_uneven_tasks(final.iloc[[0, 2]], ["width"])


def test_a_pooled_grid_has_the_cells_that_hold_all_tasks() -> None:
    runs = [("dog-run", 8), ("dog-walk", 8), ("dog-run", 16)]
    frame = pd.concat(
        [made_rows(f"{env}{width}", [500.0] * 5, width=width, env=env) for env, width in runs],
        ignore_index=True,
    )
    (pooled,) = series.pool(series.split(frame))
    assert set(pooled.rows["width"]) == {8}
    assert pooled.label == "2 tasks, normalised, without 1 cells that lack a task"
