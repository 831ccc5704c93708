"""DDPG: the paper's equations by hand, and what it does not share with SAC."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import MakeConfig, batch_of, off_policy, places, static_parts

from sparse_rl.agents.ddpg import td_target, with_noise
from sparse_rl.diagnostics import global_norm
from sparse_rl.pruning import support_masks
from sparse_rl.settings.agents import DdpgConfig
from sparse_rl.settings.run import RunConfig, agent_settings, run_config

KEY = jax.random.key(0)
DDPG = {"name": "ddpg"}


@functools.cache
def start(config: RunConfig) -> tuple[Any, Any]:
    """The agent's functions and its state before the first update."""
    loop, inputs = off_policy(config)
    return loop.agent, jax.jit(loop.agent.init)(KEY, inputs)


def test_published_settings() -> None:
    """SYSTEMS: SimBa's DDPG on DM Control; SAC's settings, and noise instead of a temperature."""
    config = run_config({"agent": DDPG, "env": {"source": "gymnax", "task": "Pendulum-v1"}})
    agent = agent_settings(config, DdpgConfig)
    assert (agent.actor_width(512), agent.actor_blocks, agent.critic_blocks) == (128, 1, 2)
    assert (agent.learning_rate, agent.weight_decay, agent.batch_size) == (1e-4, 1e-2, 256)
    assert (agent.exploration_noise, agent.target_rate, agent.updates_per_interaction) == (0.1, 0.005, 2)
    assert "initial_temperature" not in vars(agent)


def test_noise_has_its_deviation_and_actions_stay_in_range() -> None:
    actions = np.asarray(with_noise(jnp.zeros((20_000, 1)), 0.1, KEY))
    assert actions.std() == pytest.approx(0.1, rel=0.02)
    assert actions.mean() == pytest.approx(0.0, abs=0.003)
    edge = np.asarray(with_noise(jnp.full((1000, 1), 0.95), 0.1, KEY))
    assert edge.max() == 1.0
    np.testing.assert_array_equal(with_noise(jnp.full((3, 1), 0.5), 0.0, KEY), 0.5)


@pytest.mark.parametrize(("twice", "expected"), [(False, 3.0), (True, -1.0)])
def test_td_target_stops_at_terminations_and_takes_the_smaller_of_two(
    make_config: MakeConfig, twice: bool, expected: float
) -> None:
    agent, state = start(make_config(agent=DDPG | {"clipped_double_q": twice}))
    target = jax.tree.map(jnp.zeros_like, state.target)
    for i, value in zip(target, (3.0, -1.0), strict=False):
        target[i]["value"]["bias"] = jnp.array([value])
    batch = batch_of(8)
    y = td_target(static_parts(agent), state._replace(target=target), batch, KEY)
    np.testing.assert_allclose(
        y, batch.reward + 0.975 * expected * (1 - batch.terminated), rtol=1e-5, atol=1e-6
    )


def test_only_exploration_is_noisy(make_config: MakeConfig) -> None:
    agent, state = start(make_config(agent=DDPG))
    seen = batch_of(5).observation
    best = agent.act_greedily(state, seen)
    assert (np.abs(best) <= 1).all()
    np.testing.assert_allclose(agent.act(state, seen, KEY), with_noise(best, 0.1, KEY))


@pytest.mark.parametrize("network", ["simba", "mlp"])
def test_a_pruned_weight_does_not_exist(make_config: MakeConfig, network: str) -> None:
    config = make_config(sparsity=0.8, agent=DDPG | {"network": network, "weight_decay": 0.1})
    agent, state = start(config)
    masks, update = support_masks(state.supports), jax.jit(agent.update)
    for i in range(5):
        state, metrics = update(state, batch_of(32, seed=i), jax.random.key(i))
        for name in ("actor", "critic"):
            adam = state.optimisers[name][0]
            for tree in (getattr(state, name), adam.mu, adam.nu):
                gone = places(masks[name], tree)
                assert gone.size > 0
                assert not gone.any()
            if i == 0:  # the first moment is 0.1 of the gradient that the optimiser saw
                norm = float(metrics[f"grad_norm/{name}"])
                assert norm == pytest.approx(float(global_norm(adam.mu)) / 0.1, rel=1e-4)
        assert not places(masks["critic"], state.target).any()
