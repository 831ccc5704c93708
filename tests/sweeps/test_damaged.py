"""A damaged record costs its own run what docs/sweeps.md promises, is named, and blocks no other."""

from pathlib import Path
from typing import Any

import pytest
from conftest import MakeConfig

from sparse_rl import status
from sparse_rl.records import results
from sparse_rl.runs import Recorder
from sparse_rl.runs.pack import prepare_pack
from sparse_rl.runs.provenance import code_here
from sparse_rl.runs.trained import runs_of
from sparse_rl.settings.run import RunConfig
from sparse_rl.sweeps import run, squeue
from sparse_rl.sweeps.locks import FOLDER
from sparse_rl.sweeps.run import finished_runs, holder
from sparse_rl.sweeps.squeue import Standing
from sparse_rl.sweeps.tasks import Settings, status_of


@pytest.fixture
def study(make_config: MakeConfig, tmp_path: Path) -> tuple[Path, list[RunConfig]]:
    """Three finished runs."""
    configs = [make_config(seed=seed) for seed in (0, 1, 2)]
    for config in configs:
        (one,) = prepare_pack([config]).runs
        Recorder(tmp_path / config.run_id, config, one.costs, "none").finish("done", None, {})
    results.write_grid(tmp_path, {c.run_id: {**run._axes(c)} for c in configs})
    return tmp_path, configs


def test_a_sweep_names_it_and_skips_the_others(study: tuple[Path, list[RunConfig]]) -> None:
    folder, configs = study
    path = folder / configs[1].run_id / results.RUN
    path.write_text("")
    said: list[str] = []
    finished = finished_runs(configs, Settings(folder), said.append)
    assert set(finished) == {configs[0].run_id, configs[2].run_id}
    (line,) = said
    assert line.startswith(f"{path} cannot be read: ")
    assert status_of(folder, configs[1].run_id) == "pending"
    (one,) = prepare_pack([configs[1]]).runs
    Recorder(path.parent, configs[1], one.costs, "none")
    assert path.with_name("run.json.damaged").read_text() == ""
    record = results.read_run(path.parent)
    assert record is not None
    assert record["status"] == "running"


def test_a_damaged_list_is_put_aside_and_written_anew(
    study: tuple[Path, list[RunConfig]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, configs = study
    (folder / results.GRID).write_text("{")
    run._list_runs(configs[:2], folder)
    assert str(folder / results.GRID) in capsys.readouterr().out
    assert set(results.read_grid(folder)) == {c.run_id for c in configs[:2]}
    assert (folder / "grid.json.damaged").read_text() == "{"


def test_commands_that_read_a_study_leave_it_out_by_name(study: tuple[Path, list[RunConfig]]) -> None:
    folder, configs = study
    (folder / configs[0].run_id / results.CONFIG).write_text("width: [")
    (folder / configs[1].run_id / results.RUN).write_text("[]")
    said: list[str] = []
    ((path, config),) = runs_of(folder, said.append)
    assert (path.name, config) == (configs[2].run_id, configs[2])
    assert len(said) == 2
    assert f"{configs[0].run_id} is left out: {folder}" in "\n".join(said)
    (folder / configs[2].run_id / "probe.json").write_text("{")
    damaged = folder / configs[2].run_id / "probe.json"
    assert results.read_found(damaged, said.append) == {}
    assert said[2].startswith(f"{damaged} cannot be read: ")


def test_status_shows_the_others_and_which_job_a_run_waits_for(
    study: tuple[Path, list[RunConfig]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, configs = study
    damaged = folder / configs[0].run_id / results.RUN
    damaged.write_text("nothing")
    results.write_run(damaged.parents[1] / configs[1].run_id, {"status": "preempted", "attempts": [{}]})
    (folder / FOLDER / "one").mkdir(parents=True)
    jobs: Any = {"7_1": [configs[1].run_id], "7_2": [configs[2].run_id], "6": ["gone"]}
    results.write_record(folder / FOLDER / "one" / squeue.JOBS, jobs)
    (folder / FOLDER / "two").mkdir()
    (folder / FOLDER / "two" / squeue.JOBS).write_text("{")
    now = {"7_1": Standing("PENDING", "Resources"), "7_2": Standing("COMPLETED", "None")}
    monkeypatch.setattr(squeue, "states", lambda: now)
    status.main([str(folder), "--once"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "1 done" in shown
    assert f"{configs[0].run_id}: pending: {damaged} cannot" in shown.replace(" cannot be", " cannot")
    assert f"{configs[1].run_id}: preempted: job 7_1 is PENDING (Resources)" in shown


def test_every_attempt_says_what_trained_it_and_other_code_is_told_of(
    study: tuple[Path, list[RunConfig]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, configs = study
    said: list[str] = []
    assert len(finished_runs(configs, Settings(folder), said.append)) == 3
    assert said == []
    before = results.read_run(folder / configs[0].run_id)
    assert before is not None
    (attempt,) = before["attempts"]
    for key in ("versions", "device", "host", "git_commit", "flags"):
        assert attempt[key] == before[key]
    other = before | {"versions": {"sparse_rl": "0.0.9"}, "git_commit": "abcdef0123"}
    results.write_run(folder / configs[0].run_id, other)
    finished_runs(configs, Settings(folder), said.append)
    assert said == [
        f"finished by other code than this ({code_here()}): 1 by sparse_rl 0.0.9, commit abcdef0"
    ]
    assert (
        holder(before | {"status": "running"})
        == f"process {attempt['host']['process']} on " + (attempt["host"]["name"])
    )
    assert holder({"status": "running"}) == holder({}) == "another process"
