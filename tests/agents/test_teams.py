"""Agents of teams: who counts, what a central critic sees, what is learned from; in plain numbers."""

import dataclasses
from typing import Any

import crew
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import on_policy

from sparse_rl.agents import View
from sparse_rl.experience import advantages, means
from sparse_rl.experience import normaliser as norm
from sparse_rl.loops.learning import acting_next
from sparse_rl.loops.rewards import shaped
from sparse_rl.loops.rollout import Rollout, flat, view_of
from sparse_rl.settings.envs import TeamConfig
from sparse_rl.settings.run import RunConfig, run_config
from sparse_rl.settings.schema import ConfigError

KEY = jax.random.key(8)
SMALL: dict[str, Any] = {
    "ippo": {"num_envs": 4, "num_steps": 8, "minibatches": 2, "epochs": 2, "learning_rate": 1e-2},
    "pqn_vdn": {"num_envs": 4, "num_steps": 8, "minibatches": 2, "epochs": 2, "learning_rate": 1e-2},
}
SMALL["mappo"] = SMALL["ippo"]


def config_of(name: str, **agent: Any) -> RunConfig:
    env = {"source": "jaxmarl", "task": "crew", "eval_episodes": 4}
    settings = {"name": name, **SMALL[name], **agent}
    budget = {"env_steps": 128, "log_every": 32, "eval_every": 64}
    return run_config({"agent": settings, "env": env, "width": 8, "sparsity": 0.5, **budget})


def test_steps_that_decide_nothing_are_looked_through() -> None:
    """By hand: γ = λ = ½, and the agent waits in the second step."""
    rows = ([1, 2, 4], [10, 20, 30], [20, 30, 40])
    rewards, values, following = (jnp.float32([[x] for x in row]) for row in rows)
    never, acts = jnp.zeros((3, 1), bool), jnp.float32([[0], [1], [1]])
    how: Any = {"discount": 0.5, "gae_lambda": 0.5, "acts": acts}
    found = advantages(rewards, values, following, never, never, **how)
    np.testing.assert_allclose(found[:, 0], [-1.25, -4.5, -6.0])
    # what is said of the step in which it waits is nowhere in the first step's advantage
    values, following = values.at[1].add(7.0), following.at[0].add(7.0)
    again = advantages(rewards, values, following, never, never, **how)
    np.testing.assert_allclose(again[:, 0], [-1.25, -11.5, -6.0])


def test_what_counts_is_whether_one_acts_in_the_step_after() -> None:
    fields: dict[str, Any] = dict.fromkeys(Rollout._fields)
    seen = jnp.zeros((3, 2, 1))
    weight = jnp.float32([[1, 0], [0, 1], [1, 1]])
    rollout = Rollout(**fields | {"view": View(seen, weight=weight)})
    last = View(seen[0], weight=jnp.float32([0, 1]))
    np.testing.assert_array_equal(acting_next(rollout, last), [[0, 1], [1, 1], [0, 1]])
    assert acting_next(Rollout(**fields | {"view": View(seen)}), View(seen[0])) is None


def test_statistics_are_of_those_who_count() -> None:
    rng = np.random.default_rng(0)
    seen, weight = rng.normal(3, 2, (40, 3)), (rng.random(40) < 0.6).astype(np.float32)
    state = norm.init(3)
    for part in (slice(0, 15), slice(15, 40)):
        state = norm.update(state, jnp.float32(seen[part]), jnp.asarray(weight[part]))
    counted = seen[weight > 0]
    assert int(state.seen) == len(counted)
    np.testing.assert_allclose(state.mean.high, counted.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(norm.deviation(state), counted.std(axis=0), rtol=1e-5)
    nobody = norm.update(state, jnp.float32(seen), jnp.zeros(40))
    for a, b in zip(jax.tree.leaves(nobody), jax.tree.leaves(state), strict=True):
        np.testing.assert_array_equal(a, b)
    numbers = jnp.float32([1.0, 2.0, 30.0, 5.0])
    here = jnp.float32([1, 1, 0, 1])
    assert float(means.mean(numbers, here)) == pytest.approx(8 / 3)
    assert float(means.variance(numbers, here)) == pytest.approx(np.var([1, 2, 5]))
    assert float(means.mean(numbers, jnp.zeros(4))) == 0.0
    np.testing.assert_array_equal(means.summed(jnp.float32([1, 2, 4, 8, 16, 32]), 3), [7, 56])
    order = means.first_of(jnp.int32([3, 0, 2, 1]), here)
    np.testing.assert_array_equal(order, [3, 0, 1, 3])  # again from the front: 2 does not count


def begun(monkeypatch: pytest.MonkeyPatch, config: RunConfig, shared: bool = False) -> Any:
    """A loop, its state, and a rollout on it with what is there to learn from."""
    crew.install(monkeypatch, shared)
    loop, inputs = on_policy(config)
    state = jax.jit(loop.init)(inputs)
    envs, _, rollout = jax.jit(loop.collect)(state, KEY)
    learning, last = loop.learning, view_of(loop.env, envs)
    views = learning.see(state, flat(rollout.view))
    valued = learning.value(state, views, last, rollout)
    _, rewards = learning.rewards(state, rollout, jnp.int32(0))
    experience = learning.experience(state, views, valued, rollout, rewards)
    return loop, state, rollout, valued, experience


def test_health_is_measured_on_what_those_saw_who_acted(monkeypatch: pytest.MonkeyPatch) -> None:
    crew.install(monkeypatch)
    loop, inputs = on_policy(config_of("ippo"))

    def diagnose(state: Any, view: View, memories: Any) -> Any:
        assert view.weight is not None
        return {"counted": jnp.mean(view.weight), "seen": jnp.mean(view.observation[:, 1])}

    loop = loop._replace(agent=loop.agent._replace(diagnose=diagnose))
    _, row = jax.jit(loop.chunk)(jnp.int32(0), jax.jit(loop.init)(inputs))
    assert float(row["counted"]) == 1.0
    assert 0.0 < float(row["seen"]) < crew.LIMIT


@pytest.mark.parametrize("name", ["ippo", "mappo", "pqn_vdn"])
def test_the_dead_and_the_waiting_teach_nothing(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Whatever they saw, did or were promised; and those who act teach something."""
    loop, state, _, _, experience = begun(monkeypatch, config_of(name))
    weight = np.asarray(experience.view.weight)
    assert 0.1 < 1 - weight.mean() < 0.6
    update = jax.jit(loop.agent.update)

    def learned(where: np.ndarray) -> Any:
        def changed(x: Any) -> Any:
            mask = where.reshape(-1, *(1,) * (x.ndim - 1))
            return jnp.where(mask, x + jnp.ones_like(x), x) if x.dtype != bool else x

        view = experience.view._replace(observation=changed(experience.view.observation))
        if view.critic_observation is not None:
            view = view._replace(critic_observation=changed(view.critic_observation))
        other = experience._replace(
            view=view, advantage=changed(experience.advantage), log_prob=changed(experience.log_prob)
        )
        if name != "pqn_vdn":  # there targets are those of the team
            other = other._replace(value_target=changed(other.value_target))
        return jax.tree.leaves(update(state.agent, other, jnp.float32(0.1), KEY))

    plain = learned(np.zeros(len(weight), bool))
    for a, b in zip(plain, learned(weight == 0), strict=True):
        np.testing.assert_array_equal(a, b)
    living = learned(weight > 0)
    assert any(not np.array_equal(a, b) for a, b in zip(plain, living, strict=True))


def test_learning_from_those_who_count_is_learning_from_them_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = config_of("ippo", minibatches=1, epochs=1)
    loop, state, _, _, experience = begun(monkeypatch, config)
    there = np.flatnonzero(np.asarray(experience.view.weight))
    alone = jax.tree.map(lambda x: x[there], experience)
    alone = alone._replace(view=alone.view._replace(weight=None))
    update = jax.jit(loop.agent.update)
    both = [update(state.agent, e, jnp.float32(0.0), KEY) for e in (experience, alone)]
    for a, b in zip(*(jax.tree.leaves(x[0].networks) for x in both), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    for name, value in both[0][1].metrics.items():
        np.testing.assert_allclose(value, both[1][1].metrics[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_a_central_critic_values_the_state_of_the_team(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where time ran out: the true successor of the team, not what its agents see, nor the next."""
    loop, state, rollout, valued, _ = begun(monkeypatch, config_of("mappo"))
    networks = state.agent.networks
    assert networks["critic"]["trunk"]["dense_0"]["kernel"].shape[0] == loop.env.critic_size == 3
    assert networks["actor"]["trunk"]["dense_0"]["kernel"].shape[0] == 2
    value = loop.agent.value(state.agent)

    def says(central: Any) -> Any:
        view = view_of(loop.env, state.envs)
        seen = view._replace(critic_observation=jnp.broadcast_to(jnp.float32(central), (12, 3)))
        return float(value(loop.learning.see(state, seen), ())[0])

    truncated = np.asarray(rollout.truncated)
    assert truncated.any()
    for t, n in np.argwhere(truncated):
        secret = float(rollout.view.observation[t, n, 0]) // 10
        assert float(valued.successors[t, n]) == pytest.approx(
            says([10 * secret + 1, 10 * secret + 2, crew.LIMIT]), rel=1e-4
        )
    teams = np.asarray(valued.values).reshape(8, 4, 3)
    np.testing.assert_allclose(teams, teams[..., :1].repeat(3, axis=-1), rtol=1e-5)


def test_where_time_runs_out_only_what_is_allowed_there_has_a_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Values by action, the forbidden ones the largest; of the dead and the waiting 0."""
    loop, state, rollout, _, _ = begun(monkeypatch, config_of("pqn_vdn"))
    worth = jnp.float32([1.0, 2.0, 50.0])  # the last action is for even times, and time runs out at 4
    critic = jax.tree.map(jnp.zeros_like, state.agent.critic)
    critic["value"]["bias"] = worth
    state = state._replace(agent=state.agent._replace(critic=critic))
    env, legal = loop.env, crew.legal
    odd = dataclasses.replace(env, legal_actions=lambda s: legal(s._replace(time=s.time + 1)))
    for task, best in ((env, 50.0), (odd, 2.0)):
        other = loop._replace(env=task)
        envs, _, rollout = jax.jit(other.collect)(state, KEY)
        views = other.learning.see(state, flat(rollout.view))
        valued = other.learning.value(state, views, view_of(task, envs), rollout)
        found = np.asarray(valued.successors)[np.asarray(rollout.truncated)].reshape(-1, 3)
        assert len(found) > 1
        np.testing.assert_allclose(found, [[best, best, 0.0]] * len(found), rtol=1e-5)


def test_names_are_seen_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of("mappo", identify=True, normalise_observations=True)
    loop, state, rollout, _, _ = begun(monkeypatch, config)
    last = view_of(loop.env, state.envs)
    totals = loop.learning.learn(state, last, rollout, jnp.int32(0), KEY)[0]
    assert len(totals.normaliser.mean.high) == 2 + 3  # what agents see, and the critic, without names
    seen = loop.learning.see(totals, flat(rollout.view))
    np.testing.assert_array_equal(np.asarray(seen.observation)[:3, 2:], np.eye(3))
    np.testing.assert_array_equal(np.asarray(seen.critic_observation)[:3, 3:], np.eye(3))
    counted, shown = np.asarray(rollout.view.weight).reshape(-1) > 0, flat(rollout.view)
    pairs = (
        (shown.observation, seen.observation, 2),
        (shown.critic_observation, seen.critic_observation, 3),
    )
    for raw, found, size in pairs:  # each by its own statistics
        plain = np.asarray(raw)[:, :size]
        expected = (plain - plain[counted].mean(axis=0)) / plain[counted].std(axis=0)
        np.testing.assert_allclose(np.asarray(found)[:, :size], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("shared", [False, True])
def test_targets_of_a_team_are_its_own_returns(monkeypatch: pytest.MonkeyPatch, shared: bool) -> None:
    """λ-returns of the team's reward, in plain Python: a shared reward once, the dead worth nothing."""
    config = config_of("pqn_vdn", discount=0.9, gae_lambda=0.6)
    _, _, rollout, valued, experience = begun(monkeypatch, config, shared)
    found = np.asarray(experience.value_target).reshape(8, 4, 3).sum(axis=-1)
    shape = (8, 4, 3)
    reward = np.asarray(rollout.reward + rollout.shaping).reshape(shape)
    reward = reward.mean(axis=-1) if shared else reward.sum(axis=-1)
    after = np.asarray(valued.successors).reshape(shape).sum(axis=-1)
    over = [np.asarray(x).reshape(shape)[..., 0] for x in (rollout.terminated, rollout.truncated)]
    expected = np.zeros((8, 4))
    for e in range(4):
        following = None
        for t in reversed(range(8)):
            ahead = 0.0 if over[0][t, e] else after[t, e]
            if following is not None and not (over[0][t, e] or over[1][t, e]):
                ahead = 0.4 * after[t, e] + 0.6 * following
            following = reward[t, e] + 0.9 * ahead
            expected[t, e] = following
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    dead = np.asarray(rollout.view.weight) == 0
    np.testing.assert_array_equal(np.asarray(valued.values)[dead], 0.0)


def test_the_rollout_to_come_is_explored_as_far_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 4 rollouts the second was learned from, half is over: from 1 to 0.2 in 0.8 of the run."""
    config = config_of("pqn_vdn", final_exploration=0.2, exploration_share=0.8)
    loop, state, _, _, experience = begun(monkeypatch, config)
    assert loop.learning.iterations == 4
    after, _ = jax.jit(loop.agent.update)(state.agent, experience, jnp.float32(0.25), KEY)
    assert float(after.exploration) == pytest.approx(1.0 - 0.8 * 0.5 / 0.8)


def test_what_shapes_a_reward_fades() -> None:
    fields: dict[str, Any] = dict.fromkeys(Rollout._fields)
    rollout = Rollout(**fields | {"reward": jnp.float32([[1.0]]), "shaping": jnp.float32([[4.0]])})
    budget = {"source": "jaxmarl", "task": "crew"}
    for settings, at, expected in (
        ({}, 900, 5.0),
        ({"shaping": 0.0}, 0, 1.0),
        ({"shaping": 0.5}, 900, 3.0),
        ({"shaping": 0.5, "shaping_steps": 1000}, 0, 3.0),
        ({"shaping": 0.5, "shaping_steps": 1000}, 750, 1.5),
        ({"shaping": 0.5, "shaping_steps": 1000}, 4000, 1.0),
    ):
        asked: Any = budget | settings
        assert float(shaped(TeamConfig(**asked), rollout, at)[0, 0]) == pytest.approx(expected)


def test_shaping_fades_over_more_frames_than_int32_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """After 2³² of 2³³ frames half of it is left."""
    config = config_of("ippo")
    config = dataclasses.replace(config, env=dataclasses.replace(config.env, shaping_steps=2**33))  # type: ignore[arg-type]
    loop, state, rollout, _, _ = begun(monkeypatch, config)
    assert config.frames_per_round == 32
    _, rewards = loop.learning.rewards(state, rollout, jnp.int32(2**27))
    np.testing.assert_allclose(rewards, rollout.reward + 0.5 * rollout.shaping, rtol=1e-6)


@pytest.mark.parametrize(
    ("agent", "env", "message"),
    [
        ({"name": "ppo"}, {"source": "jaxmarl", "task": "crew"}, "which has a team; choose one of ippo"),
        (
            {"name": "ippo"},
            {"source": "gymnax", "task": "CartPole-v1"},
            "has one agent; choose one of ppo",
        ),
        ({"name": "sac"}, {"source": "jaxmarl", "task": "crew"}, "which has a team"),
    ],
)
def test_teams_and_others_are_told_apart(
    monkeypatch: pytest.MonkeyPatch, agent: Any, env: Any, message: str
) -> None:
    crew.install(monkeypatch)
    with pytest.raises(ConfigError, match=message):
        on_policy(run_config({"agent": agent, "env": env, "width": 8}))
