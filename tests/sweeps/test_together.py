"""Several packs in one job: what each gets, and that each ends alone. SLURM itself: test_slurm.py."""

import os
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeConfig

from sparse_rl.kernels import machine
from sparse_rl.records import results
from sparse_rl.runs.pack import prepare_pack
from sparse_rl.settings.schema import ConfigError
from sparse_rl.sweeps import jobs, places, processes, sbatch
from sparse_rl.sweeps.tasks import Settings, write_task

GB = 1 << 30


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five cores, to which SLURM keeps the job, and 8 GB; no accelerator."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 4, 5, 6, 7}, raising=False)
    monkeypatch.setattr(places, "allowed_bytes", lambda: 64 * GB)
    for name in ("CUDA_VISIBLE_DEVICES", "SLURM_MEM_PER_CPU", places.FRACTION):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "5")
    monkeypatch.setenv("SLURM_MEM_PER_NODE", str(8 * 1024))


@pytest.mark.usefixtures("job")
def test_cores_and_memory_are_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = places.shares(2)
    assert (first[machine.CORES], second[machine.CORES]) == ("3,5,7", "4,6")
    assert (first[machine.CORE_COUNT], second[machine.CORE_COUNT]) == ("3", "2")
    assert {place[machine.MEMORY] for place in (first, second)} == {str(4 * GB)}
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "0")  # all of the node's
    assert places.shares(2)[0][machine.MEMORY] == str(32 * GB)
    monkeypatch.delenv("SLURM_MEM_PER_NODE")
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "1024")
    assert places.shares(2)[0][machine.MEMORY] == str(5 * GB // 2)
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "4")  # of five: SLURM keeps nobody to cores here
    assert [place.get(machine.CORES) for place in places.shares(2)] == [None, None]
    assert [place[machine.CORE_COUNT] for place in places.shares(3)] == ["2", "1", "1"]


def test_a_process_heeds_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(os, "process_cpu_count", lambda: 8, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setenv(machine.CORE_COUNT, "3")
    assert machine.cores() == 3
    monkeypatch.setenv(machine.MEMORY, "1000000")
    assert machine.allowed_bytes() == 1_000_000


@pytest.mark.usefixtures("job")
def test_packs_on_one_accelerator_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert [(p["CUDA_VISIBLE_DEVICES"], p.get(places.FRACTION)) for p in places.shares(2)] == [
        ("2", None), ("5", None),
    ]  # fmt: skip
    assert [(p["CUDA_VISIBLE_DEVICES"], p[places.FRACTION]) for p in places.shares(3)] == [
        ("2", "0.375"), ("5", "0.375"), ("2", "0.375"),
    ]  # fmt: skip
    monkeypatch.setenv(places.FRACTION, "0.9")
    assert places.shares(4)[0][places.FRACTION] == "0.450"
    monkeypatch.setenv(places.FRACTION, "most")
    with pytest.raises(ValueError, match="MEM_FRACTION=most is not allowed; give a number"):
        places.shares(4)


@pytest.mark.parametrize(
    ("told", "there"),
    [
        ("-1", []),
        ("NoDevFiles", []),
        ("0, 1", ["0", "1"]),
        ("1,-1,0", ["1"]),
        ("", []),
        ("GPU-a", ["GPU-a"]),
    ],
)
def test_no_accelerator_is_none(monkeypatch: pytest.MonkeyPatch, told: str, there: list[str]) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", told)
    assert places.accelerators() == there


@pytest.mark.usefixtures("job")
def test_workers_of_a_machine_share_it_as_well(
    monkeypatch: pytest.MonkeyPatch, make_config: MakeConfig, tmp_path: Path
) -> None:
    packs = [prepare_pack([make_config(seed=seed) for seed in range(8)])]
    (line,) = processes.describe(packs, Settings(tmp_path), workers=2, packs_per_job=2)
    assert line == "4 tasks for 4 worker processes, one share of the cores each, 17.2GB of memory each"
    with pytest.raises(
        ValueError, match=r"workers=3 with hydra.launcher.packs_per_job=2 on each is more"
    ):
        places.places(3, 2)
    with pytest.raises(ValueError, match="5 cores; give at most 5 packs_per_job"):
        places.places(None, 6)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    (line,) = processes.describe(packs, Settings(tmp_path), packs_per_job=2)
    assert line.startswith("2 tasks for 2 worker processes, 2 on each accelerator, 34.4GB")
    assert [place[places.FRACTION] for place in places.places(None, 2)] == ["0.375", "0.375"]


def test_the_plan_says_what_each_pack_gets_and_refuses_what_does_not_fit(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sbatch, "array_limit", lambda: 2)
    packs = [prepare_pack([make_config(width=width)]) for width in (8, 12, 16, 20, 24)]
    need = max(run.costs.memory_bytes for pack in packs for run in pack.runs)
    given: dict[str, Any] = {"cpus_per_task": 4, "mem_gb": 4, "packs_per_job": 2}
    head, each, text = sbatch.describe(packs, Settings(tmp_path), **given)
    many = "3 jobs for 5 tasks of one pack, 2 side by side in 2 arrays of at most 2"
    assert head == f"\nSLURM: {many}; sbatch would read"
    assert each.startswith(
        "each pack has 2 of the job's 4 cores and 2.15GB of its memory; the largest run"
    )
    assert "--array=0-1%2" in text.replace("%64", "%2")
    assert "packs" not in text
    (_, each, _) = sbatch.describe(
        packs, Settings(tmp_path), cpus_per_task=5, packs_per_job=5, gpus_per_node=2
    )
    assert each.startswith(
        "each pack has 1 of the job's 5 cores, an accelerator with 2 others and 1/5 of"
    )
    small = 1.9 * need / 2**30
    with pytest.raises(
        ConfigError, match=r"packs_per_job=2: a run of width 24 needs about .*; give fewer"
    ):
        sbatch.describe(packs, Settings(tmp_path), **given | {"mem_gb": small})
    sbatch.describe(packs, Settings(tmp_path), **given | {"mem_gb": small * 1.1})


def test_masters_have_no_packs_in_jobs(make_config: MakeConfig, tmp_path: Path) -> None:
    agent = {"name": "azopg", "learning_rate": 0.015, "workers": 3, "clock": "real"}
    env = {"source": "lqr", "task": "chain"}
    steps = {"env_steps": 60, "log_every": 12, "eval_every": 60}
    pack = prepare_pack([make_config(width=3, agent=agent, env=env, **steps)])
    with pytest.raises(ConfigError, match="packs_per_job=2 changes nothing here: masters train"):
        sbatch.describe([pack], Settings(tmp_path), packs_per_job=2)


def scripts(monkeypatch: pytest.MonkeyPatch, told: dict[str, str]) -> None:
    """Instead of training: what the process of each task runs."""

    def start(path: Path, place: places.Place) -> Any:
        script = path.with_suffix(".sh")
        script.write_text(told[path.stem])
        with path.with_suffix(".log").open("ab") as log:
            return subprocess.Popen(["/bin/sh", str(script)], stdout=log, stderr=log)

    monkeypatch.setattr(jobs, "start_worker", start)


@pytest.fixture
def files(make_config: MakeConfig, tmp_path: Path) -> list[Path]:
    """Four tasks of one run each."""
    written = []
    for seed in range(4):
        path = tmp_path / f"task_{seed}.json"
        write_task(path, [make_config(seed=seed)], Settings(tmp_path / "study"))
        written.append(path)
    return written


def test_one_that_breaks_stops_no_other_and_is_noted_at_once(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = f"while [ ! -e {files[0].with_suffix('.ended')} ]; do sleep 0.1; done; "
    told = {
        "task_0": "kill -KILL $$", "task_1": wait + "echo worked",
        "task_2": wait + "echo this is why; exit 3", "task_3": "exit 0",
    }  # fmt: skip
    scripts(monkeypatch, told)
    files[3].write_text("{")  # damaged: its process is to say so
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(
            RuntimeError, match=r"task_0: worker ended by SIGKILL; task_2: worker ended with"
        ):
            jobs.TrainTogether()([str(path) for path in files])
    finally:
        signal.signal(signal.SIGTERM, before)
    ends = list(map(jobs.end_of, files))
    assert [end and end.broke for end in ends] == [True, False, True, False]
    assert ends[2]
    assert ends[2].said == f"worker ended with status 3: this is why ({files[2].with_suffix('.log')})"


def test_a_disk_that_is_full_leaves_no_process_alone(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The note is lost, and who watches sees how the job ended; where a process cannot be started the
    others are ended, and it is told."""
    scripts(monkeypatch, dict.fromkeys((path.stem for path in files), "exit 3"))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(results, "write_record", full)
    broken: list[str] = []
    jobs._look_after(files, threading.Event(), broken)
    assert len(broken) == 4
    one = subprocess.Popen(["sleep", "100"])
    started = [one]
    monkeypatch.setattr(jobs, "start_worker", lambda *_: started.pop())
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(RuntimeError, match="IndexError"):
            jobs.TrainTogether()(list(map(str, files)))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert one.poll() == -signal.SIGTERM


def test_a_job_that_leaves_asks_all_and_trains_the_rest_when_it_is_queued_again(
    files: list[Path], make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    begun = "touch $0.begun; "
    told = {
        "task_0": "trap 'echo saved; exit 0' TERM; " + begun + "while :; do sleep 0.1; done",
        "task_1": begun + "exec sleep 100",  # dies of SIGTERM: it had only just begun
        "task_2": "trap 'exit 9' TERM; " + begun + "while :; do sleep 0.1; done",
        "task_3": begun,
    }  # fmt: skip
    scripts(monkeypatch, told)
    results.write_run(tmp_path / "study" / make_config(seed=3).run_id, {"run_id": "x", "status": "done"})
    leave, broken = threading.Event(), list[str]()

    def ask() -> None:
        while not all(path.with_suffix(".sh.begun").exists() for path in files[:3]):
            leave.wait(0.05)
        leave.set()

    asking = threading.Thread(target=ask)
    asking.start()
    jobs._look_after(files, leave, broken)
    asking.join()
    assert not files[3].with_suffix(".sh").exists()  # its run is done
    assert [line.partition(":")[0] for line in broken] == ["task_2"]
    ends = [jobs.end_of(path) for path in files]
    assert [end and end.broke for end in ends] == [False, False, True, None]
    assert files[0].with_suffix(".log").read_text() == "saved\n"
    # Queued again: the one that broke is left to whoever watches, and what is left goes on.
    scripts(monkeypatch, dict.fromkeys(told, "echo again"))
    broken.clear()
    jobs._look_after(files, threading.Event(), broken)
    assert broken == []
    again = [
        path.with_suffix(".log").exists() and "again" in path.with_suffix(".log").read_text()
        for path in files
    ]
    assert again == [True, True, False, False]
    jobs.forget_end(files[2])  # it is submitted anew
    jobs._look_after(files[2:3], threading.Event(), broken)
    assert "again" in files[2].with_suffix(".log").read_text()
