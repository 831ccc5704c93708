"""What drives agents of a stream, beside plain Python: what they see, act on, learn from and record, in
episodes of unequal lengths, compiled and on the host."""

import functools
from pathlib import Path
from typing import Any, NamedTuple

import interrupting
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import MakeConfig
from host_env import on_host
from interrupting import outcome
from jax import Array
from uneven import LIMIT, LONGEST, SHORTEST, pays, shows, uneven, uneven_on_host

from sparse_rl.agents import Happened, StreamingAgent
from sparse_rl.agents.contract import RunInputs
from sparse_rl.envs import gymnax, registry
from sparse_rl.loops import HostStreamingLoop, StreamingLoop
from sparse_rl.settings.run import RunConfig, run_config

CHUNKS, PER_CHUNK, REPEAT, TREMBLE = 3, 40, 2, 0.01
STEPS = CHUNKS * PER_CHUNK
INPUTS = RunInputs(np.uint32(5), np.uint32(6), np.float32(1.0), {})
GAMMA = 0.8


class Diary(NamedTuple):
    """What an agent that learns nothing was given."""

    updates: Array
    happened: Happened
    """``[STEPS, …]``."""
    measured: Array


def diarist(sees: int) -> StreamingAgent:
    """Acts on what it sees, far out of range; its actions tell the progress too."""

    def init(key: Array, inputs: Any) -> Diary:
        seen, one = jnp.zeros((STEPS, sees)), jnp.zeros(STEPS)
        flag = one.astype(bool)
        happened = Happened(seen, jnp.zeros((STEPS, 2)), one, seen, flag, flag)
        return Diary(jnp.int32(0), happened, flag)

    def act(state: Diary, seen: Array, progress: Array, key: Array) -> Array:
        noise = TREMBLE * jax.random.uniform(key, (1,))
        return jnp.stack([3.0 * jnp.tanh(0.01 * seen[:, 0]) + noise, progress + noise], axis=1)

    def update(state: Diary, happened: Happened, measured: Array) -> Any:
        i = state.updates
        held = jax.tree.map(lambda old, new: old.at[i].set(new[0]), state.happened, happened)
        after = Diary(i + 1, held, state.measured.at[i].set(measured))
        told = jnp.float32(measured)
        found = {
            "td_error_removed": told * i,
            "td_errors": told * (i % 4 == 3),
            "policy_kl": told * 7 * i,
        }
        return after, {"loss/critic": 3.0 + i}, found

    return StreamingAgent(
        init=init, act=act, update=update,
        act_greedily=lambda state, seen: jnp.stack([seen[:, -1], 0.0 * seen[:, 0]], axis=1),
        diagnose=lambda state, seen: {"probe": seen},
        parameters=lambda state: {}, supports=lambda state: {}, passes={}, traffic={}, wiring={},
    )  # fmt: skip


class Run(NamedTuple):
    """A run from its start to its end, on the host."""

    rows: list[dict[str, Any]]
    diary: Any
    """A :class:`Diary`."""
    evaluated: dict[str, Any]


def config_of(plain: bool) -> RunConfig:
    agent = {"name": "stream_ac", "discount": GAMMA} | (
        dict.fromkeys(("normalise_observations", "normalise_rewards", "time_feature"), False)
        if plain
        else {}
    )
    env = {"source": "probe", "task": "policy", "action_repeat": REPEAT, "eval_episodes": 1}
    budget = {"env_steps": REPEAT * STEPS, "log_every": REPEAT * PER_CHUNK}
    return run_config({"agent": agent, "env": env, "width": 8} | budget)


@functools.cache
def run_of(where: str, plain: bool) -> Run:
    config, agent = config_of(plain), diarist(3 if plain else 4)
    loop: Any
    if where == "host":
        loop = HostStreamingLoop(config, uneven_on_host(), agent)
        init, chunk, evaluate = loop.compile(INPUTS, {})
    else:
        loop = StreamingLoop(config, uneven(), agent)
        init, chunk, evaluate = jax.jit(loop.init), jax.jit(loop.chunk), jax.jit(loop.evaluate)
    state, rows = init(INPUTS), []
    for first in range(0, STEPS, PER_CHUNK):
        state, row = chunk(np.int32(first), state)
        rows.append(jax.device_get(row))
    learner = getattr(state, "learner", state)
    evaluated = jax.device_get(evaluate(np.int32(STEPS), state))
    return Run(rows, jax.device_get(learner.agent), evaluated)


somewhere = pytest.mark.parametrize("where", ["compiled", "host"])


class Frames(NamedTuple):
    """What an environment does, from what it showed: ``[STEPS]``."""

    time: np.ndarray
    """Before each interaction."""
    frames: np.ndarray
    life: np.ndarray


@functools.cache
def played(where: str) -> Frames:
    """Time and life by what was seen of them, raw; checked against the environment's own rules."""
    seen, following = run_of(where, True).diary.happened[0], run_of(where, True).diary.happened[3]
    time, life = np.rint((seen[:, 0] - 30) / 7), np.rint((seen[:, 1] + 0.2) / 0.03)
    frames = np.minimum(REPEAT, np.minimum(LIMIT - time, life - time))
    np.testing.assert_allclose(seen, np.stack(shows(time, life), 1), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(following, np.stack(shows(time + frames, life), 1), rtol=1e-5, atol=1e-5)
    ended = np.minimum(LIMIT, life) <= time + frames
    np.testing.assert_array_equal(time[1:], np.where(ended, 0, time + frames)[:-1])
    assert (life[1:][~ended[:-1]] == life[:-1][~ended[:-1]]).all()
    assert len(set(life)) > 3
    return Frames(time, frames, life)


def paid(where: str, action: np.ndarray) -> np.ndarray:
    """The environment's rewards for such actions, as far as they are within its range."""
    given: Any = np.clip(action.astype(np.float64), -1.0, 1.0)
    return np.array([
        sum(pays(time + k, a) for k in range(int(frames)))
        for time, frames, a in zip(*played(where)[:2], given, strict=True)
    ])  # fmt: skip


@somewhere
def test_what_is_learned_from_is_what_happened(where: str) -> None:
    """Successors are true ones, actions are as drawn, and ends of both kinds are told apart."""
    time, frames, life = played(where)
    happened = run_of(where, True).diary.happened
    np.testing.assert_allclose(happened.reward, paid(where, happened.action), rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(happened.terminated, life <= time + frames)
    np.testing.assert_array_equal(happened.ended, np.minimum(LIMIT, life) <= time + frames)
    assert 0 < happened.terminated.sum() < happened.ended.sum()
    noise = happened.action[:, 0] - 3.0 * np.tanh(0.01 * happened.observation[:, 0])
    assert np.abs(happened.action[:, 0]).max() > 1.0
    assert 0.0 < noise.min() < noise.max() < 1.01 * TREMBLE
    assert len(np.unique(np.round(noise, 6))) > 0.9 * STEPS
    progress = happened.action[:, 1] - noise
    np.testing.assert_allclose(progress, np.arange(STEPS) / STEPS, atol=1e-5)


@somewhere
def test_numbers_are_normalised_by_all_that_was_seen_and_time_stands_beside(where: str) -> None:
    time, _, _ = played(where)
    raw, seen = run_of(where, True).diary.happened, run_of(where, False).diary.happened
    np.testing.assert_array_equal(raw.ended, seen.ended)
    shown: list[np.ndarray] = []

    def normalised(x: np.ndarray) -> np.ndarray:
        shown.append(x.astype(np.float64))
        deviation = np.std(shown, axis=0, ddof=1) if len(shown) > 1 else np.ones(3)
        return (shown[-1] - np.mean(shown, axis=0)) / np.sqrt(deviation**2 + 1e-8)

    now = normalised(raw.observation[0])
    for t in range(STEPS):
        np.testing.assert_allclose(seen.observation[t, :3], now, rtol=2e-3, atol=2e-3)
        now = normalised(raw.next_observation[t])
        np.testing.assert_allclose(seen.next_observation[t, :3], now, rtol=2e-3, atol=2e-3)
        if raw.ended[t] and t + 1 < STEPS:
            now = normalised(raw.observation[t + 1])
    np.testing.assert_allclose(seen.observation[:, 3], time / LIMIT - 0.5, atol=1e-6)
    elapsed = np.minimum(time + REPEAT, LIMIT)
    np.testing.assert_allclose(seen.next_observation[:, 3], elapsed / LIMIT - 0.5, atol=1e-6)


@somewhere
def test_rewards_are_divided_by_the_deviation_of_returns(where: str) -> None:
    """The running return begins anew with an episode's last reward."""
    happened = run_of(where, False).diary.happened
    rewards, running, returns = paid(where, happened.action), 0.0, []
    for reward, ended, scaled in zip(rewards, happened.ended, happened.reward, strict=True):
        running = GAMMA * running * (not ended) + reward
        returns.append(running)
        deviation = np.std(returns, ddof=1) if len(returns) > 1 else 1.0
        assert scaled == pytest.approx(reward / deviation, rel=2e-3, abs=2e-3)


@somewhere
def test_a_row_is_the_mean_of_its_chunk(where: str) -> None:
    run = run_of(where, True)
    rewards, ended = paid(where, run.diary.happened.action), run.diary.happened.ended
    np.testing.assert_array_equal(run.diary.measured, np.arange(STEPS) % 10 == 9)
    assert int(run.diary.updates) == STEPS
    for i, row in enumerate(run.rows):
        steps = np.arange(i * PER_CHUNK, (i + 1) * PER_CHUNK)
        assert row["updates_in_chunk"] == PER_CHUNK
        assert row["loss/critic"] == pytest.approx(3.0 + steps.mean())
        measured = steps[steps % 10 == 9]
        assert row["policy_kl"] == pytest.approx(7 * measured.mean())
        told = sum(step % 4 == 3 for step in measured)
        assert row["td_error_removed"] == pytest.approx(measured.sum() / told)
        returns = [
            rewards[max(np.flatnonzero(ended[:t]), default=-1) + 1 : t + 1].sum()
            for t in steps
            if ended[t]
        ]
        assert row["train_return_mean"] == pytest.approx(np.mean(returns), rel=1e-4)
        probed = {tuple(x) for x in row["probe"]}
        assert probed == {tuple(run.diary.happened.observation[t]) for t in steps}


@somewhere
def test_an_evaluation_knows_the_time(where: str) -> None:
    """An episode of which the return follows from its life: the action is the share of time."""
    found = run_of(where, False).evaluated
    wanted = {}
    for life in range(SHORTEST, LONGEST + 1):
        total, end = 0.0, min(life, LIMIT)
        for time in range(end):
            share = (time - time % REPEAT) / LIMIT - 0.5
            total += pays(time, (share, 0.0))
        wanted[end] = total
    assert min(abs(float(found["return_mean"]) - total) for total in wanted.values()) < 1e-3


train = functools.partial(interrupting.train, every=100)


@pytest.mark.parametrize("where", ["compiled", "host"])
def test_interrupted_runs_end_with_the_bytes_of_undisturbed_ones(
    where: str, make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alone and not disturbed; in a pack, and stopped at a log point."""
    if where == "host":
        monkeypatch.setitem(registry.SOURCES, "gymnax", on_host(gymnax.make))
    agent = {"name": "stream_ac", "step_rule": "intentional"}
    runs = [
        make_config(agent=agent, env={"task": "CartPole-v1"}, sparsity=0.5, seed=seed, env_steps=300)
        for seed in (1, 2)
    ]
    train(runs[:1], tmp_path / "alone")
    train(runs, tmp_path / "pack", until=100)
    told = train(runs, tmp_path / "pack")
    assert [p.env_steps for p in told if p.ended == "done"] == [300, 300]
    assert min(p.env_steps for p in told) >= 100  # it went on and did not begin again
    assert outcome(tmp_path / "pack", runs[0]) == outcome(tmp_path / "alone", runs[0])
    assert outcome(tmp_path / "pack", runs[0]) != outcome(tmp_path / "pack", runs[1])
