"""The on-policy core: rollouts, statistics, keys, and settings that do not fit."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import MakeConfig, off_policy, on_policy

from sparse_rl import envs
from sparse_rl.agents.choosing import exploration
from sparse_rl.agents.contract import View
from sparse_rl.envs import Env, Step, vector
from sparse_rl.experience import normaliser as norm
from sparse_rl.loops.explaining import explained_variance
from sparse_rl.loops.learning import iteration_keys
from sparse_rl.loops.rewards import RewardScale, take_rewards
from sparse_rl.loops.rollout import Behaviour, Rollout, collect, flat, successor_values, view_of
from sparse_rl.runs.pack import prepare_pack
from sparse_rl.settings.on_policy import DqnConfig
from sparse_rl.settings.run import agent_settings
from sparse_rl.settings.schema import ConfigError

KEY = jax.random.key(0)


def still(value: Any) -> Behaviour:
    """Actors that do nothing, with a value function that is given."""
    return Behaviour(
        see=lambda view: view,
        act=lambda view, _, key: (jnp.zeros((view.observation.shape[0], 1)), jnp.zeros(()), ()),
        value=lambda view, _: value(view.observation[:, 0]),
    )


def test_a_rollout_keeps_what_was_seen_and_the_value_at_which_time_ran_out() -> None:
    env = envs.make("probe", "truncation")  # five steps of reward 1, then truncated
    start = vector.reset(env, KEY, 2)._replace(elapsed=jnp.array([0, 3]))
    keys = jax.random.split(KEY, 6)
    *_, rollout = collect(env, still(lambda x: x + 7.0), start, (), keys, 1)
    np.testing.assert_array_equal(np.flatnonzero(rollout.truncated[:, 0]), [4])
    np.testing.assert_array_equal(np.flatnonzero(rollout.truncated[:, 1]), [1])
    np.testing.assert_array_equal(rollout.final_value, jnp.where(rollout.truncated, 7.0, 0.0))
    np.testing.assert_array_equal(rollout.episode_return[:, 0], [1, 2, 3, 4, 5, 1])


def test_the_final_observation_is_valued_and_not_the_one_after_the_reset() -> None:
    """``discount`` shows the time; cut at one step, its successor shows 1 and the reset shows 0."""
    env = envs.make("probe", "discount")
    start = vector.reset(env, KEY, 1)._replace(elapsed=jnp.array([1]))
    keys = jax.random.split(KEY, 1)
    *_, rollout = collect(env, still(lambda x: 10.0 * x), start, (), keys, 1)
    assert rollout.truncated.all()
    assert rollout.final_value is not None
    assert float(rollout.final_value[0, 0]) == 10.0


def test_final_values_are_those_of_a_plain_loop_however_often_time_runs_out() -> None:
    def draw(key: jax.Array, *_: Any) -> jax.Array:
        return jax.random.uniform(key, (1,))

    env = Env(
        name="noise",
        observation_size=1,
        action_size=1,
        episode_length=3,
        reset=lambda key: ((), draw(key)),
        step=lambda key, state, action: (state, Step(draw(key), jnp.float32(1), jnp.bool(False))),
    )
    start = vector.reset(env, KEY, 2)._replace(elapsed=jnp.array([0, 2]))
    keys = jax.random.split(KEY, 8)
    *_, rollout = collect(env, still(lambda x: x), start, (), keys, 2)
    now, expected = start, np.zeros((8, 2))
    for t, key in enumerate(keys):
        now, seen = vector.step(env, jax.random.split(key)[1], now, jnp.zeros((2, 1)), 2)
        expected[t] = jnp.where(seen.truncated, seen.next_observation[:, 0], 0.0)
    assert np.sum(expected != 0, axis=0).tolist() == [4, 4]
    assert rollout.final_value is not None
    np.testing.assert_allclose(np.asarray(rollout.final_value), expected, rtol=1e-6)


def test_successor_values_shift_and_make_way_for_final_ones() -> None:
    flags = jnp.array([[False, True], [False, False]])
    fields: dict[str, Any] = dict.fromkeys(Rollout._fields)
    rollout = Rollout(**fields | {"truncated": flags})
    values, last = jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([5.0, 6.0])
    found = successor_values(rollout, values, last, jnp.where(flags, 9.0, 0.0))
    np.testing.assert_array_equal(found, [[3.0, 9.0], [5.0, 6.0]])


def test_rewards_are_scaled_by_the_deviation_of_discounted_returns() -> None:
    """Two actors, two rollouts; the second ends an episode in between: a plain loop says the same."""
    rng = np.random.default_rng(0)
    scale = RewardScale(jnp.zeros(2), norm.init(1))
    running, seen = np.zeros(2), []
    for _ in range(2):
        reward = rng.normal(size=(5, 2)).astype(np.float32)
        done = np.zeros((5, 2), bool)
        done[2, 1] = True
        for t in range(5):
            running = 0.9 * running + reward[t]
            seen.append(running)
            running = np.where(done[t], 0.0, running)
        fields: dict[str, Any] = dict.fromkeys(Rollout._fields)
        fields |= {
            "view": View(jnp.asarray(reward)),
            "reward": reward,
            "terminated": jnp.asarray(done),
            "truncated": jnp.zeros((5, 2), bool),
        }
        scale = take_rewards(scale, Rollout(**fields), jnp.asarray(reward), 0.9)
    np.testing.assert_allclose(scale.running, running, rtol=1e-5)
    np.testing.assert_allclose(norm.deviation(scale.statistics), [np.std(seen)], rtol=1e-5)


@pytest.mark.parametrize("name", ["ppo", "paac"])
def test_the_policy_is_compared_with_itself_on_the_inputs_on_which_it_acted(
    make_config: MakeConfig, name: str
) -> None:
    """Before the first update every ratio is 1, also when statistics of observations move."""
    config = make_config(agent={"name": name, "normalise_observations": True})
    loop, inputs = on_policy(config)
    state = jax.jit(loop.init)(inputs)
    for i in range(2):
        envs_after, _, rollout = loop.collect(state, KEY)
        last, seen = view_of(loop.env, envs_after), loop.learning.see(state, flat(rollout.view))
        valued = loop.learning.value(state, seen, last, rollout)
        experience = loop.learning.experience(state, seen, valued, rollout, rollout.reward)
        mean, _ = loop.agent.act_greedily(state.agent)(experience.view, ())
        log_std = state.agent.networks["actor"]["log_std"]
        z = (experience.action - mean) / jnp.exp(log_std)
        expected = (-0.5 * z**2 - log_std - 0.5 * jnp.log(2 * jnp.pi)).sum(-1)
        np.testing.assert_allclose(experience.log_prob, expected, atol=1e-4)
        state, _, _ = jax.jit(loop.iterate)(state, jnp.int32(i))
    assert int(state.normaliser.seen) == 2 * loop.learning.samples_per_rollout


def test_normalised_observations_and_rewards_have_a_bound(make_config: MakeConfig) -> None:
    """Off-policy agents follow SimBa's code, which has none."""
    flags = {"normalise_observations": True, "normalise_rewards": True}
    loop, inputs = on_policy(make_config(agent={"name": "ppo", **flags}))
    state = jax.eval_shape(loop.init, inputs)
    statistics = norm.update(norm.init(3), jax.random.normal(KEY, (64, 3)))
    paid = norm.update(norm.init(1), jnp.tile(jnp.array([[0.0], [0.02]]), (5000, 1)))
    state = state._replace(normaliser=statistics, reward_scale=RewardScale(jnp.zeros(5), paid))
    seen = loop.learning.see(state, View(jnp.array([[1e4, 0.1, -99.0]]))).observation
    np.testing.assert_array_equal(seen[0, ::2], [10.0, -10.0])
    assert 0.0 < abs(float(seen[0, 1])) < 1.0
    fields: dict[str, Any] = dict.fromkeys(Rollout._fields)
    none = jnp.zeros((10, 5), bool)
    reward = jnp.zeros((10, 5)).at[0, 0].set(-7.0)
    fields |= {"view": View(reward), "reward": reward, "terminated": none, "truncated": none}
    scale, rewards = loop.learning.rewards(state, Rollout(**fields), jnp.int32(0))
    assert -7.0 / float(norm.deviation(scale.statistics)[0]) < -30.0
    assert float(rewards[0, 0]) == -10.0
    offline = off_policy(make_config())[0]
    assert float(offline.learning.see(statistics, jnp.array([[1e4, 0.0, 0.0]]))[0, 0]) > 1000.0


def test_explained_variance_by_hand_and_missing_where_nothing_varies() -> None:
    target = jnp.array([1.0, 3.0, 1.0, 3.0])  # variance 1
    assert float(explained_variance(target, target)) == 1.0
    assert float(explained_variance(jnp.zeros(4), target)) == 0.0
    assert float(explained_variance(-target, target)) == pytest.approx(1.0 - 4.0)
    for constant in (0.0, 5.0, 1e-6):
        flat_target = jnp.full(4, constant) * jnp.array([1.0, 1.0 + 1e-7, 1.0, 1.0 - 1e-7])
        assert np.isnan(explained_variance(jnp.zeros(4), flat_target))
        assert np.isnan(explained_variance(target, flat_target))
    small = 1e-5 * target  # variance 1e-10: little, but not nothing
    assert float(explained_variance(small, small)) == 1.0
    assert float(explained_variance(jnp.zeros(4), small)) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(("task", "defined"), [("constant", 0), ("observation", 1)])
def test_rollouts_whose_returns_are_constant_have_no_explained_variance(
    make_config: MakeConfig, task: str, defined: int
) -> None:
    """Of episodes of one step with reward 1, and with what was shown as the reward."""
    config = make_config(
        agent={"name": "dqn"},
        env={"source": "probe", "task": f"discrete_{task}"},
        log_every=50,
        env_steps=100,
    )
    loop, inputs = on_policy(config)
    state = jax.jit(loop.init)(inputs)
    state, totals, seen = jax.jit(loop.iterate)(state, jnp.int32(0))
    assert float(totals.explained) == defined
    assert np.isfinite(totals.explained_variance)
    # the rollout that comes next is number 1 of 2, of which half explore less and less
    expected = exploration(agent_settings(config, DqnConfig), jnp.float32(0.5))
    np.testing.assert_allclose(state.agent.exploration, expected)
    np.testing.assert_allclose(totals.learned.metrics["exploration"], 1.0)
    if not defined:
        assert np.isnan(loop.learning.row(state, totals, seen, jnp.int32(1))["explained_variance"])


def test_no_two_draws_of_an_iteration_share_a_key(make_config: MakeConfig) -> None:
    """Keys of the run, of two rollouts and of their updates."""
    loop, inputs = on_policy(make_config(agent={"name": "ppo"}))
    state = jax.jit(loop.init)(inputs)
    found = []
    for iteration in (0, 1):
        key_collect, key_learn = iteration_keys(state.key, iteration)
        found += [key_collect, key_learn]
        for key in jax.random.split(key_collect, loop.learning.settings.num_steps):
            for child in jax.random.split(key):
                found += [child, *jax.random.split(child)]
        found += [*jax.random.split(key_learn, 3)]
    assert len({tuple(np.asarray(jax.random.key_data(key)).tolist()) for key in found}) == len(found)


def test_a_critic_may_see_more_than_the_actor() -> None:
    one = View(jnp.zeros((2, 3)))
    assert one.for_critic() is one.observation
    more = View(jnp.zeros((2, 3)), critic_observation=jnp.ones((2, 5)))
    assert more.for_critic().shape == (2, 5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"agent": {"minibatches": 3}},
            r"agent.num_envs × agent.num_steps=50 must be a multiple of agent.minibatches \(= 3\)",
        ),
        (
            {"agent": {"minibatches": 50}},
            r"agent.minibatches=50: a minibatch of one sample has the advantage 0 .* give fewer, or",
        ),
        ({"agent": {"batch_size": 3}}, r"unknown key 'agent.batch_size'.*agent.minibatches"),
        ({"agent": {"clip_ratio": 0}}, r"agent.clip_ratio=0 is out of range; allowed: > 0"),
        ({"agent": {"gae_lambda": 1.1}}, r"agent.gae_lambda=1.1.*0 <= value <= 1"),
        ({"agent": {"target_kl": -1}}, r"agent.target_kl=-1 is out of range; allowed: > 0"),
        ({"agent": {"normalise_rewards": "yes"}}, r"agent.normalise_rewards='yes' is not allowed"),
    ],
)
def test_errors_name_the_key_and_what_is_allowed(
    make_config: MakeConfig, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_config(**changes | {"agent": {"name": "ppo"} | changes.get("agent", {})})


def test_an_unknown_agent_lists_the_known_ones(make_config: MakeConfig) -> None:
    with pytest.raises(
        ConfigError, match=r"agent.name='dreamer' .* one of sac, ddpg, drq, ppo, paac, dqn, azopg"
    ):
        make_config(agent={"name": "dreamer"})


@pytest.mark.parametrize(
    ("agent", "env", "message"),
    [
        ({}, {"task": "CartPole-v1"}, r"agent=sac needs continuous actions, and env=gymnax/CartPole-v1"),
        (
            {"name": "dqn"},
            {"task": "Pendulum-v1"},
            r"agent=dqn needs discrete actions, .*env=gymnax/P",
        ),
        (
            {"name": "ppo", "network": "minatar"},
            {"task": "CartPole-v1"},
            r"agent.network=minatar reads pictures, and env=gymnax/CartPole-v1 shows none",
        ),
        (
            {"name": "ppo", "network": "minatar"},
            {"source": "maze", "task": "5"},
            r"agent.network=minatar reads nothing but pictures, and env=maze/5 shows numbers beside its "
            "own; choose minigrid, mlp or simba",
        ),
        (
            {"name": "ppo", "network": "minigrid"},
            {"task": "CartPole-v1"},
            r"agent.network=minigrid reads pictures, and env=gymnax/CartPole-v1 shows none; choose mlp",
        ),
        (
            {"name": "paac", "network": "minigrid"},
            {"task": "Breakout-MinAtar"},
            r"agent.network=minigrid reads numbers beside a picture, and env=gymnax/Breakout-MinAtar "
            "shows none; choose minatar, mlp or simba",
        ),
    ],
)
def test_an_agent_that_does_not_fit_its_environment_is_refused_before_anything_starts(
    make_config: MakeConfig, agent: dict[str, Any], env: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        prepare_pack([make_config(agent=agent, env=env)])
