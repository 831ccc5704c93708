"""DM Control and gymnasium on the host: what an environment does, and that its process may die."""

import dataclasses
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import yaml
from compilations import count_compilations
from conftest import MakeConfig
from host_env import on_host

from sparse_rl import envs, simulators
from sparse_rl.agents.contract import Streams
from sparse_rl.envs import ActorsLostError, probe, registry, workers
from sparse_rl.loops.hosted import sessions as hosted
from sparse_rl.loops.hosted.hosting import Living
from sparse_rl.loops.hosted.off_policy import Compiled, Driver, HostOffPolicyLoop
from sparse_rl.records import results
from sparse_rl.runs.lockstep import Policy, Progress
from sparse_rl.runs.pack import compile_programs, prepare_pack, train_pack
from sparse_rl.settings.envs import EnvConfig
from sparse_rl.settings.run import RunConfig
from sparse_rl.simulators import Frame, Simulator, worker
from sparse_rl.simulators.actions import from_unit

CONF = Path(envs.__file__).parents[1] / "conf"
dm_control = pytest.importorskip("dm_control.suite", reason="needs the extra dmc")


def test_actions_are_rescaled_to_the_tasks_range() -> None:
    """The quadruped's range is [−1, 1.1]; LQR has none."""
    to_task = from_unit(np.array([-1.0, 0.0, -1e10]), np.array([1.1, 4.0, 1e10]))
    np.testing.assert_allclose(to_task(np.zeros(3)), [0.05, 2.0, 0.0])
    np.testing.assert_allclose(to_task(np.ones(3)), [1.1, 4.0, 1.0])
    np.testing.assert_allclose(to_task(np.full(3, -2.0)), [-1.0, 0.0, -1.0])


class Counting(Simulator):
    """Rewards 1, 2, 3, …; the observation counts; an episode is truncated after five frames."""

    observation_size, action_size, episode_length = 1, 1, 5

    def __init__(self) -> None:
        self.time = 0

    def seed(self, seed: int) -> None:
        self.time = seed

    def reset(self) -> np.ndarray:
        self.time = 0
        return np.zeros(1, np.float32)

    def frame(self, action: np.ndarray) -> Frame:
        self.time += 1
        return Frame(float(self.time), False, self.time == 5)

    def observe(self) -> np.ndarray:
        return np.array([self.time], np.float32)


def test_an_interaction_sums_its_frames_and_ends_with_the_episode() -> None:
    rows = np.zeros(1, worker.row(1, np.float32, 1))
    simulator, now = Counting(), rows[0]
    simulator.reset()
    worker.act(simulator, now, 3)  # frames 1 to 3
    assert (now["reward"], now["truncated"], now["observation"]) == (6.0, False, 3.0)
    worker.act(simulator, now, 3)  # frames 4 and 5, and the next episode's start
    assert (now["reward"], now["truncated"], now["terminated"]) == (9.0, True, False)
    assert (now["final_observation"], now["observation"]) == (5.0, 0.0)


class Breaking(Counting):
    """At the third frame its reward or its observation is no sound number."""

    def __init__(self, where: str, value: float) -> None:
        super().__init__()
        self._where, self._value = where, value

    def _is(self, where: str) -> bool:
        return self.time == 3 and where == self._where

    def frame(self, action: np.ndarray) -> Frame:
        seen = super().frame(action)
        return seen._replace(reward=self._value) if self._is("reward") else seen

    def observe(self) -> np.ndarray:
        return np.array([self._value if self._is("observation") else self.time], np.float32)


@pytest.mark.parametrize("where", ["reward", "observation"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e25])
@pytest.mark.parametrize("repeat", [1, 2])
def test_numbers_that_break_end_the_episode_with_the_last_sound_ones(
    where: str, value: float, repeat: int
) -> None:
    rows = np.zeros(1, worker.row(1, np.float32, 1))
    simulator, now = Breaking(where, value), rows[0]
    for _ in range(3 // repeat):
        worker.act(simulator, now, repeat)
        assert not now["terminated"] or repeat == 1
    if repeat == 2:
        worker.act(simulator, now, repeat)
    assert (now["reward"], now["terminated"], now["truncated"]) == (0.0, True, False)
    assert (now["final_observation"], now["observation"]) == (2.0, 0.0)


def test_mujocos_silent_new_start_is_a_termination_in_gymnasium() -> None:
    """Where MuJoCo finds a position that is too large it goes on from the model's first state."""
    hopper: Any = simulators.make("gymnasium", "hopper")
    first = hopper.reset()
    hopper._physics.qpos[1] = 1e11
    frame = hopper.frame(np.zeros(3, np.float32))
    assert (frame.reward, frame.terminated, frame.truncated) == (0.0, True, False)
    np.testing.assert_array_equal(hopper.observe(), first)
    hopper.reset()
    assert not hopper.frame(np.zeros(3, np.float32)).terminated


def test_every_task_of_the_suite_has_a_preset_and_loads() -> None:
    tasks = simulators.dm_control.tasks()
    assert len(tasks) == len(dm_control.ALL_TASKS) == 51
    presets = {path.stem for path in (CONF / "env" / "dm_control").glob("*.yaml")}
    assert presets == {*tasks, "suite"}
    for task, sizes in (("humanoid_run", (67, 21)), ("dog_trot", (223, 38)), ("lqr_lqr_2_1", (4, 1))):
        env = envs.make("dm_control", task)
        assert (env.observation_size, env.action_size, env.episode_length) == (*sizes, 1000)
    with pytest.raises(ValueError, match=r"'humanoid-run' is unknown; choose one of .*humanoid_run"):
        envs.make("dm_control", "humanoid-run")


def test_gymnasiums_tasks_have_presets_and_end() -> None:
    presets = {path.stem for path in (CONF / "env" / "gymnasium").glob("*.yaml")}
    assert presets == {*simulators.gymnasium.TASKS, "mujoco"}
    hopper = simulators.make("gymnasium", "hopper")
    hopper.seed(3)
    first = hopper.reset()
    frames = [hopper.frame(np.ones(3, np.float32)) for _ in range(50)]
    assert any(frame.terminated for frame in frames)  # it falls
    hopper.seed(3)
    np.testing.assert_array_equal(hopper.reset(), first)


def test_a_task_is_the_librarys_own_and_is_truncated() -> None:
    """The same seed and actions in dm_control itself; the episode ends because time is up."""
    ours, theirs = simulators.make("dm_control", "reacher_easy"), dm_control.load("reacher", "easy")
    ours.seed(7)
    theirs.task.random.seed(7)
    rng = np.random.default_rng(0)
    seen, first = ours.reset(), theirs.reset()
    for t in range(1000):
        flat = np.concatenate([np.ravel(part) for part in first.observation.values()])
        np.testing.assert_array_equal(seen, flat.astype(np.float32))
        action = rng.uniform(-1, 1, 2).astype(np.float32)
        frame, first = ours.frame(action), theirs.step(action)
        seen = ours.observe()
        assert frame.reward == pytest.approx(first.reward)
        assert (frame.terminated, frame.truncated) == (False, t == 999)
    assert first.last()
    assert first.discount == 1.0


def test_lqr_may_terminate_and_is_truncated_where_the_suite_has_no_limit() -> None:
    lqr = simulators.make("dm_control", "lqr_lqr_2_1")
    lqr.seed(0)
    lqr.reset()
    frames = [lqr.frame(np.ones(1, np.float32)) for _ in range(1000)]
    assert frames[-1].truncated
    assert not any(frame.truncated or frame.terminated for frame in frames[:-1])


def test_physics_that_breaks_ends_the_episode_with_finite_numbers() -> None:
    task: Any = simulators.make("dm_control", "cartpole_swingup")
    first = task.reset()
    task._env.physics.data.qpos[:] = np.nan
    frame = task.frame(np.zeros(1, np.float32))
    assert (frame.terminated, frame.truncated, frame.reward) == (True, False, 0.0)
    np.testing.assert_array_equal(task.observe(), first)
    assert np.isfinite(task.reset()).all()


def test_a_worker_does_without_jax() -> None:
    """It starts in a second, and is as large as its simulators."""
    program = "import sys, sparse_rl.simulators.worker; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def play(count: int, before: int) -> list[np.ndarray]:
    """What three actors in so many processes see from their second seed on, after some other play."""
    settings = EnvConfig("dm_control", "cartpole_swingup", 4)
    actors = envs.make("dm_control", "cartpole_swingup").open(settings, 3, count)
    everyone, rng = np.ones(3, bool), np.random.default_rng(1)
    actors.seed(np.arange(3), everyone)
    for _ in range(before):
        actors.send(rng.uniform(-1, 1, (3, 1)))
        actors.receive()
    seen = [actors.seed(np.arange(3) + 9, everyone)]
    rng = np.random.default_rng(0)
    for _ in range(260):
        actors.send(rng.uniform(-1, 1, (3, 1)))
        seen += list(actors.receive())
    return seen


def test_what_an_environment_does_follows_from_its_seed_and_its_actions() -> None:
    """However many processes, and whatever was before; the second episode is part of it."""
    first, second = play(1, 0), play(2, 30)
    for ours, theirs in zip(first, second, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert [bool(step.all()) for step in first[4::5]].index(True) == 249  # truncated after 1000 frames
    assert (first[0][0] != first[0][1]).any()


def test_training_and_evaluation_have_seeds_of_their_own() -> None:
    places = [(0, i) for i in range(50)]
    train, test = (hosted.seeds_of(3, stream, places) for stream in (Streams.ENV, Streams.EVALUATION))
    assert not set(train) & set(test)


CARTPOLE = {"source": "dm_control", "task": "cartpole_swingup", "action_repeat": 2, "eval_episodes": 2}


def disturb(
    pack: list[RunConfig], study: Path, until: int | None, kill: list[Any], notes: list[str]
) -> None:
    """Train, to the first log point from ``until`` on; kill one worker process at the first of all."""
    stop, killed = threading.Event(), threading.Event()

    def watch(progress: Progress) -> None:
        notes.extend([progress.note] if progress.note else [])
        if progress.updates and kill and not killed.is_set():
            kill[0].send_signal(signal.SIGKILL)
            killed.set()
        if until is not None and progress.env_steps >= until:
            stop.set()

    train_pack(prepare_pack(pack), study, watch=watch, policy=Policy(every=200), stop=stop)


def interrupt_and_kill(
    config: RunConfig, study: Path, monkeypatch: pytest.MonkeyPatch, until: int
) -> tuple[list[Path], list[str]]:
    """Train undisturbed, and again with a worker killed and the run interrupted; what is written has the
    same bytes.

    Returns:
        Folders of the two runs, and what was said of the second.
    """
    notes: list[str] = []
    disturb([config], study / "calm", None, [], notes)
    assert not notes
    processes: list[Any] = []
    start = workers._start

    def started(*arguments: Any) -> Any:
        processes.append(start(*arguments))
        return processes[-1]

    with monkeypatch.context() as patched:
        patched.setattr(workers, "_start", started)
        disturb([config], study / "broken", until, processes, notes)
    disturb([config], study / "broken", None, [], notes)
    both = [study / name / config.run_id for name in ("calm", "broken")]
    record = results.read_run(both[1])
    assert record is not None
    assert [attempt["from_env_steps"] for attempt in record["attempts"]] == [0, until]
    for file in (results.METRICS, results.PARAMETERS):
        assert (both[0] / file).read_bytes() == (both[1] / file).read_bytes()
    restarts = [int(results.read_metrics(path)[results.RESTARTS].sum()) for path in both]
    assert restarts == [0, 1]
    return both, notes


def test_interrupted_runs_whose_workers_are_killed_end_with_the_bytes_of_undisturbed_ones(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of episodes; the restart is recorded beside the metrics, and said."""
    agent = {"num_envs": 2, "updates_per_interaction": 2}
    budget = {"env_steps": 1200, "log_every": 200, "eval_every": 600}
    pruning = {"storage": "compact"}
    config = make_config(sparsity=0.5, agent=agent, env=CARTPOLE, pruning=pruning, **budget)
    both, notes = interrupt_and_kill(config, tmp_path, monkeypatch, until=800)
    assert any("opened again at env_steps≤" in note for note in notes)
    # 20 of 50 interactions random
    assert list(results.read_metrics(both[0])["updates"]) == [60, 160, 260, 360, 460, 560]


def test_actors_that_always_break_end_the_run_with_their_reason() -> None:
    env, opened = envs.make("dm_control", "cartpole_swingup"), []
    settings = EnvConfig("dm_control", "cartpole_swingup", 2)

    class Broken:
        def seed(self, seeds: np.ndarray, where: np.ndarray) -> np.ndarray:
            return np.zeros((1, 5), np.float32)

        def send(self, action: np.ndarray) -> None:
            opened.append(1)

        def receive(self) -> Any:
            raise ActorsLostError("a worker of the environments ended with -11")

    sessions = hosted.begin(env, settings, 1)
    group = hosted.Group(env, Broken, 0, 0, sessions)
    group.send(np.zeros((1, 1), np.float32))
    with pytest.raises(ActorsLostError, match="ended with -11"):
        group.receive()
    assert (len(opened), group.restarts) == (1 + hosted.TRIES, hosted.TRIES)


def test_a_worker_that_cannot_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    env = envs.make("dm_control", "cartpole_swingup")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ActorsLostError, match="ended with 1"):
        env.open(EnvConfig("dm_control", "cartpole_swingup"), 1, 1)


def host_loop(config: RunConfig) -> tuple[HostOffPolicyLoop, Any]:
    loop, (run,) = prepare_pack([config])
    assert isinstance(loop, HostOffPolicyLoop)
    return loop, run.inputs


def learn(make_config: MakeConfig, task: str, name: str, **changes: Any) -> tuple[Any, Any, Any]:
    """Train on a probe of the host."""
    agent = {
        "name": name, "learning_rate": 3e-3, "batch_size": 64, "random_interactions": 100,
        "discount": 0.9, "target_rate": 0.05, "weight_decay": 0.0, "network": "mlp",
        "actor_width_ratio": 1.0, **changes.pop("agent", {}),
    }  # fmt: skip
    budget = {"env_steps": 1500, "log_every": 1500, "eval_every": 1500}
    env = {"source": "probe", "task": task}
    loop, inputs = host_loop(make_config(agent=agent, env=env, width=32, **budget, **changes))
    programs = compile_programs(loop, [inputs], "map")
    state, row = programs.chunk(np.int32(0), programs.init(inputs))
    return loop, state, row | programs.evaluate(np.int32(1500), state)


@pytest.mark.parametrize(("name", "sparsity"), [("sac", 0.0), ("ddpg", 0.5)])
def test_the_action_follows_the_observation_on_the_host(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, name: str, sparsity: float
) -> None:
    """With blocks where pruned; actions and successors are those of the right moment."""
    monkeypatch.setitem(registry.SOURCES, "probe", on_host(probe.make))
    pruning = {"pattern": "block"} if sparsity else {}
    _, _, row = learn(make_config, "policy", name, sparsity=sparsity, pruning=pruning)
    assert row["return_mean"] > -0.05  # best 0; a constant at best −0.25
    assert row["updates_in_chunk"] == 1400


def test_truncation_bootstraps_on_the_host_and_programs_are_compiled_once(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reward 1 for ever is worth 1/(1 − γ) = 10; cut at five steps without bootstrap, 4.1."""
    monkeypatch.setitem(registry.SOURCES, "probe", on_host(probe.make))
    with count_compilations() as compiled:
        loop, state, row = learn(make_config, "truncation", "ddpg")
    names = [name for name in compiled if name in PROGRAMS]
    # storing a transition is the same program for every agent: an earlier test may have compiled it
    assert sorted({*names, "jit(add)"}) == sorted([*(n for n in names if n != "jit(add)"), "jit(add)"])
    assert len({*names, "jit(add)"}) == len(PROGRAMS)
    with count_compilations() as again:
        loop.compile(prepare_pack([loop.config]).runs[0].inputs, {})
    assert len(again) <= len(compiled)
    assert row["episode_length_mean"] == row["return_mean"] == row["train_return_mean"] == 5.0
    assert float(row["value_mean"]) > 6.0  # on its way to 10, beyond what five steps can bring
    assert int(state.learner.replay.size) == 1500


PROGRAMS = tuple(f"jit({name})" for name in ("act", "learn", "add", "row", "greedily", "init"))


def test_updates_learn_from_what_was_stored_before_the_interaction(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While transition t is simulated there are t of them; a buffer that is empty is waited for."""
    monkeypatch.setitem(registry.SOURCES, "probe", on_host(probe.make))
    env = {"source": "probe", "task": "truncation"}
    budget = {"env_steps": 9, "log_every": 9, "eval_every": 9}
    loop, inputs = host_loop(make_config(agent={"random_interactions": 0}, env=env, **budget))
    stored: list[tuple[int, int]] = []

    def act(agent: Any, normaliser: Any, key: Any, t: Any, observation: Any) -> Any:
        return normaliser, np.full((1, 1), 0.1 * t, np.float32)

    def learn(agent: Any, totals: Any, normaliser: Any, replay: Any, key: Any, t: Any) -> Any:
        stored.append((int(t), int(replay.size)))
        return agent, totals

    def row(learner: Any, totals: Any, end: Any) -> Any:
        return {"finished": totals.finished, "finished_return": totals.finished_return}

    nothing = jax.tree.map(np.asarray, loop.learning.nothing_learned(loop.init(inputs).learner))
    programs = Compiled(act, learn, loop.learning.buffer.add, row, None, nothing)
    state, found = Driver(loop.learning, loop.env, programs).chunk(0, loop.init(inputs))
    assert stored == [(0, 1), *((t, t) for t in range(1, 9))]
    replay = state.learner.replay
    assert int(replay.size) == 9
    np.testing.assert_allclose(replay.storage.action[:, 0], np.arange(9) * 0.1, rtol=1e-6)
    assert (found["finished"], found["finished_return"]) == (1, 5.0)  # an episode is five frames


def test_an_evaluation_that_breaks_off_begins_again(make_config: MakeConfig) -> None:
    env = {"source": "probe", "task": "truncation", "eval_episodes": 2}
    config = make_config(agent={"name": "ppo"}, env=env)
    made = on_host(probe.make)("truncation")
    opened: list[Any] = []

    def opens(*arguments: Any) -> Any:
        opened.append(made.open(*arguments))
        if len(opened) == 2:  # the first one trains

            def lost() -> Any:
                raise ActorsLostError("gone")

            opened[-1].receive = lost
        return opened[-1]

    breaking = dataclasses.replace(made, open=opens)
    living = Living(config, breaking, 0, hosted.begin(breaking, config.env, 1), 1)
    found = living.evaluate(0, lambda: lambda seen: np.zeros((2, 1), np.float32))
    assert (found["return_mean"], found["episode_length_mean"]) == (5.0, 5.0)
    assert living.restarts() == {results.RESTARTS: 1.0}
    assert living.restarts() == {results.RESTARTS: 0.0}


def test_the_plan_of_dmc_hard_is_the_published_study(tmp_path: Path) -> None:
    study = yaml.safe_load((CONF / "study" / "dmc_hard.yaml").read_text())
    axes = {name: str(v).split(",") for name, v in study["hydra"]["sweeper"]["params"].items()}
    tasks = [f"humanoid_{gait}" for gait in ("stand", "walk", "run")]
    tasks += [f"dog_{gait}" for gait in ("stand", "walk", "trot", "run")]
    assert axes["env"] == [f"dm_control/{task}" for task in tasks]
    assert axes["width"] == [str(512 * scale) for scale in (1, 2, 3, 4, 5)]
    assert [float(s) for s in axes["sparsity"]] == [i / 10 for i in range(10)]
    assert axes["seed"] == [str(seed) for seed in range(8)]
    some = ("agent=sac,ddpg", "env=dm_control/humanoid_walk", "width=512", "sparsity=0.9", "seed=0")
    arguments = ("-m", "sparse_rl.sweep", "study=dmc_hard", *some, "plan=true", "plan_tflops=20")
    plan = subprocess.run(
        [sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, env=os.environ
    )
    assert plan.returncode == 0, plan.stderr
    assert "2 runs in 2 packs" in plan.stdout
    assert "4.39M" in plan.stdout
    assert "990k" in plan.stdout
    assert "device hours at 20 TFLOP/s" in plan.stdout
    assert "environments on the host, updates while they step" in " ".join(plan.stdout.split())
