"""What becomes of tasks that SLURM refuses, ends, or keeps waiting; SLURM itself is played here."""

import io
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import MakeConfig
from filelock import FileLock
from rich.console import Console

from sparse_rl.records import checkpoints, results
from sparse_rl.runs.pack import prepare_pack
from sparse_rl.settings.schema import ConfigError
from sparse_rl.sweeps import slurm, squeue
from sparse_rl.sweeps.locks import LOCK
from sparse_rl.sweeps.slurm import Queue
from sparse_rl.sweeps.squeue import RefusedError, Standing
from sparse_rl.sweeps.tasks import Settings, Task, again, saved

MakeQueue = Callable[..., Queue]
TIMED_OUT = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"
FAILED = "sbatch: error: Batch job submission failed:"
NO_PARTITION = (
    f"sbatch: error: invalid partition specified: big\n{FAILED} Invalid partition name specified"
)
POLICY = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
TOO_MANY = f"sbatch: error: QOSMaxSubmitJobPerUserLimit\n{FAILED} {POLICY}"


SUBMIT = slurm._submit
"""As it is where nobody plays SLURM."""


class Cluster:
    """Takes arrays of at most so many jobs, or says why not."""

    def __init__(self) -> None:
        self.arrays: list[list[str]] = []
        self.room: int | None = None
        self.refusals: list[str] = []
        self.now: dict[str, Standing] = {}

    def submit(
        self, executor: Any, home: Path, groups: list[list[Task]], settings: Settings
    ) -> dict[str, list[Task]]:
        if self.refusals:
            raise RefusedError(self.refusals.pop(0))
        if self.room is not None and len(groups) > self.room:
            raise RefusedError(TOO_MANY)
        if self.room is not None:
            self.room -= len(groups)
        for task in (task for group in groups for task in group):
            task.saved = saved(task.pack, settings)
        self.arrays.append(["+".join(task.name for task in group) for group in groups])
        jobs = {f"{len(self.arrays)}_{i}": group for i, group in enumerate(groups)}
        self.now |= dict.fromkeys(jobs, Standing("PENDING", "Resources"))
        return jobs


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster()
    monkeypatch.setattr(slurm, "_submit", made.submit)
    monkeypatch.setattr(slurm, "states", lambda: made.now)
    return made


@pytest.fixture
def make_queue(make_config: MakeConfig, tmp_path: Path) -> MakeQueue:
    def make(count: int, most: int = 6, retries: int = 1, packs_per_job: int = 1) -> Queue:
        packs = [prepare_pack([make_config(seed=seed)]) for seed in range(count)]
        tasks = [Task(pack, f"task_{i}") for i, pack in enumerate(packs)]
        out = Console(file=io.StringIO(), width=300)
        executor: Any = None
        home, settings = tmp_path / "home", Settings(tmp_path)
        return Queue(out, executor, home, settings, retries, tasks, packs_per_job, most=most)

    return make


def said(queue: Queue) -> str:
    file = queue.out.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def run_of(task: Task) -> Path:
    return Path(task.pack.runs[0].config.run_id)


def test_arrays_are_no_longer_than_slurm_takes_them(cluster: Cluster, make_queue: MakeQueue) -> None:
    queue = make_queue(8, most=6)
    queue.offer()
    assert [len(array) for array in cluster.arrays] == [6, 2]
    assert queue.taken == 8
    assert queue.look() == "8 wait (Resources)"


def test_packs_share_jobs_and_arrays_have_so_many_jobs(cluster: Cluster, make_queue: MakeQueue) -> None:
    queue = make_queue(7, most=3, packs_per_job=2)
    queue.offer()
    assert cluster.arrays == [["task_0+task_1", "task_2+task_3", "task_4+task_5"], ["task_6"]]
    assert queue.taken == 7
    full = make_queue(7, packs_per_job=2)
    cluster.room = 3
    full.offer()
    assert cluster.arrays[2:] == [["task_0+task_1", "task_2+task_3"], ["task_4+task_5"]]
    assert [task.name for task in full.waiting] == ["task_6"]


def test_a_broken_pack_is_followed_while_the_others_of_its_job_go_on(
    cluster: Cluster, make_queue: MakeQueue, tmp_path: Path
) -> None:
    """What became of each is read from its mark: the job ends as the worst of them."""
    queue = make_queue(4, packs_per_job=4, retries=1)
    queue.offer()
    (job,) = queue.jobs
    broken, left, done, cut_off = queue.jobs[job][:]
    cluster.now = {job: Standing("RUNNING", "None")}
    end = {"broke": True, "said": "worker ended by SIGKILL"}
    results.write_record(tmp_path / "home" / f"{broken.name}.ended", end)
    queue.look()
    assert [task.name for task in queue.waiting] == [f"{broken.name}a"]
    assert f"{broken.name}: job {job}: worker ended by SIGKILL" in said(queue)
    queue.look()
    assert len(queue.waiting) == 1
    for task in (left, done):
        results.write_record(tmp_path / "home" / f"{task.name}.ended", {"broke": False, "said": "done"})
    results.write_run(tmp_path / run_of(left), {"run_id": "x", "status": "preempted"})
    checkpoints.save(tmp_path / run_of(left), 100, {})
    results.write_run(tmp_path / run_of(done), {"run_id": "x", "status": "done"})
    cluster.now = {job: Standing("FAILED", "None")}
    queue.look()
    names = [(task.name, task.crashes) for task in queue.waiting]
    assert names == [(f"{broken.name}a", 1), (left.name, 0), (f"{cut_off.name}a", 1)]
    assert f"({left.name}): COMPLETED, runs saved; it goes on" in said(queue)
    assert f"{cut_off.name}: job {job} ended FAILED" in said(queue)


def test_what_is_submitted_again_has_not_broken_yet(
    make_queue: MakeQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How it ended before is forgotten: it would be followed up at once, and submitted for ever."""
    queue = make_queue(2, packs_per_job=2)
    marks = [queue.home / f"{task.name}.ended" for task in queue.waiting]
    for mark in marks:
        results.write_record(mark, {"broke": True, "said": "worker ended by SIGKILL"})

    def taken(task: Any, paths: list[list[str]]) -> list[Any]:
        assert [[Path(path).stem for path in group] for group in paths] == [[m.stem for m in marks]]
        return [SimpleNamespace(job_id="7_0")]

    monkeypatch.setattr(slurm, "_submit", SUBMIT)
    monkeypatch.setattr(queue, "executor", SimpleNamespace(map_array=taken))
    queue.offer()
    assert list(queue.jobs) == ["7_0"]
    assert not any(mark.exists() for mark in marks)


def test_a_refusal_that_passes_keeps_tasks_and_waits_longer_each_time(
    cluster: Cluster, make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    queue, tried = make_queue(3), []
    cluster.refusals = [TIMED_OUT] * 4
    for second in range(100):
        now[0], left = float(second), len(cluster.refusals)
        queue.offer()
        if len(cluster.refusals) < left or cluster.arrays:
            tried.append(second)
        if cluster.arrays:
            break
    assert tried == [0, 5, 15, 35, 75]
    assert (queue.taken, queue.waiting) == (3, [])
    assert said(queue).count("SLURM did not take 3 tasks now: Batch job submission failed: Socket") == 1


def test_where_there_is_room_for_some_they_are_submitted_and_the_others_wait(
    cluster: Cluster, make_queue: MakeQueue
) -> None:
    queue = make_queue(8)
    cluster.room = 4
    queue.offer()
    assert [len(array) for array in cluster.arrays] == [3, 1]
    assert len(queue.waiting) == 4


def test_a_refusal_for_good_is_one_line_where_nothing_runs(
    cluster: Cluster, make_queue: MakeQueue
) -> None:
    queue = make_queue(2)
    cluster.refusals = [NO_PARTITION]
    with pytest.raises(
        ConfigError, match=r"SLURM does not take the jobs: invalid partition.*big; Batch"
    ):
        queue.offer()
    cluster.refusals, cluster.room = [], 0  # an account that may have no job at all
    with pytest.raises(ConfigError, match="QOSMaxSubmit"):
        queue.offer()
    cluster.room = None
    queue.offer()
    queue.waiting = [
        Task(prepare_pack([r.config for r in t.pack.runs]), "late")
        for tasks in queue.jobs.values()
        for t in tasks
    ]
    cluster.refusals = [NO_PARTITION]
    queue.offer()
    assert "SLURM does not take 2 tasks" in said(queue)
    assert not queue.waiting


def test_a_time_limit_is_no_crash_where_something_was_saved(
    cluster: Cluster, make_queue: MakeQueue, tmp_path: Path
) -> None:
    """Six limits with one retry; then two jobs that save nothing are one too many."""
    queue = make_queue(1, retries=1)
    for limit in range(1, 7):
        queue.offer()
        (job,) = queue.jobs
        run_dir = tmp_path / run_of(*queue.jobs[job])
        checkpoints.save(run_dir, 10 * limit, {})
        results.write_run(run_dir, {"status": "preempted"})
        state = "COMPLETED" if limit % 2 else "TIMEOUT"
        cluster.now = {job: Standing(state, "None")}
        queue.look()
        assert [task.crashes for task in queue.waiting] == [0]
    for _ in range(2):
        queue.offer()
        (job,) = queue.jobs
        cluster.now = {job: Standing("FAILED", "None")}
        queue.home.mkdir(exist_ok=True)
        (queue.home / f"{job}_0_log.err").write_text("Traceback\nMemoryError: 4 TB\n\n")
        queue.look()
    assert not queue.waiting
    record = results.read_run(run_dir)
    assert record is not None
    assert record["status"] == "failed"
    assert f"ended FAILED: MemoryError: 4 TB ({queue.home}/{job}_0_log.err), 2 times" in record["reason"]


def test_runs_that_are_held_elsewhere_cost_no_retry(
    cluster: Cluster, make_queue: MakeQueue, tmp_path: Path
) -> None:
    queue = make_queue(1, retries=0)
    for _ in range(3):
        queue.offer()
        (job,) = queue.jobs
        run_dir = tmp_path / run_of(*queue.jobs[job])
        run_dir.mkdir(exist_ok=True)
        cluster.now = {job: Standing("COMPLETED", "None")}
        with FileLock(run_dir / LOCK):
            queue.look()
            queue.look()
            assert (len(queue.held), queue.waiting, dict(queue.jobs)) == (1, [], {})
        queue.look()
        assert [task.crashes for task in queue.waiting] == [0]


def test_a_crash_counts_from_the_last_one_that_saved_nothing(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    settings = Settings(tmp_path)
    task = Task(prepare_pack([make_config()]), "task", crashes=3)
    task.saved = saved(task.pack, settings)
    checkpoints.save(tmp_path / run_of(task), 100, {})
    (after,) = again(task, settings, 3, "broke")
    assert after.crashes == 1
    after.saved = saved(after.pack, settings)
    (after,) = again(after, settings, 3, "broke")
    assert after.crashes == 2
    both = Task(prepare_pack([make_config(seed=seed) for seed in (1, 2)]), "both")
    both.saved = saved(both.pack, settings)
    assert not both.progressed(settings)
    results.write_run(tmp_path / run_of(both), {"status": "done"})
    assert both.progressed(settings)


def test_what_squeue_and_scontrol_say_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        "squeue": "7_1|PENDING|(null)\n7_2|PENDING|PartitionTimeLimit\n8|RUNNING|None\n\nnonsense\n",
        "scontrol": "Configuration data\nMaxArraySize            = 6\nMaxJobCount = 10\n",
    }
    monkeypatch.setattr(squeue, "_ask", lambda *command: answers.get(command[0]))
    now = squeue.states()
    assert now == {
        "7_1": Standing("PENDING", "(null)"),
        "7_2": Standing("PENDING", "PartitionTimeLimit"),
        "8": Standing("RUNNING", "None"),
    }
    assert squeue.reasons(now.values()) == "1 waits ((null)), 1 waits (PartitionTimeLimit)"
    assert squeue.array_limit() == 6
    assert squeue.may_requeue("7")
    answers["scontrol"] = "JobId=7 Requeue=0 Restarts=0"
    assert not squeue.may_requeue("7")
    answers.clear()
    assert (squeue.states(), squeue.array_limit()) == (None, 1001)


@pytest.mark.parametrize(
    ("text", "passing", "for_room"),
    [(TIMED_OUT, True, False), (NO_PARTITION, False, False), (TOO_MANY, True, True), ("", False, False)],
)
def test_refusals(text: str, passing: bool, for_room: bool) -> None:
    error = RefusedError(text)
    assert (error.passing, error.for_room) == (passing, for_room)
    assert str(error)
    assert "\n" not in str(error)
