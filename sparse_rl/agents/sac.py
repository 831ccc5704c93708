"""Soft actor-critic (Haarnoja et al. 2018, arXiv 1812.05905) with SimBa's settings.

Temperature and update order follow Lee et al. 2024 (arXiv 2410.09754, appendix) and Ma et al. 2025
(arXiv 2506.17204): actor → temperature → critic → target, each seeing what came before.
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
from sparse_rl.agents.stepping import descend
from sparse_rl.envs import Spec
from sparse_rl.experience import Transition
from sparse_rl.networks import GaussianActor
from sparse_rl.settings.off_policy import SacConfig
from sparse_rl.settings.run import RunConfig, agent_settings

Sac = QLearner[SacConfig]
"""SAC's static parts."""


class SacState(NamedTuple):
    """Everything SAC carries from update to update."""

    actor: Params
    critic: dict[str, Params]
    """``{"0": …}`` or ``{"0": …, "1": …}``."""
    target: dict[str, Params]
    log_temperature: Array
    optimisers: dict[str, optax.OptState]
    supports: dict[str, Any]
    """network → supports of its parameters; the target shares the critic's."""
    learning_rate: Array


def sample_action(mean: Array, log_std: Array, key: Array) -> tuple[Array, Array]:
    """Draw tanh(N(mean, std)) and its log density.

    Args:
        mean, log_std: float32 ``[n, a]``.

    Returns:
        action float32 ``[n, a]`` and log π float32 ``[n]`` (Haarnoja et al. 2018, app. C, eq. 26,
        with log(1 − tanh²u) written as 2(log 2 − u − softplus(−2u))).
    """
    noise = jax.random.normal(key, mean.shape)
    u = mean + jnp.exp(log_std) * noise
    gaussian = -0.5 * jnp.square(noise) - log_std - 0.5 * jnp.log(2.0 * jnp.pi)
    squash = 2.0 * (jnp.log(2.0) - u - jax.nn.softplus(-2.0 * u))
    return jnp.tanh(u), jnp.sum(gaussian - squash, axis=-1)


def _init(sac: Sac, config: RunConfig, env: Spec, key: Array, inputs: RunInputs) -> SacState:
    fields = q_learner.init(sac, config, env, key, inputs)
    log_temperature = jnp.log(jnp.float32(sac.config.initial_temperature))
    fields["optimisers"]["temperature"] = optax.adam(inputs.learning_rate).init(log_temperature)
    return SacState(**fields, log_temperature=log_temperature)


def _actor_loss(
    sac: Sac, critic: Params, state: SacState, observation: Array, key: Array, actor: Params
) -> tuple[Array, Array]:
    """E[α log π(a|s) − min Q(s, a)], a ~ π (Haarnoja et al. 2018, eq. 7); also the entropy."""
    mean, log_std = policy(sac, actor, state, observation)
    action, log_prob = sample_action(mean, log_std, key)
    value = jnp.min(values(sac, critic, state, observation, action), axis=0)
    temperature = jnp.exp(state.log_temperature)
    return jnp.mean(temperature * log_prob - value), -jnp.mean(log_prob)


def _temperature_loss(log_temperature: Array, entropy: Array, target_entropy: float) -> Array:
    """α (H − H̄): the temperature falls while the entropy is above its target."""
    return jnp.exp(log_temperature) * (entropy - target_entropy)


def _step_temperature(sac: Sac, state: SacState, entropy: Array) -> SacState:
    """One optimiser step of the temperature, without weight decay."""
    target_entropy = sac.config.target_entropy_per_action * sac.actor.action_size
    grad = jax.grad(_temperature_loss)(state.log_temperature, entropy, target_entropy)
    adam, optimisers = optax.adam(state.learning_rate), dict(state.optimisers)
    log_temperature, optimisers["temperature"] = descend(
        adam, grad, optimisers["temperature"], state.log_temperature
    )
    return state._replace(log_temperature=log_temperature, optimisers=optimisers)


def td_target(sac: Sac, state: SacState, batch: Transition, key: Array) -> Array:
    """r + γ (1 − terminated) (min Q'(s', a') − α log π(a'|s')): float32 ``[n]`` (eq. 3 and 5)."""
    mean, log_std = policy(sac, state.actor, state, batch.next_observation)
    action, log_prob = sample_action(mean, log_std, key)
    value = target_value(sac, state, batch.next_observation, action)
    soft_value = value - jnp.exp(state.log_temperature) * log_prob
    return batch.reward + sac.discount * jnp.where(batch.terminated, 0.0, soft_value)


def _update(sac: Sac, state: SacState, batch: Transition, key: Array) -> tuple[SacState, Metrics]:
    """One step of the actor, then of the temperature, the critic and the target."""
    key_actor, key_target = jax.random.split(key)
    critics = q_learner.made_critics(state)
    loss = functools.partial(_actor_loss, sac, critics[0], state, batch.observation, key_actor)
    state, entropy, of_actor = q_learner.step_actor(sac, state, loss)
    state = _step_temperature(sac, state, entropy)
    target = td_target(sac, state, batch, key_target)
    state, of_critic = q_learner.step_critic(sac, state, critics, batch, target)
    temperature = jnp.exp(state.log_temperature)
    return state, of_actor | of_critic | {"entropy": entropy, "temperature": temperature}


def make(config: RunConfig, env: Spec) -> OffPolicyAgent:
    """Build SAC for one environment."""
    sac = q_learner.build(config, env, agent_settings(config, SacConfig), GaussianActor)

    def act(state: SacState, observation: Array, key: Array) -> Array:
        mean, log_std = policy(sac, state.actor, state, observation)
        return sample_action(mean, log_std, key)[0]

    def act_greedily(state: SacState, observation: Array) -> Array:
        return jnp.tanh(policy(sac, state.actor, state, observation)[0])

    return q_learner.agent(
        sac,
        config,
        init=functools.partial(_init, sac, config, env),
        act=act,
        act_greedily=act_greedily,
        update=functools.partial(_update, sac),
    )
