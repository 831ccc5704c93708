"""Sweeps on a real SLURM: an array, a job killed, one preempted, no accounting database."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import cloudpickle  # type: ignore[import-untyped]
import pytest
import submitit
from conftest import MakeConfig
from outcomes import Outcomes, outcomes
from slurm_cluster import cluster

from sparse_rl.records import results
from sparse_rl.sweeps import places
from sparse_rl.sweeps.jobs import End, TrainTogether, end_of
from sparse_rl.sweeps.sbatch import executor_of
from sparse_rl.sweeps.tasks import Settings, write_task

GRID = (
    "width=8,12", "sparsity=0.5", "seed=0,1", "env_steps=16000", "log_every=400", "eval_every=8000",
    "agent.batch_size=16", "env.eval_episodes=2", "checkpoint_every=2000",
)  # fmt: skip
SLURM = (
    "hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.timeout_min=30",
    "hydra.launcher.signal_delay_s=60", "max_runs_per_pack=1",
)  # fmt: skip


def start(cwd: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "sparse_rl.sweep", *GRID, *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def jobs(*options: str) -> list[list[str]]:
    command = ["squeue", "--me", "-h", "--array", "--states=all", "--format=%i|%T|%r", *options]
    listed = subprocess.run(command, capture_output=True, text=True, check=True)
    return [line.split("|") for line in listed.stdout.split("\n") if line]


def wait_for(
    process: "subprocess.Popen[str]", what: str, happened: Callable[[], object], seconds: float = 240.0
) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"{what} did not happen in {seconds} s: {jobs()}"
        hurry()
        time.sleep(0.2)


def hurry() -> None:
    """SLURM lets a requeued job wait for two minutes; not here."""
    for job, state, reason in jobs():
        if state == "PENDING" and reason == "BeginTime":
            subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], check=False)


def finish(process: "subprocess.Popen[str]", seconds: float = 400.0) -> str:
    deadline = time.monotonic() + seconds
    while process.poll() is None:
        assert time.monotonic() < deadline, jobs()
        hurry()
        time.sleep(0.5)
    return process.communicate()[0]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A SLURM of one node; ``SLURM_CONF`` points into its folder."""
    with cluster(tmp_path_factory.mktemp("slurm")) as root:
        yield root


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    folder = tmp_path_factory.mktemp("calm")
    process = start(folder)
    out = process.communicate()[0]
    assert process.returncode == 0, out
    return outcomes(folder / "results" / "demo")


@pytest.mark.usefixtures("slurm")
def test_a_grid_survives_a_kill_and_a_preemption(tmp_path: Path, calm: Outcomes) -> None:
    """Four jobs in the low partition: one task is killed, the others make room for a job in main."""
    process = start(tmp_path, *SLURM, "hydra.launcher.partition=low")
    study = tmp_path / "results" / "demo"
    wait_for(process, "a checkpoint", lambda: list(study.glob("*/checkpoints/*.arrow")))
    tasks = subprocess.run(["pgrep", "-f", "submitit.core._submit"], capture_output=True, text=True)
    os.kill(int(tasks.stdout.split()[0]), signal.SIGKILL)
    subprocess.run(
        ["sbatch", "-p", "main", "-c", "4", "-o", "/dev/null", "--wrap", "sleep 3"],
        check=True,
        cwd=tmp_path,
    )
    out = finish(process)
    assert process.returncode == 0, out
    assert "4 tasks submitted" in out
    assert outcomes(study) == calm
    records = [results.read_run(run_dir) for run_dir in results.run_dirs(study)]
    assert max(len(record["attempts"]) for record in records if record) > 1


WORKER = """#!/bin/sh
# Instead of "python -m sparse_rl.sweeps.worker TASK.json": trains nothing, and leaves as a worker does.
case $3 in *task_0.json) while [ ! -e $3.now ]; do sleep 0.1; done; kill -KILL $$;; esac
if [ -e $3.begun ]; then echo done; exit 0; fi
trap 'echo saved; exit 0' TERM
touch $3.begun
while :; do sleep 0.1; done
"""


class PlayTogether(TrainTogether):
    """A job of several packs whose processes train nothing."""

    def __call__(self, paths: Sequence[str]) -> None:
        worker = Path(paths[0]).parent / "worker"
        places.sys = SimpleNamespace(executable=str(worker))  # type: ignore[attr-defined, assignment]
        super().__call__(paths)

    def checkpoint(self, paths: Sequence[str]) -> submitit.helpers.DelayedSubmission:
        """As it is, but what is queued again plays, too."""
        super().checkpoint(paths)
        return submitit.helpers.DelayedSubmission(PlayTogether(), paths)


@pytest.mark.usefixtures("slurm")
def test_packs_side_by_side_break_alone_and_leave_together(
    tmp_path: Path, make_config: MakeConfig
) -> None:
    """One of three processes is killed, and the others go on. Then the job makes room for another: both
    save, and begin again when it is queued again; the one that broke does not."""
    (tmp_path / "worker").write_text(WORKER)
    (tmp_path / "worker").chmod(0o755)
    files = [tmp_path / f"task_{seed}.json" for seed in range(3)]
    for seed, path in enumerate(files):
        write_task(path, [make_config(seed=seed)], Settings(tmp_path / "study"))
    given = {"partition": "low", "cpus_per_task": 3, "packs_per_job": 3, "timeout_min": 30}
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    executor_of(tmp_path, given).submit(PlayTogether(), list(map(str, files)))

    def until(what: str, happened: Callable[[], object]) -> None:
        deadline = time.monotonic() + 300
        while not happened():
            assert time.monotonic() < deadline, f"{what} did not happen: {jobs()}"
            hurry()
            time.sleep(0.2)

    def logs(word: str) -> list[bool]:
        """Whose processes have said so."""
        texts = [path.with_suffix(".log") for path in files]
        return [text.exists() and word in text.read_text() for text in texts]

    until("two begin", lambda: all(Path(f"{path}.begun").exists() for path in files[1:]))
    Path(f"{files[0]}.now").touch()
    until("its mark", lambda: end_of(files[0]))
    assert end_of(files[0]) == End(True, "worker ended by SIGKILL")
    assert "RUNNING" in [state for _, state, _ in jobs()]
    assert [end_of(path) for path in files[1:]] == [None, None]
    assert logs("saved") == [False, False, False]
    other = ["sbatch", "-p", "main", "-c", "4", "-o", "/dev/null", "--wrap", "sleep 3"]
    subprocess.run(other, check=True, cwd=tmp_path, capture_output=True)
    until("both save", lambda: logs("saved") == [False, True, True])
    until("both begin again", lambda: logs("done") == [False, True, True])
    until("the end", lambda: {state for _, state, _ in jobs()} <= {"COMPLETED", "CANCELLED", "FAILED"})
    assert [end_of(path) for path in files] == [
        End(True, "worker ended by SIGKILL"), End(False, "done"), End(False, "done"),
    ]  # fmt: skip


@pytest.mark.usefixtures("slurm")
def test_cancelled_jobs_do_not_leave_the_sweep_waiting(tmp_path: Path, calm: Outcomes) -> None:
    """scancel is somebody's wish: not submitted again, and the same command goes on later."""
    process = start(tmp_path, *SLURM)
    study = tmp_path / "results" / "demo"
    wait_for(process, "a checkpoint", lambda: list(study.glob("*/checkpoints/*.arrow")))
    subprocess.run(["scancel", "--me"], check=True)
    out = finish(process)
    assert process.returncode == 1, out
    assert "CANCELLED" in out
    again = start(tmp_path, *SLURM)
    out = finish(again)
    assert again.returncode == 0, out
    assert outcomes(study) == calm


@pytest.mark.usefixtures("slurm")
def test_a_watcher_that_left_takes_its_jobs_up_again(tmp_path: Path, calm: Outcomes) -> None:
    first = start(tmp_path, *SLURM)
    study = tmp_path / "results" / "demo"
    wait_for(first, "a row", lambda: list(study.glob("*/metrics.parquet")))
    first.terminate()
    out = first.communicate(timeout=60)[0]
    assert "jobs go on unwatched" in out
    second = start(tmp_path, *SLURM)
    out = finish(second)
    assert second.returncode == 0, out
    assert outcomes(study) == calm
    records = [results.read_run(run_dir) for run_dir in results.run_dirs(study)]
    assert all(record and len(record["attempts"]) == 1 for record in records)
    submitted = re.findall(r"(\d+) tasks submitted", out)
    assert submitted in (["0"], [])  # all were waiting or at work, or had even finished


def test_where_arrays_are_short_and_nothing_is_queued_again(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, calm: Outcomes
) -> None:
    """Four packs in arrays of at most three; a job that is warned of its end saves, and is followed
    by another: that is no crash (there are no retries here)."""
    with cluster(tmp_path_factory.mktemp("strict"), requeue=0, most=3):
        process = start(tmp_path, *SLURM, "hydra.launcher.retries=0")
        study = tmp_path / "results" / "demo"
        wait_for(process, "a checkpoint", lambda: list(study.glob("*/checkpoints/*.arrow")))
        saved = {path.parent.parent.name for path in study.glob("*/checkpoints/*.arrow")}
        (known,) = study.glob(".sweep/*/jobs.json")
        submitted: dict[str, list[str]] = results.read_record(known)
        assert sorted(job.partition("_")[2] for job in submitted) == ["", "0", "1", "2"]
        warned = [job for job, runs in submitted.items() if saved & set(runs)]
        subprocess.run(["scancel", "--signal=USR2", warned[0]], check=True)
        out = finish(process)
    assert process.returncode == 0, out
    assert "4 tasks submitted" in out
    assert f"job {warned[0]} (task_" in out
    assert "COMPLETED, runs saved; it goes on" in out
    assert outcomes(study) == calm


def test_the_plan_shows_what_would_be_submitted(tmp_path: Path) -> None:
    process = start(tmp_path, *SLURM, "plan=true", "hydra.launcher.setup=[module load cuda]")
    out = process.communicate()[0]
    assert process.returncode == 0, out
    for line in ("#SBATCH --array=0-3%4", "#SBATCH --cpus-per-task=1", "module load cuda", "srun"):
        assert line in out
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("+hydra.launcher.partitoin=main", "partition (default: None)"),
        ("hydra.launcher.timeout_min=2", "hydra.launcher.timeout_min=2 is too short"),
    ],
)
def test_parameters_are_checked_before_submission(tmp_path: Path, argument: str, message: str) -> None:
    process = start(tmp_path, *SLURM, argument)
    out = process.communicate()[0]
    assert process.returncode == 2
    assert message in out
    assert "Traceback" not in out
    assert not (tmp_path / "results").exists()


@pytest.mark.usefixtures("slurm")
def test_a_master_s_workers_are_jobs_and_a_killed_one_is_replaced(tmp_path: Path) -> None:
    """AZOPG on the real clock: the master trains in this process, its workers in an array."""
    command = [
        "study=single", "agent=azopg", "env=lqr/chain", "width=3", "agent.clock=real", "agent.workers=3",
        "env_steps=6000", "log_every=300", "eval_every=6000",
    ]  # fmt: skip
    before = {job for job, *_ in jobs()}
    process = subprocess.Popen(
        [sys.executable, "-m", "sparse_rl.sweep", *command, *SLURM],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    study = tmp_path / "results" / "single"
    wait_for(process, "a row", lambda: list(study.glob("*/metrics.parquet")))
    workers = subprocess.run(["pgrep", "-f", "submitit.core._submit"], capture_output=True, text=True)
    os.kill(int(workers.stdout.split()[0]), signal.SIGKILL)
    out = finish(process)
    assert process.returncode == 0, out
    (run_dir,) = results.run_dirs(study)
    rows = results.read_metrics(run_dir)
    assert rows["workers_lost"].iloc[-1] == 1
    assert rows["updates"].iloc[-1] == 3000
    assert len({job for job, *_ in jobs()} - before) >= 4  # three, and one more
