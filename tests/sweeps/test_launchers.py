"""Launchers: the same numbers everywhere, and processes that break cost one interval."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeConfig
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from outcomes import Outcomes, outcomes

from sparse_rl.records import results
from sparse_rl.records.console import console
from sparse_rl.runs.pack import PreparedPack, prepare_pack
from sparse_rl.sweeps import places, processes, tasks
from sparse_rl.sweeps.compose import compose
from sparse_rl.sweeps.locks import LOCK, is_owned
from sparse_rl.sweeps.presets import CONF
from sparse_rl.sweeps.tasks import Settings, Task, owned, read_task, write_task

GRID = (
    "agent=dqn", "agent.num_envs=10", "env=probe/cue", "env.delay=3", "width=8,12", "sparsity=0.5",
    "seed=0,1", "env_steps=20000", "log_every=500", "eval_every=10000", "env.eval_episodes=2",
    "checkpoint_every=500",
)  # fmt: skip
"""What costs little beside starting a process, and yet is long enough to be killed in its middle."""


needs_proc = pytest.mark.skipif(not Path("/proc/self").exists(), reason="workers are found in /proc")


def sweep(cwd: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "sparse_rl.sweep", *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def children(pid: int) -> list[int]:
    """Worker processes of a sweep."""
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    found = [int(word) for word in listed.read_text().split()] if listed.exists() else []
    return [child for child in found if b"sweeps.worker" in Path(f"/proc/{child}/cmdline").read_bytes()]


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """What the grid comes to in one process, undisturbed."""
    folder = tmp_path_factory.mktemp("calm")
    process = sweep(folder, *GRID)
    out, err = process.communicate()
    assert process.returncode == 0, out + err
    return outcomes(folder / "results" / "demo")


@needs_proc
def test_killed_workers_cost_nothing_that_was_saved(tmp_path: Path, calm: Outcomes) -> None:
    """Two workers are killed once their runs have checkpoints; the sweep goes on by itself."""
    process = sweep(tmp_path, *GRID, "hydra/launcher=processes", "hydra.launcher.workers=2")
    study, killed = tmp_path / "results" / "demo", 0
    deadline = time.monotonic() + 240
    while process.poll() is None and killed < 2 and time.monotonic() < deadline:
        saved = list(study.glob("*/checkpoints/*.arrow"))
        workers = children(process.pid)
        if saved and workers:
            os.kill(workers[0], signal.SIGKILL)
            killed += 1
            time.sleep(1.0)
        time.sleep(0.05)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out + err
    assert killed
    assert "worker ended by SIGKILL" in out
    assert outcomes(study) == calm


@needs_proc
def test_an_interrupted_sweep_stops_its_workers_and_goes_on_later(
    tmp_path: Path, calm: Outcomes
) -> None:
    process = sweep(tmp_path, *GRID, "hydra/launcher=processes")
    study = tmp_path / "results" / "demo"
    while not list(study.glob("*/metrics.parquet")):
        time.sleep(0.05)
        assert process.poll() is None
    workers = children(process.pid)
    process.terminate()
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "the same command goes on" in out
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    again = sweep(tmp_path, *GRID)
    out, err = again.communicate()
    assert again.returncode == 0, out + err
    assert outcomes(study) == calm


def test_a_run_that_kills_its_worker_ends_failed_and_the_others_done(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of three runs makes its process die, every time."""
    poison = tmp_path / "poison.py"
    poison.write_text(
        "import os, sys\n"
        "from sparse_rl.runs import lockstep\n"
        "train = lockstep.Lockstep.train\n"
        "def deadly(self):\n"
        "    if self.runs[0].config.seed == 1:\n"
        "        os._exit(9)\n"
        "    return train(self)\n"
        "lockstep.Lockstep.train = deadly\n"
        "from sparse_rl.sweeps.worker import main\n"
        "main()\n"
    )
    start = subprocess.Popen

    def poisoned(command: list[str], **options: Any) -> "subprocess.Popen[bytes]":
        return start([sys.executable, str(poison), command[-1]], **options)

    monkeypatch.setattr(subprocess, "Popen", poisoned)
    settings = Settings(tmp_path / "study")
    pack = prepare_pack([make_config(seed=seed, agent={"name": "dqn"}) for seed in (0, 1, 2)])
    processes.train(console(), [pack], settings, workers=1, retries=2)
    records = {
        run.config.seed: results.read_run(settings.study_dir / run.config.run_id) for run in pack.runs
    }
    assert {seed: r["status"] for seed, r in records.items() if r} == {0: "done", 1: "failed", 2: "done"}
    assert records[1] is not None
    assert "worker ended with status 9" in records[1]["reason"]
    assert "3 times" in records[1]["reason"]


def test_two_sweeps_share_a_folder_without_harm(tmp_path: Path, calm: Outcomes) -> None:
    both = [sweep(tmp_path, *GRID) for _ in range(2)]
    ended = [process.communicate() for process in both]
    study = tmp_path / "results" / "demo"
    assert outcomes(study) == calm, ended
    for run_dir in results.run_dirs(study):
        record = results.read_run(run_dir)
        assert record is not None
        assert len(record["attempts"]) == 1  # by one of them


def test_a_lock_dies_with_its_owner(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config()
    run_dir = tmp_path / config.run_id
    assert not is_owned(run_dir)
    code = (
        "import sys, time; from filelock import FileLock; lock = FileLock(sys.argv[1]); lock.acquire(); "
        "print('held', flush=True); time.sleep(60)"
    )
    run_dir.mkdir()
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(run_dir / LOCK)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    assert is_owned(run_dir)
    with owned([config], Settings(tmp_path)) as ours:
        assert ours == []
    holder.kill()
    holder.communicate()
    assert not is_owned(run_dir)
    with owned([config], Settings(tmp_path)) as ours:
        assert ours == [config]


def test_a_task_is_plain_json(make_config: MakeConfig, tmp_path: Path) -> None:
    configs, settings = (
        [make_config(seed=seed) for seed in (0, 1)],
        Settings(tmp_path, "none", 200, True),
    )
    write_task(tmp_path / "task.json", configs, settings)
    assert read_task(tmp_path / "task.json") == (configs, settings)


def test_a_broken_task_is_halved(make_config: MakeConfig, tmp_path: Path) -> None:
    pack = prepare_pack([make_config(seed=seed) for seed in range(5)])
    settings = Settings(tmp_path)
    done = pack.runs[0].config.run_id
    results.write_run(tmp_path / done, {"status": "done"})
    halves = Task(pack, "task").halves(settings)
    assert [len(half.pack.runs) for half in halves] == [2, 2]
    assert [half.crashes for half in halves] == [1, 1]


def test_more_workers_than_cores_are_refused(tmp_path: Path) -> None:
    process = sweep(tmp_path, "hydra/launcher=processes", "hydra.launcher.workers=999", "plan=true")
    _, err = process.communicate()
    assert process.returncode == 2
    assert "hydra.launcher.workers=999 is more than this machine's" in err
    assert "Traceback" not in err


def test_a_pack_that_runs_out_of_memory_is_halved_until_it_fits(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def train_pack(pack: PreparedPack, study_dir: Path, **options: Any) -> None:
        sizes.append(len(pack.runs))
        fits = len(pack.runs) <= 2
        for run in pack.runs:
            record = {
                "status": "done" if fits else "failed",
                "reason": None if fits else "XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory",
            }
            results.write_run(study_dir / run.config.run_id, record)

    monkeypatch.setattr(tasks, "train_pack", train_pack)
    pack = prepare_pack([make_config(seed=seed) for seed in range(5)])
    tasks.train_task(pack, Settings(tmp_path), lambda progress: None, threading.Event())
    assert sizes == [5, 3, 2, 1, 2]
    records = [results.read_run(tmp_path / run.config.run_id) for run in pack.runs]
    assert all(record and record["status"] == "done" for record in records)


def test_values_are_set_as_hydra_composes_them() -> None:
    """The fast way for large grids, beside Hydra's own composition of each job."""
    jobs = [
        ["width=8", "sparsity=0.5", "agent=sac_mlp", "agent.learning_rate=1e-3", "seed=0"],
        ["width=16", "sparsity=0", "agent=sac_mlp", "agent.learning_rate=0.01", "seed=1"],
        ["width=16", "sparsity=0", "agent=sac", "pruning.actor_sparsity=null", "name=x"],
    ]
    with initialize_config_dir(str(CONF), version_base="1.3"):

        def load(overrides: list[str]) -> DictConfig:
            config = hydra_compose("sweep", overrides)
            return OmegaConf.merge({"hydra": {}}, config)  # type: ignore[return-value]

        expected = [OmegaConf.to_container(hydra_compose("sweep", job)) for job in jobs]
        assert compose(load, jobs) == expected


def test_each_worker_has_its_own_accelerator_or_its_own_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert [place["CUDA_VISIBLE_DEVICES"] for place in places.places(None)] == ["2", "5"]
    with pytest.raises(ValueError, match="2 accelerators; give at most 2"):
        places.places(3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5,6,7,1")
    shared = [place["CUDA_VISIBLE_DEVICES"] for place in places.places(None, devices_each=2)]
    assert shared == ["2,5", "6,7"]
    assert [place["CUDA_VISIBLE_DEVICES"] for place in places.places(1, 1, 2)] == ["2,5"]
    with pytest.raises(ValueError, match=r"5 accelerators, 2 each \(devices_per_pack\); give at most 2"):
        places.places(3, 1, 2)
    for visible, most in (("2,5", 2), ("", 1)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        with pytest.raises(ValueError, match=f"devices_per_pack=3 is more than .* give at most {most}"):
            places.places(None, 1, 3)
    with pytest.raises(ValueError, match="packs_per_job=2 and devices_per_pack=2 do not go together"):
        places.places(None, 2, 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 4})
    cores = [place["SPARSE_RL_CORES"].split(",") for place in places.places(2)]
    assert cores == [["0", "2", "4"], ["1", "3"]]
