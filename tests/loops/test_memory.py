"""Agents that remember: what is carried, what is forgotten, and what is learned from."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import MakeConfig, on_policy, parts_of
from tides import install, tides

from sparse_rl.agents import View
from sparse_rl.agents.actor_critic import evaluate_actions
from sparse_rl.agents.apart import one_of
from sparse_rl.agents.choosing import build
from sparse_rl.envs import vector
from sparse_rl.experience import advantages
from sparse_rl.loops.evaluation import evaluate, evaluation_key
from sparse_rl.loops.learning import iteration_keys
from sparse_rl.loops.on_policy import OnPolicyLoop
from sparse_rl.loops.rollout import Rollout, first_steps, pieces
from sparse_rl.networks import forget
from sparse_rl.settings.schema import ConfigError

STEPS, ACTORS = 12, 3


def loop_of(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, **agent: Any) -> Any:
    """A loop in tides, a state as in the middle of a run, and a rollout from there."""
    install(monkeypatch, tides(discrete=agent.get("name") == "dqn"))
    given = {"name": "ppo", "num_envs": ACTORS, "num_steps": STEPS, "memory": "gru"} | agent
    rest = {} if given["name"] != "ppo" else {"minibatches": 3, "epochs": 2}
    config = make_config(
        agent=rest | given,
        env={"source": "probe", "task": "tides", "action_repeat": 2},
        env_steps=288,
        log_every=72,
        eval_every=72,
    )
    loop, inputs = on_policy(config)
    state = loop.init(inputs)
    random = np.random.default_rng(5)

    def moved(x: jax.Array) -> jax.Array:
        return x + jnp.asarray(random.normal(0.0, 0.3, x.shape), x.dtype)

    # as in the middle of a run: biases are not 0, the target is not the critic, something is remembered
    weights = {"target", "critic", "networks"} & set(state.agent._fields)
    agent = state.agent._replace(
        **{name: jax.tree.map(moved, getattr(state.agent, name)) for name in sorted(weights)}
    )
    state = state._replace(agent=agent, memory=jax.tree.map(moved, state.memory))
    envs, memory, rollout = jax.jit(loop.collect)(state, jax.random.key(7))
    return loop, state, (envs, memory, rollout)


def experience_of(loop: OnPolicyLoop, state: Any, envs: Any, rollout: Rollout) -> Any:
    learning, last = loop.learning, View(envs.observation)
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rollout.view)
    valued = learning.value(state, flat, last, rollout)
    _, rewards = learning.rewards(state, rollout, jnp.int32(0))
    return valued, learning.experience(state, flat, valued, rollout, rewards)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("length", [None, 4])
def test_what_was_just_collected_has_ratio_one(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, cell: str, length: int | None
) -> None:
    loop, state, (envs, _, rollout) = loop_of(
        make_config, monkeypatch, memory=cell, sequence_length=length
    )
    assert bool(rollout.terminated.any())
    assert bool(rollout.truncated.any())
    _, experience = experience_of(loop, state, envs, rollout)
    assert experience.action.shape == (ACTORS * STEPS // (length or STEPS), length or STEPS, 2)
    assert (
        float(jnp.abs(experience.memory.acting[0] if cell == "lstm" else experience.memory.acting).max())
        > 0
    )
    agent = state.agent
    now = evaluate_actions(parts_of(loop), agent.networks, agent.supports, experience)
    np.testing.assert_allclose(now.log_prob, experience.log_prob, atol=1e-6)
    np.testing.assert_allclose(now.value, experience.value, rtol=1e-5, atol=1e-5)


def replayed(loop: OnPolicyLoop, state: Any, rollout: Rollout, last: jax.Array) -> Any:
    """Values, and values of true successors, step by step in Python: ``[T, N]`` each."""
    agent, parts = state.agent, parts_of(loop)

    def critic(memory: Any, seen: jax.Array) -> Any:
        variables = {"params": agent.networks["critic"]}
        value, after = one_of(parts.critic).apply(variables, memory, seen)
        return value, after

    memory, values, following = state.memory.valuing, [], []
    ended = np.asarray(rollout.terminated | rollout.truncated)
    slots = np.cumsum(np.asarray(rollout.truncated), axis=0) - 1
    assert rollout.final_view is not None
    for t in range(STEPS):
        value, after = critic(memory, rollout.view.observation[t])
        seen = last if t == STEPS - 1 else rollout.view.observation[t + 1]
        final = rollout.final_view.observation[np.maximum(slots[t], 0), np.arange(ACTORS)]
        going, _ = critic(forget(after, jnp.asarray(ended[t])), seen)
        out_of_time, _ = critic(after, final)
        values.append(value)
        following.append(jnp.where(rollout.truncated[t], out_of_time, going))
        memory = forget(after, jnp.asarray(ended[t]))
    return jnp.stack(values), jnp.stack(following), memory


def test_values_are_those_of_the_steps_one_by_one_and_truncations_keep_their_memory(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, state, (envs, _, rollout) = loop_of(make_config, monkeypatch)
    valued, experience = experience_of(loop, state, envs, rollout)
    values, following, memory = replayed(loop, state, rollout, envs.observation)
    np.testing.assert_allclose(valued.values, values, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(valued.successors, following, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(valued.memory, memory, atol=1e-6)
    settings = loop.learning.settings
    expected = advantages(
        rollout.reward,
        values,
        following,
        rollout.terminated,
        rollout.truncated,
        discount=settings.discount,
        gae_lambda=settings.gae_lambda,
    )
    np.testing.assert_allclose(experience.advantage, expected.T, rtol=1e-4, atol=1e-3)


def test_memory_goes_to_zero_where_an_episode_begins_and_nowhere_else(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, state, (_, memory, rollout) = loop_of(make_config, monkeypatch)
    ended = np.asarray(rollout.terminated | rollout.truncated)
    held = np.abs(np.asarray(rollout.memory)).max(axis=-1)
    np.testing.assert_array_equal(held[0], np.abs(state.memory.acting).max(axis=-1))
    np.testing.assert_array_equal(held[1:] == 0.0, ended[:-1])
    np.testing.assert_array_equal(np.abs(memory).max(axis=-1) == 0.0, ended[-1])
    np.testing.assert_array_equal(first_steps(rollout)[1:], ended[:-1])
    assert not bool(first_steps(rollout)[0].any())


def test_a_rollout_goes_on_with_the_memory_of_the_one_before(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, state, _ = loop_of(make_config, monkeypatch, name="paac")
    key, _ = iteration_keys(state.key, 0)
    envs, memory, rollout = jax.jit(loop.collect)(state, key)
    valued, _ = experience_of(loop, state, envs, rollout)
    after, _, _ = jax.jit(loop.iterate)(state, jnp.int32(0))
    np.testing.assert_allclose(after.memory.acting, memory, atol=1e-6)
    np.testing.assert_allclose(after.memory.valuing, valued.memory, atol=1e-6)
    for held, before in zip(after.memory, state.memory, strict=True):
        assert float(jnp.abs(held).max()) > 0.01
        assert float(jnp.abs(held - before).min(axis=1).max()) > 1e-4


def test_pieces_are_steps_in_a_row_of_one_actor() -> None:
    steps = jnp.arange(12).reshape(6, 2)  # step t of actor n is 2t + n
    np.testing.assert_array_equal(pieces(steps, 3), [[0, 2, 4], [1, 3, 5], [6, 8, 10], [7, 9, 11]])


def test_dqn_s_target_remembers_by_itself(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, state, (envs, memory, rollout) = loop_of(make_config, monkeypatch, name="dqn")
    valued, experience = experience_of(loop, state, envs, rollout)
    critic = build(loop.config, loop.env).critic
    memory, expected = state.memory.valuing, []
    ended = rollout.terminated | rollout.truncated
    for t in range(STEPS):
        said, memory = one_of(critic).apply(
            {"params": state.agent.target}, memory, rollout.view.observation[t]
        )
        expected.append(said.max(axis=-1))
        memory = forget(memory, ended[t])
    np.testing.assert_allclose(valued.values, jnp.stack(expected), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(valued.memory, memory, atol=1e-6)
    np.testing.assert_array_equal(experience.memory.acting, rollout.memory[0])
    assert float(jnp.abs(valued.memory - loop.agent.begin(ACTORS).valuing).max()) > 0.0


def test_an_evaluation_carries_memory(make_config: MakeConfig) -> None:
    """A policy by hand that keeps the symbol shown before and says it: echo's return is 1."""
    from sparse_rl.envs import make

    config = make_config(
        agent={"name": "ppo"}, env={"source": "probe", "task": "echo", "eval_episodes": 5}
    )
    env = make("probe", "echo", delay=1)

    def act(envs: vector.VectorState, memory: jax.Array, key: Any) -> tuple[jax.Array, jax.Array]:
        return memory, jnp.argmax(envs.observation, axis=-1)

    key = evaluation_key(jax.random.key(3), 0)
    row = evaluate(config, env, act, key, jnp.zeros(5, jnp.int32))
    assert float(row["return_mean"]) == pytest.approx(1.0)
    assert float(row["return_std"]) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("agent", "told"),
    [
        ({"sequence_length": 5}, "is of networks that remember"),
        ({"memory_span": 9}, "is of networks that remember"),
        ({"memory_width_ratio": 0.5}, "is of networks that remember"),
        ({"memory": "gru", "num_steps": 12, "sequence_length": 5}, "must be a multiple of"),
        ({"memory": "gru", "num_envs": 5, "num_steps": 12, "minibatches": 4}, "agent.num_envs"),
        ({"memory": "rnn"}, "agent.memory='rnn' is not allowed"),
    ],
)
def test_what_does_not_fit_is_refused(make_config: MakeConfig, agent: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        make_config(agent={"name": "ppo"} | agent)
