"""The host loop, on environments whose values are known: what it learns, and what disturbs it."""

import functools
import sys
from pathlib import Path
from typing import Any

import interrupting
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import MakeConfig
from host_env import on_host
from interrupting import outcome

from sparse_rl.agents.contract import Streams
from sparse_rl.envs import HostEnv, HostStep, gymnax, probe, registry
from sparse_rl.loops.hosted import hosting, parts
from sparse_rl.loops.hosted import on_policy as host
from sparse_rl.loops.hosted import sessions as hosted
from sparse_rl.loops.hosted.on_policy import HostLoop
from sparse_rl.loops.learning import iteration_keys
from sparse_rl.records import results
from sparse_rl.runs.pack import compile_programs, default_layout, prepare_pack
from sparse_rl.settings.run import RunConfig


@pytest.fixture(autouse=True)
def _on_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.SOURCES, "probe", on_host(probe.make))
    monkeypatch.setitem(registry.SOURCES, "gymnax", on_host(gymnax.make))


def host_loop(config: RunConfig) -> tuple[HostLoop, Any]:
    loop, (run,) = prepare_pack([config])
    assert isinstance(loop, HostLoop)
    return loop, run.inputs


def trained(
    make_config: MakeConfig, task: str, agent: dict[str, Any], steps: int
) -> tuple[Any, Any, Any]:
    env = {"source": "probe", "task": task}
    budget = {"env_steps": steps, "log_every": steps, "eval_every": steps}
    loop, inputs = host_loop(make_config(agent=agent, env=env, width=32, **budget))
    programs = compile_programs(loop, [inputs], "map")
    state, _ = programs.chunk(np.int32(0), programs.init(inputs))
    return loop, state, programs.evaluate(np.int32(steps // 10), state)


PAAC = {"name": "paac", "learning_rate": 0.1, "num_envs": 8, "num_steps": 4}
PPO = {"name": "ppo", "learning_rate": 1e-2, "num_envs": 8, "num_steps": 16, "minibatches": 4}


@pytest.mark.usefixtures("without_health")
@pytest.mark.parametrize(
    ("task", "observation", "expected"),
    [
        ("constant", 0.0, 1.0),
        ("observation", 1.0, 1.0),
        ("observation", -1.0, -1.0),
        ("discount", 0.0, 0.9),
        ("truncation", 0.0, 10.0),
    ],
)
def test_values_are_those_of_the_probes(
    make_config: MakeConfig, task: str, observation: float, expected: float
) -> None:
    agent = PPO | {"discount": 0.9, "entropy_coefficient": 0.0, "learning_rate_schedule": "constant"}
    loop, state, _ = trained(make_config, task, agent, 128 * 150)
    on_device = host.OnDevice(loop.learning, loop.env)
    value = on_device.value(state.learner, jnp.full((1, 1), observation))
    assert float(value[0]) == pytest.approx(expected, rel=0.15)


@pytest.mark.usefixtures("without_health")
def test_actions_of_a_group_go_to_that_group(make_config: MakeConfig) -> None:
    """``discrete_policy`` rewards the action that is shown: each actor must be given its own."""
    _, _, row = trained(make_config, "discrete_policy", PAAC, 32 * 300)
    assert row["return_mean"] == 1.0


train = functools.partial(interrupting.train, every=100)


NORMALISED = {"name": "ppo", "normalise_observations": True, "normalise_rewards": True}


@pytest.mark.usefixtures("without_health")
@pytest.mark.parametrize(
    ("task", "agent"),
    [
        ("discount", NORMALISED),
        ("truncation", NORMALISED),
        ("CartPole-v1", NORMALISED),
        ("CartPole-v1", NORMALISED | {"memory": "gru", "sequence_length": 5}),
        ("CartPole-v1", {"name": "dqn", "memory": "lstm"}),
    ],
)
def test_interrupted_runs_end_with_the_bytes_of_undisturbed_ones(
    make_config: MakeConfig, tmp_path: Path, task: str, agent: dict[str, Any]
) -> None:
    """Sessions end between and after the interruptions; the environments are rebuilt from them. What is
    remembered goes on where it was."""
    env = {"source": "gymnax" if task[0] == "C" else "probe", "task": task}
    pack = [make_config(seed=s, sparsity=0.5, env_steps=600, agent=agent, env=env) for s in (0, 1)]
    train(pack, tmp_path / "calm")
    reached: dict[str, list[int]] = {config.run_id: [] for config in pack}
    for until in (200, 400, None):
        for config in pack:  # side by side, one may be a log point behind the other
            run = results.read_run(tmp_path / "disturbed" / config.run_id)
            reached[config.run_id].append(run["progress"]["env_steps"] if run else 0)
        train(pack, tmp_path / "disturbed", until)
    for config in pack:
        assert outcome(tmp_path / "disturbed", config) == outcome(tmp_path / "calm", config)
        record = results.read_run(tmp_path / "disturbed" / config.run_id)
        assert record is not None
        starts = [attempt["from_env_steps"] for attempt in record["attempts"]]
        assert starts == reached[config.run_id]


def test_shares_of_time_are_recorded_beside_the_metrics(make_config: MakeConfig, tmp_path: Path) -> None:
    env = {"source": "probe", "task": "policy"}
    config = make_config(agent={"name": "paac"}, env=env)
    train([config], tmp_path)
    rows = results.read_metrics(tmp_path / config.run_id)
    shares = rows[[f"{results.TIME_SHARE}{part}" for part in hosting.PARTS]]
    assert len(shares) == 2
    assert ((shares > 0) & (shares < 1)).all(axis=None)
    assert (shares.sum(axis=1) <= 1).all()
    again = make_config(agent={"name": "paac"}, env=env)
    train([again], tmp_path / "again")
    assert outcome(tmp_path / "again", again) == outcome(tmp_path, config)


@pytest.mark.parametrize("num_envs", [1, 5])
def test_any_number_of_actors_is_cut_into_groups(make_config: MakeConfig, num_envs: int) -> None:
    env = {"source": "probe", "task": "choice"}
    agent = {"name": "paac", "num_envs": num_envs, "num_steps": 4}
    steps = 8 * num_envs
    config = make_config(agent=agent, env=env, env_steps=steps, log_every=steps, eval_every=steps)
    loop, inputs = host_loop(config)
    programs = compile_programs(loop, [inputs], "map")
    state, row = programs.chunk(np.int32(0), programs.init(inputs))
    assert row["updates_in_chunk"] == 2
    assert [len(group.observation) for group in state.living.groups] == hosted.sizes(
        num_envs, len(state.living.groups)
    )
    assert state.sessions.length.sum() == 8 * num_envs - 7 * num_envs  # begun anew after seven


def test_seeds_of_environments_are_all_different_and_follow_from_the_run() -> None:
    paths = [(env, session) for env in range(20) for session in range(20)]
    seeds = [hosted.seeds_of(seed, Streams.ENV, paths) for seed in (0, 1)]
    assert len(np.unique(seeds)) == 800
    assert (np.asarray(seeds) >= 0).all()
    assert (np.asarray(seeds) < 2**31).all()
    np.testing.assert_array_equal(hosted.seeds_of(0, Streams.ENV, paths[3:5]), seeds[0][3:5])


def test_host_environments_are_never_batched(make_config: MakeConfig) -> None:
    loop, inputs = host_loop(make_config(agent={"name": "ppo"}, env={"task": "CartPole-v1"}))
    assert default_layout(loop) == "map"
    with pytest.raises(ValueError, match="layout=vmap"):
        compile_programs(loop, [inputs], "vmap")


def test_a_missing_emulator_says_how_to_get_it(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ale_py", None)
    env, budget = {"source": "atari", "task": "pong"}, {"log_every": 200, "eval_every": 200}
    config = make_config(agent={"name": "paac"}, env=env, **budget)
    with pytest.raises(ModuleNotFoundError, match=r"install it with: pip install 'sparse_rl\[atari\]'"):
        prepare_pack([config])


def test_no_two_draws_of_a_rollout_share_a_key(make_config: MakeConfig) -> None:
    """Keys of two rollouts' answers, per interaction and group, and of their updates."""
    env = {"source": "probe", "task": "choice"}
    loop, inputs = host_loop(make_config(agent={"name": "paac"}, env=env))
    learner = loop.init(inputs).learner
    found = []
    for iteration in (0, 1):
        key, key_learn = iteration_keys(learner.key, iteration)
        found.append(key_learn)
        for t in range(loop.learning.settings.num_steps):
            found += [host.key_of(key, t, group) for group in range(parts.GROUPS)]
    assert len({tuple(np.asarray(jax.random.key_data(key)).tolist()) for key in found}) == len(found)


class Repeating:
    """Three frames an interaction, the fourth one whatever is left of ten."""

    def __init__(self, num_envs: int) -> None:
        self._seen, self._times = np.zeros((num_envs, 1), np.float32), 0

    def seed(self, seeds: np.ndarray, where: np.ndarray) -> np.ndarray:
        return self._seen

    def send(self, action: np.ndarray) -> None:
        self._times += 1

    def receive(self) -> HostStep:
        over = np.full(len(self._seen), self._times % 4 == 0)
        return HostStep(self._seen, over.astype(np.float32), ~over & over, over, self._seen)


def test_episodes_are_as_long_as_their_limit_where_the_action_repeat_does_not_divide_it(
    make_config: MakeConfig,
) -> None:
    """Ten frames in interactions of three are not twelve."""
    env = HostEnv(
        name="probe/ten",
        observation_size=1,
        action_size=1,
        episode_length=10,
        open=lambda settings, num_envs, threads: Repeating(num_envs),
        seed_every=1,
    )
    settings = {"source": "probe", "task": "truncation", "action_repeat": 3}
    config = make_config(env=settings, env_steps=300, log_every=150, eval_every=150)
    living = hosting.Living(config, env, 0, hosted.begin(env, config.env, 1), 1)
    found = living.evaluate(0, lambda: lambda seen: np.zeros((len(seen), 1), np.float32))
    assert (found["episode_length_mean"], found["return_mean"]) == (10.0, 1.0)
