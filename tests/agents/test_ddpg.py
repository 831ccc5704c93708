"""DDPG: what it does not share with SAC. Its updates are beside their reference in test_updates.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_rl.agents.ddpg import with_noise
from sparse_rl.settings.off_policy import DdpgConfig
from sparse_rl.settings.run import agent_settings, run_config

KEY = jax.random.key(0)
DDPG = {"name": "ddpg"}


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
