"""Deep deterministic policy gradient (Lillicrap et al. 2015, arXiv 1509.02971) with SimBa's settings.

As in SimBa's public DDPG (Lee et al. 2024, arXiv 2410.09754): Gaussian noise explores; the actions of
both losses carry it too, so that Q is smoothed over it (Fujimoto et al. 2018, §5.3); the next action is
the actor's, of which there is no slow copy; actor → critic → target. No temperature, no entropy.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from sparse_rl.agents import q_learner
from sparse_rl.agents.contract import Metrics, OffPolicyAgent, RunInputs
from sparse_rl.agents.pruned import Params
from sparse_rl.agents.q_learner import QLearner, policy, target_value, values
from sparse_rl.envs import Spec
from sparse_rl.experience import Transition
from sparse_rl.networks import DeterministicActor
from sparse_rl.settings.off_policy import DdpgConfig
from sparse_rl.settings.run import RunConfig, agent_settings

Ddpg = QLearner[DdpgConfig]
"""DDPG's static parts."""


class DdpgState(NamedTuple):
    """Everything DDPG carries from update to update."""

    actor: Params
    critic: dict[str, Params]
    """``{"0": …}`` or ``{"0": …, "1": …}``."""
    target: dict[str, Params]
    optimisers: dict[str, optax.OptState]
    supports: dict[str, Any]
    """network → supports of its parameters; the target shares the critic's."""
    learning_rate: Array


def with_noise(action: Array, scale: float, key: Array) -> Array:
    """``clip(a + N(0, scale²), −1, 1)``: float32 ``[n, a]``."""
    return jnp.clip(action + scale * jax.random.normal(key, action.shape), -1.0, 1.0)


def _explore(ddpg: Ddpg, actor: Params, state: DdpgState, observation: Array, key: Array) -> Array:
    """The actor's action with noise."""
    return with_noise(policy(ddpg, actor, state, observation), ddpg.config.exploration_noise, key)


def _init(ddpg: Ddpg, config: RunConfig, env: Spec, key: Array, inputs: RunInputs) -> DdpgState:
    return DdpgState(**q_learner.init(ddpg, config, env, key, inputs))


def _actor_loss(
    ddpg: Ddpg, critic: Params, state: DdpgState, observation: Array, key: Array, actor: Params
) -> tuple[Array, None]:
    """−E[min Q(s, μ(s) + noise)] (Lillicrap et al. 2015, eq. 6)."""
    action = _explore(ddpg, actor, state, observation, key)
    return -jnp.mean(jnp.min(values(ddpg, critic, state, observation, action), axis=0)), None


def td_target(ddpg: Ddpg, state: DdpgState, batch: Transition, key: Array) -> Array:
    """r + γ (1 − terminated) min Q'(s', μ(s') + noise): float32 ``[n]`` (eq. 5)."""
    action = _explore(ddpg, state.actor, state, batch.next_observation, key)
    value = target_value(ddpg, state, batch.next_observation, action)
    return batch.reward + ddpg.discount * jnp.where(batch.terminated, 0.0, value)


def _update(ddpg: Ddpg, state: DdpgState, batch: Transition, key: Array) -> tuple[DdpgState, Metrics]:
    """One step of the actor, then of the critic and the target."""
    key_actor, key_target = jax.random.split(key)
    critics = q_learner.made_critics(state)
    loss = functools.partial(_actor_loss, ddpg, critics[0], state, batch.observation, key_actor)
    state, _, of_actor = q_learner.step_actor(ddpg, state, loss)
    target = td_target(ddpg, state, batch, key_target)
    state, of_critic = q_learner.step_critic(ddpg, state, critics, batch, target)
    return state, of_actor | of_critic


def make(config: RunConfig, env: Spec) -> OffPolicyAgent:
    """Build DDPG for one environment."""
    ddpg = q_learner.build(config, env, agent_settings(config, DdpgConfig), DeterministicActor)

    def act(state: DdpgState, observation: Array, key: Array) -> Array:
        return _explore(ddpg, state.actor, state, observation, key)

    def act_greedily(state: DdpgState, observation: Array) -> Array:
        return policy(ddpg, state.actor, state, observation)

    return q_learner.agent(
        ddpg,
        config,
        init=functools.partial(_init, ddpg, config, env),
        act=act,
        act_greedily=act_greedily,
        update=functools.partial(_update, ddpg),
    )
