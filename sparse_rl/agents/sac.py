"""Soft actor-critic (Haarnoja et al. 2018, arXiv 1812.05905) with SimBa's settings.

Architecture, optimiser, temperature and update order follow Lee et al. 2024 (arXiv 2410.09754,
appendix) and Ma et al. 2025 (arXiv 2506.17204): AdamW; actor → temperature → critic → target; one
critic, or the smaller of two (clipped double Q, Fujimoto et al. 2018).
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from sparse_rl.agent_configs import SacConfig
from sparse_rl.agents.contract import (
    ADAM_TRAFFIC,
    TARGET_TRAFFIC,
    Metrics,
    OffPolicyAgent,
    RunInputs,
)
from sparse_rl.agents.pruned import Params, Probed, descend, draw_pruned, feature_major, health
from sparse_rl.agents.replay import Transition
from sparse_rl.config import DiagnosticsConfig, RunConfig, agent_settings
from sparse_rl.diagnostics import global_norm
from sparse_rl.envs import Env
from sparse_rl.networks import Critic, GaussianActor
from sparse_rl.pruning import apply, apply_weights, weights


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


class Sac(NamedTuple):
    """SAC's static parts."""

    config: SacConfig
    actor: GaussianActor
    critic: Critic
    discount: float
    target_entropy: float


def gamma_heuristic(interactions_per_episode: float) -> float:
    """γ = clip((L/5 − 1)/(L/5), 0.95, 0.995) for episodes of L interactions (TD-MPC2; SimBa, app.)."""
    fifth = interactions_per_episode / 5.0
    return min(max((fifth - 1.0) / fifth, 0.95), 0.995)


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


def _policy(sac: Sac, actor: Params, state: SacState, observation: Array) -> tuple[Array, Array]:
    """Mean and log standard deviation before tanh: 2 × ``[n, a]``."""
    return apply(sac.actor, actor, state.supports["actor"], observation)


def _values(
    sac: Sac, critics: dict[str, Params], state: SacState, observation: Array, action: Array
) -> Array:
    """Q of every critic, whose weights are ready for use: ``[critics, n]``."""
    pairs = ((made, state.supports["critic"][i]) for i, made in critics.items())
    return jnp.stack(
        [apply_weights(sac.critic, made, support, observation, action) for made, support in pairs]
    )


def _adamw(sac: Sac, learning_rate: Array) -> optax.GradientTransformation:
    return optax.adamw(learning_rate, weight_decay=sac.config.weight_decay)


def _init(
    sac: Sac, config: RunConfig, sizes: tuple[int, int], key: Array, inputs: RunInputs
) -> SacState:
    """Initialise, then prune: the weights depend on the seed alone, the masks on the mask seed."""
    observation, action = jnp.zeros((1, sizes[0])), jnp.zeros((1, sizes[1]))
    key_actor, key_critic = jax.random.split(key)
    actor = sac.actor.init(key_actor, observation)["params"]
    critic = {
        str(i): sac.critic.init(jax.random.fold_in(key_critic, i), observation, action)["params"]
        for i in range(2 if sac.config.clipped_double_q else 1)
    }
    pruned, supports = draw_pruned(config, {"actor": actor, "critic": critic}, inputs)
    log_temperature = jnp.log(jnp.float32(sac.config.initial_temperature))
    adamw = _adamw(sac, inputs.learning_rate)
    optimisers = {name: adamw.init(pruned[name]) for name in pruned}
    optimisers["temperature"] = optax.adam(inputs.learning_rate).init(log_temperature)
    target = jax.tree.map(jnp.copy, pruned["critic"])
    learning_rate = jnp.asarray(inputs.learning_rate, jnp.float32)
    return SacState(
        pruned["actor"], pruned["critic"], target, log_temperature, optimisers, supports, learning_rate
    )


def _actor_loss(
    sac: Sac, actor: Params, critic: Params, state: SacState, observation: Array, key: Array
) -> tuple[Array, Array]:
    """E[α log π(a|s) − min Q(s, a)], a ~ π (Haarnoja et al. 2018, eq. 7); also the entropy."""
    mean, log_std = _policy(sac, actor, state, observation)
    action, log_prob = sample_action(mean, log_std, key)
    value = jnp.min(_values(sac, critic, state, observation, action), axis=0)
    temperature = jnp.exp(state.log_temperature)
    return jnp.mean(temperature * log_prob - value), -jnp.mean(log_prob)


def _temperature_loss(log_temperature: Array, entropy: Array, target_entropy: float) -> Array:
    """α (H − H̄): the temperature falls while the entropy is above its target."""
    return jnp.exp(log_temperature) * (entropy - target_entropy)


def td_target(sac: Sac, state: SacState, batch: Transition, key: Array) -> Array:
    """r + γ (1 − terminated) (min Q'(s', a') − α log π(a'|s')): float32 ``[n]`` (eq. 3 and 5)."""
    mean, log_std = _policy(sac, state.actor, state, batch.next_observation)
    action, log_prob = sample_action(mean, log_std, key)
    target = weights(state.supports["critic"], state.target)
    value = jnp.min(_values(sac, target, state, batch.next_observation, action), axis=0)
    soft_value = value - jnp.exp(state.log_temperature) * log_prob
    return batch.reward + sac.discount * jnp.where(batch.terminated, 0.0, soft_value)


def _critic_loss(
    sac: Sac, critic: Params, state: SacState, batch: Transition, target: Array
) -> tuple[Array, Array]:
    """Mean over the batch of Σ over critics of (Q − y)²; also the mean value."""
    values = _values(sac, critic, state, batch.observation, batch.action)
    return jnp.mean(jnp.sum(jnp.square(values - target), axis=0)), jnp.mean(values)


def _update(sac: Sac, state: SacState, batch: Transition, key: Array) -> tuple[SacState, Metrics]:
    """One step: actor, then temperature, then critic, then target, each seeing what came before.

    Parameters start pruned and gradients come pruned, so moments, weight decay and the target's moving
    average have nothing to move at a pruned place.
    """
    key_actor, key_target = jax.random.split(key)
    adamw = _adamw(sac, state.learning_rate)
    optimisers = dict(state.optimisers)

    made, to_stored = jax.vjp(functools.partial(weights, state.supports["critic"]), state.critic)
    (actor_loss, entropy), grads = jax.value_and_grad(_actor_loss, argnums=1, has_aux=True)(
        sac, state.actor, made, state, batch.observation, key_actor
    )
    actor_norm = global_norm(grads)
    actor, optimisers["actor"] = descend(adamw, grads, optimisers["actor"], state.actor)
    state = state._replace(actor=actor)

    temperature_grad = jax.grad(_temperature_loss)(state.log_temperature, entropy, sac.target_entropy)
    log_temperature, optimisers["temperature"] = descend(
        optax.adam(state.learning_rate),
        temperature_grad,
        optimisers["temperature"],
        state.log_temperature,
    )
    state = state._replace(log_temperature=log_temperature)

    target = td_target(sac, state, batch, key_target)
    (critic_loss, value), grads = jax.value_and_grad(_critic_loss, argnums=1, has_aux=True)(
        sac, made, state, batch, target
    )
    (grads,) = to_stored(grads)
    critic_norm = global_norm(grads)
    critic, optimisers["critic"] = descend(adamw, grads, optimisers["critic"], state.critic)

    averaged = optax.incremental_update(critic, state.target, sac.config.target_rate)
    metrics = {
        "loss/actor": actor_loss,
        "loss/critic": critic_loss,
        "entropy": entropy,
        "temperature": jnp.exp(log_temperature),
        "value_mean": value,
        "grad_norm/actor": actor_norm,
        "grad_norm/critic": critic_norm,
    }
    return state._replace(critic=critic, target=averaged, optimisers=optimisers), metrics


def _diagnose(sac: Sac, state: SacState, batch: Transition, settings: DiagnosticsConfig) -> Metrics:
    """Health of the actor and the critics on a probe batch."""
    critics, supports = state.critic, state.supports["critic"]
    if len(critics) == 1:
        critics, supports = {"": critics["0"]}, {"": supports["0"]}
    seen, taken = batch.observation, batch.action
    actor = Probed(sac.actor, {"": state.actor}, {"": state.supports["actor"]}, (seen,))
    return health(
        {"actor": actor, "critic": Probed(sac.critic, critics, supports, (seen, taken))}, settings
    )


def make(config: RunConfig, env: Env) -> OffPolicyAgent:
    """Build SAC for one environment; ``config.width`` is the critic's, the actor's follows from it."""
    agent = agent_settings(config, SacConfig)
    discount = agent.discount
    if discount is None:
        discount = gamma_heuristic(env.episode_length / config.env.action_repeat)
    actor_width = agent.actor_width(config.width)
    by_blocks = feature_major(config)
    kind = agent.network
    sac = Sac(
        agent,
        GaussianActor(kind, actor_width, agent.actor_blocks, env.action_size, by_blocks["actor"]),
        Critic(kind, config.width, agent.critic_blocks, by_blocks["critic"]),
        discount,
        agent.target_entropy_per_action * env.action_size,
    )
    sizes = (env.observation_size, env.action_size)

    def act(state: SacState, observation: Array, key: Array) -> Array:
        return sample_action(*_policy(sac, state.actor, state, observation), key)[0]

    def act_greedily(state: SacState, observation: Array) -> Array:
        return jnp.tanh(_policy(sac, state.actor, state, observation)[0])

    return OffPolicyAgent(
        init=lambda key, inputs: _init(sac, config, sizes, key, inputs),
        act=act,
        act_greedily=act_greedily,
        update=lambda state, batch, key: _update(sac, state, batch, key),
        diagnose=lambda state, batch: _diagnose(sac, state, batch, config.diagnostics),
        parameters=lambda state: {"actor": state.actor, "critic": state.critic},
        supports=lambda state: state.supports,
        # actor: its loss (3) and the next action (1); critic: its loss (3), the target's value (1),
        # and under the actor's loss forward and back to the action (2)
        passes={"actor": 4, "critic": 6},
        traffic={"actor": ADAM_TRAFFIC, "critic": ADAM_TRAFFIC + TARGET_TRAFFIC},
    )
