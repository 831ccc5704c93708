"""Rollouts, chunks and evaluations of an agent that learns nothing, predicted in plain Python."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tides
from puppets import UPDATES, Told, greedy, log_prob_of, puppet, value_of
from references import on_policy as of_all

from sparse_rl import envs
from sparse_rl.agents import View
from sparse_rl.envs import vector
from sparse_rl.loops.evaluation import evaluate
from sparse_rl.loops.learning import Totals
from sparse_rl.loops.on_policy import OnPolicyLoop, OnPolicyState
from sparse_rl.loops.rewards import RewardScale
from sparse_rl.loops.rollout import Behaviour, Rollout, collect, view_of
from sparse_rl.networks.dense import as_float
from sparse_rl.records import results
from sparse_rl.settings.run import RunConfig, run_config

KEY = jax.random.key(6)
N, T, REPEAT, GAMMA, LAMBDA = 16, 8, 2, 0.9, 0.7


def seen(view: Any) -> Any:
    """What the networks see: not what the environment shows."""
    return view._replace(observation=2.0 * view.observation - 1.0)


@pytest.fixture(scope="module")
def rolled() -> tuple[Rollout, vector.VectorState]:
    """A rollout of sixteen environments; actions go beyond the range."""
    env = tides.tides()

    def act(view: Any, memory: Any, key: Any) -> Any:
        noise = jax.random.normal(key, (len(view.observation), 2))
        return 1.5 * noise, log_prob_of(view.observation), memory

    def run(key: Any) -> Any:
        start = vector.reset(env, key, N)
        behaviour = Behaviour(seen, act, lambda view, _: value_of(view.observation))
        after, _, rollout = collect(env, behaviour, start, (), jax.random.split(key, T), REPEAT)
        return rollout, after

    found: tuple[Rollout, vector.VectorState] = jax.tree.map(np.asarray, jax.jit(run)(KEY))
    return found


def test_a_rollout_is_what_its_environments_bring(rolled: tuple[Rollout, Any]) -> None:
    """Each is given the action cut off at its range; stored is the one that was drawn."""
    rollout, after = rolled
    given = np.clip(rollout.action, -1.0, 1.0)
    assert (abs(rollout.action) > 1.0).mean() > 0.2
    found = tides.played(rollout.view.observation, given, REPEAT)
    for name, ours in (
        ("reward", rollout.reward),
        ("terminated", rollout.terminated),
        ("truncated", rollout.truncated),
        ("total", rollout.episode_return),
    ):
        np.testing.assert_allclose(ours, tides.field(found, name), rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(rollout.log_prob, log_prob_of(2.0 * rollout.view.observation - 1.0))
    ended = rollout.terminated | rollout.truncated
    following = tides.field(found, "observation")
    np.testing.assert_allclose(
        rollout.view.observation[1:][~ended[:-1]], following[:-1][~ended[:-1]], rtol=1e-5
    )
    np.testing.assert_allclose(after.observation[~ended[-1]], following[-1][~ended[-1]], rtol=1e-5)


def test_a_truncation_is_worth_its_own_successor(rolled: tuple[Rollout, Any]) -> None:
    """However many terminations lie before it and between them; nothing else is worth anything."""
    rollout, _ = rolled
    found = tides.played(rollout.view.observation, np.clip(rollout.action, -1.0, 1.0), REPEAT)
    worth = value_of(2.0 * tides.field(found, "observation") - 1.0)
    expected = np.where(rollout.truncated, worth, 0.0)
    np.testing.assert_allclose(np.asarray(rollout.final_value), expected, rtol=1e-5)
    twice = rollout.truncated.sum(0) > 1
    between = [np.flatnonzero(x.any(0)) for x in (rollout.terminated, rollout.truncated)]
    assert twice.any()
    assert set(between[0]) & set(between[1])


def test_every_actor_draws_its_own_action_at_every_step(rolled: tuple[Rollout, Any]) -> None:
    noise = rolled[0].action / 1.5
    assert len(np.unique(noise)) == noise.size
    assert abs(noise.mean()) < 4 / np.sqrt(noise.size)
    assert noise.std() == pytest.approx(1.0, abs=4 / np.sqrt(2 * noise.size))


def test_what_is_allowed_is_seen_with_what_is_shown() -> None:
    """The middle choice, in the first two frames of each episode alone."""
    env = tides.tides(discrete=True, legal=True)
    start = vector.reset(env, KEY, 3)._replace(
        env=tides.Tide(jnp.full(3, 2.5), jnp.full(3, 7), jnp.array([0, 3, 1])),
        elapsed=jnp.array([0, 3, 1]),
    )
    np.testing.assert_array_equal(
        np.asarray(view_of(env, start).legal), [[1, 1, 1], [1, 0, 1], [1, 1, 1]]
    )
    behaviour = Behaviour(
        lambda view: view,
        lambda view, _, key: (jnp.where(jnp.asarray(view.legal)[:, 1], 1, 2), jnp.zeros(3), ()),
        lambda view, _: view.observation[:, 0],
    )
    run = jax.jit(lambda start: collect(env, behaviour, start, (), jax.random.split(KEY, 3), 1)[2])
    rollout = run(start)
    np.testing.assert_array_equal(rollout.action, [[1, 2, 1], [1, 2, 2], [2, 1, 2]])


def test_a_picture_at_which_time_ran_out_is_valued_as_a_picture() -> None:
    """In bytes, as it is seen: a network divides bytes by 255 and numbers by nothing."""
    env = dataclasses.replace(envs.make("probe", "picture"), episode_length=1)
    start = vector.reset(env, KEY, 4)
    behaviour = Behaviour(
        lambda view: view,
        lambda view, _, key: (jnp.full((4, 1), 0.3), jnp.zeros(4), ()),
        lambda view, _: as_float(view.observation).mean(axis=1),
    )
    _, _, rollout = collect(env, behaviour, start, (), jax.random.split(KEY, 1), 1)
    assert bool(rollout.truncated.all())
    # half of the first picture is bright, nothing of the second
    np.testing.assert_allclose(np.asarray(rollout.final_value), np.full((1, 4), 0.25), rtol=1e-6)


class Ran(NamedTuple):
    """Two chunks of a loop, and what the agent was told meanwhile."""

    loop: OnPolicyLoop
    rows: list[dict[str, float]]
    told: Told
    state: OnPolicyState


def config_of(**agent: Any) -> RunConfig:
    """Chunks of three rollouts of four interactions of two actors, of two frames each."""
    settings = {"num_envs": 2, "num_steps": 4, "discount": GAMMA, "gae_lambda": LAMBDA, **agent}
    env = {"source": "probe", "task": "constant", "action_repeat": REPEAT, "eval_episodes": 7}
    budget = {"env_steps": 96, "log_every": 48, "eval_every": 48}
    few = {"max_samples": 11}
    return run_config({"agent": {"name": "paac"} | settings, "env": env, "diagnostics": few} | budget)


@pytest.fixture(scope="module")
def ran() -> Ran:
    config = config_of(normalise_rewards=True, normalise_observations=True)
    agent, told = puppet(2)
    loop = OnPolicyLoop(config, tides.tides(), agent)
    state, rows = loop.init(inputs_of(3)), []
    chunk = jax.jit(loop.chunk)
    for first in (0, 12):
        state, row = chunk(jnp.int32(first), state)
        rows.append({name: float(number) for name, number in row.items()})
    jax.effects_barrier()
    return Ran(loop, rows, told, state)


def inputs_of(seed: int) -> Any:
    """A run's inputs, as far as an agent that learns nothing has any."""
    return type("Inputs", (), {"seed": np.uint32(seed)})


def shown_to(told: Told) -> list[np.ndarray]:
    """What the environments showed in each rollout, ``[T · N, 3]``: the agent saw it normalised by mean
    and deviation of all rollouts before."""
    raw: list[np.ndarray] = []
    for experience, *_ in told.experiences:
        normal = np.asarray(experience.view.observation, float)
        assert abs(normal).max() < 10.0  # nothing was cut off, so that it can be told
        past = np.concatenate(raw) if raw else np.array([[-1.0] * 3, [1.0] * 3])
        now = normal * np.sqrt(past.var(0) + 1e-8) + past.mean(0)
        steps = np.array([0.7, -0.25])  # time and length come in steps
        raw.append(np.concatenate([now[:, :1], np.round(now[:, 1:] / steps) * steps], axis=1))
    return raw


def test_a_chunk_is_its_rollouts(ran: Ran) -> None:
    """Returns, advantages, statistics, progress and health of two chunks, from what the agent saw."""
    shown = np.concatenate([raw.reshape(4, 2, 3) for raw in shown_to(ran.told)])
    drawn = np.concatenate([np.asarray(e.action) for e, *_ in ran.told.experiences]).reshape(24, 2, 2)
    brought = tides.played(shown, np.clip(drawn, -1.0, 1.0), REPEAT)
    statistics = of_all.Seen(np.zeros((0, 3)), np.zeros(0), np.zeros(2))
    losses, explained = [], []
    for i, (experience, progress, _) in enumerate(ran.told.experiences):
        assert progress == pytest.approx(i / 6)
        part = slice(4 * i, 4 * i + 4)
        names = ("reward", "terminated", "truncated", "observation")
        rest = (tides.field(brought[part], name) for name in names)
        rollout = of_all.Rollout(shown[part], drawn[part], np.zeros((4, 2)), *rest)
        before, statistics = statistics, of_all.remember(statistics, rollout, GAMMA)
        rewards = of_all.scaled(rollout.reward, statistics)
        values, following = (
            value_of(of_all.normalised(x, before), UPDATES * i)
            for x in (rollout.observation, rollout.following)
        )
        advantage = of_all.advantages(rollout, rewards, values, following, GAMMA, LAMBDA)
        np.testing.assert_allclose(experience.value, values.ravel(), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(experience.advantage, advantage.ravel(), rtol=1e-4, atol=1e-4)
        target = experience.advantage + experience.value
        np.testing.assert_allclose(experience.value_target, target, rtol=1e-5)
        losses.append(float(advantage.sum()))
        explained.append(1.0 - advantage.var() / (advantage + values).var())
    assert len(losses) == 6
    assert_rows(ran, brought, losses, explained)


def assert_rows(
    ran: Ran, brought: list[list[tides.Brought]], losses: list[float], explained: list[float]
) -> None:
    total, ended = tides.field(brought, "total"), tides.field(brought, "terminated")
    ended = ended | tides.field(brought, "truncated")
    for i, row in enumerate(ran.rows):
        part = slice(12 * i, 12 * i + 12)
        assert row["updates_in_chunk"] == 3 * UPDATES
        finished = total[part][ended[part]]
        assert row["train_return_mean"] == pytest.approx(finished.mean(), rel=1e-4)
        mean = sum(losses[3 * i : 3 * i + 3]) / (3 * UPDATES)
        assert row["loss/actor"] == pytest.approx(mean, rel=1e-3, abs=1e-3)
        expected = np.mean(explained[3 * i : 3 * i + 3])
        assert row["explained_variance"] == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_health_is_measured_on_what_the_last_rollouts_showed(ran: Ran) -> None:
    """Eleven samples of the last two rollouts, sixteen: each of them once, normalised as at the end."""
    assert ran.loop.learning.probed == 2
    raw = shown_to(ran.told)
    probes = [np.asarray(x) for x in ran.told.probes]
    for probe, row, end in zip(probes, ran.rows, (3, 6), strict=True):
        past = np.concatenate(raw[:end])
        among = (np.concatenate(raw[end - 2 : end]) - past.mean(0)) / past.std(0)
        gaps = abs(probe[:, None] - among[None]).max(-1)
        assert probe.shape == (11, 3)
        assert gaps.min(1).max() < 1e-3
        assert len(set(gaps.argmin(1))) == 11
        assert row["health"] == pytest.approx(probe[:, 0].mean(), rel=1e-5)


def test_an_agent_never_draws_the_same_twice(ran: Ran) -> None:
    """Of six rollouts: noise of actions, and what each update draws."""
    noise = [np.asarray(e.action - greedy(e.view.observation)) for e, *_ in ran.told.experiences]
    assert len(np.unique(np.round(np.concatenate(noise), 6))) == 6 * 8 * 2
    assert len({drawn for *_, drawn in ran.told.experiences}) == 6


def episodes(looks: list[np.ndarray], actions: list[np.ndarray]) -> tuple[list[float], list[int]]:
    """Returns and lengths of whole episodes, from what they showed first and what they were given."""
    assert len(looks) == 3  # of two frames each: five at most
    twins, returns, lengths = [tides.Twin.seen(x) for x in looks[0]], [], []
    assert len({twin.lasts for twin in twins}) > 2
    for n, twin in enumerate(twins):
        for action in actions:
            brought = twin.interact(np.clip(action[n], -1.0, 1.0), REPEAT)
            if brought.terminated or brought.truncated:
                break
        returns.append(brought.total)
        lengths.append(brought.elapsed)
    return returns, lengths


def test_an_evaluation_is_its_episodes_and_no_more() -> None:
    """Seven episodes of different lengths: what comes after an episode's end does not count."""
    config, env, looks = config_of(), tides.tides(), []

    def act(envs: vector.VectorState, memory: Any, key: Any) -> tuple[jax.Array, Any]:
        jax.debug.callback(lambda x: looks.append(np.asarray(x)), envs.observation, ordered=True)
        return jnp.clip(greedy(envs.observation), -1.0, 1.0), memory

    row = jax.jit(lambda key: evaluate(config, env, act, key))(KEY)
    jax.effects_barrier()
    returns, lengths = episodes(looks, [np.asarray(greedy(look)) for look in looks])
    assert float(row["return_mean"]) == pytest.approx(np.mean(returns), rel=1e-5)
    assert float(row["return_std"]) == pytest.approx(np.std(returns), rel=1e-4)
    assert float(row["episode_length_mean"]) == pytest.approx(np.mean(lengths), rel=1e-6)
    assert float(row[results.EPISODES_DISTINCT]) == 7


def test_an_agent_is_evaluated_as_it_sees_and_within_the_range_of_actions(ran: Ran) -> None:
    """Other episodes after other interactions, the same after the same; seen through the statistics."""
    program, told = jax.jit(ran.loop.evaluate), ran.told
    told.looks.clear()
    first, again, later = (float(program(jnp.int32(i), ran.state)["return_mean"]) for i in (12, 12, 24))
    jax.effects_barrier()
    past = np.concatenate(shown_to(told))
    looks = [np.asarray(look) * past.std(0) + past.mean(0) for look in told.looks[:3]]
    looks[0][:, 1:] = np.round(looks[0][:, 1:] / [0.7, -0.25]) * [0.7, -0.25]
    actions = [np.asarray(greedy(look)) for look in told.looks[:3]]
    assert (np.stack(actions) > 1.0).any()
    assert first == pytest.approx(np.mean(episodes(looks, actions)[0]), rel=1e-4)
    assert first == again
    assert first != later


def test_a_mean_over_a_chunk_weighs_what_there_was() -> None:
    """Sums over updates are divided by updates, over rollouts by those in which it is known."""
    learned: Any = type("L", (), {"updates": jnp.int32(8), "metrics": {"loss/actor": jnp.float32(20.0)}})
    row = Totals(learned, jnp.float32(1.5), jnp.float32(3.0), jnp.float32(70.0), jnp.float32(4.0)).row()
    assert {name: float(number) for name, number in row.items()} == {
        "loss/actor": 2.5,
        "explained_variance": 0.5,
        "updates_in_chunk": 8.0,
        "train_return_mean": 17.5,
    }


def test_rewards_are_clipped_after_they_are_scaled() -> None:
    """By 0.2: with and without a scale; a negative reward from below."""
    rewards = jnp.array([[30.0, -0.05], [0.1, -44.0], [0.0, 0.15], [9.0, 2.0]])
    none = jnp.zeros((4, 2), bool)
    fields: dict[str, Any] = dict.fromkeys(Rollout._fields)
    rollout = Rollout(
        **fields | {"view": View(rewards), "reward": rewards, "terminated": none, "truncated": none}
    )
    agent, _ = puppet(2)
    for scaled in (False, True):
        config = config_of(reward_clip=0.2, normalise_rewards=scaled)
        loop = OnPolicyLoop(config, tides.tides(), agent)
        begun = loop.learning.init(inputs_of(3), loop.env)
        state: Any = type("S", (), {"reward_scale": begun["reward_scale"]})
        assert isinstance(state.reward_scale, RewardScale)
        scale, found = loop.learning.rewards(state, rollout, jnp.int32(0))
        divided = np.asarray(rewards)
        if scaled:
            returns, running = [], np.zeros(2)
            for reward in np.asarray(rewards):
                running = GAMMA * running + reward
                returns += list(running)
            divided = divided / np.std(returns)
            assert int(scale.statistics.seen) == 8
        np.testing.assert_allclose(found, np.clip(divided, -0.2, 0.2), rtol=1e-5)
