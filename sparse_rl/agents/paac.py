"""PAAC, the parallel advantage actor-critic (Clemente et al. 2017, arXiv 1705.04862).

Many actors in lockstep, one copy of the parameters, one synchronous update on num_envs · num_steps
samples with n-step advantages (Algorithm 1); A2C by another name. Here actor and critic are separate
networks, as everywhere in this package, so that each has a width and a sparsity.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from sparse_rl.agents import actor_critic
from sparse_rl.agents.actor_critic import ActorCritic, ActorCriticState, evaluate_actions
from sparse_rl.agents.contract import RMSPROP_TRAFFIC, Experience, Learned, Metrics, OnPolicyAgent
from sparse_rl.agents.pruned import Params, grad_norms, scheduled
from sparse_rl.agents.stepping import descend
from sparse_rl.envs import Spec
from sparse_rl.settings.on_policy import PaacConfig
from sparse_rl.settings.run import RunConfig, agent_settings


class Paac(NamedTuple):
    """PAAC's static parts."""

    config: PaacConfig
    parts: ActorCritic


def _loss(
    paac: Paac, networks: dict[str, Params], supports: dict[str, Any], batch: Experience
) -> tuple[Array, Metrics]:
    """−E[A log π(a|s)] − β E[H(π)] (eq. 10), and c · ½ E[(R − V)²] (eq. 11)."""
    now = evaluate_actions(paac.parts, networks, supports, batch)
    actor_loss = -jnp.mean(batch.advantage * now.log_prob)
    critic_loss = 0.5 * jnp.mean(jnp.square(now.value - batch.value_target))
    entropy = jnp.mean(now.entropy)
    settings = paac.config
    loss = actor_loss + settings.value_coefficient * critic_loss - settings.entropy_coefficient * entropy
    return settings.loss_scale * loss, {
        "loss/actor": actor_loss,
        "loss/critic": critic_loss,
        "entropy": entropy,
        "value_mean": jnp.mean(now.value),
    }


def _optimiser(paac: Paac, learning_rate: Any) -> optax.GradientTransformation:
    """RMSProp whose ε stands inside the root and whose accumulator starts at 1, as in TensorFlow."""
    settings = paac.config
    rmsprop = optax.rmsprop(
        learning_rate,
        decay=settings.rmsprop_decay,
        eps=settings.rmsprop_epsilon,
        initial_scale=1.0,
        eps_in_sqrt=True,
    )
    return optax.chain(optax.clip_by_global_norm(settings.max_grad_norm), rmsprop)


def _update(
    paac: Paac, state: ActorCriticState, experience: Experience, progress: Array, key: Array
) -> tuple[ActorCriticState, Learned]:
    """One optimiser step on the whole rollout."""
    del key  # nothing is drawn
    (_, metrics), grads = jax.value_and_grad(_loss, argnums=1, has_aux=True)(
        paac, state.networks, state.supports, experience
    )
    optimiser = _optimiser(paac, scheduled(paac.config, state.learning_rate, progress))
    networks, moments = descend(optimiser, grads, state.optimiser, state.networks)
    learned = Learned(metrics | grad_norms(grads), jnp.int32(1))
    return state._replace(networks=networks, optimiser=moments), learned


def make(config: RunConfig, env: Spec) -> OnPolicyAgent:
    """Build PAAC for one environment."""
    settings = agent_settings(config, PaacConfig)
    paac = Paac(settings, actor_critic.build(config, env))
    return actor_critic.agent(
        paac.parts,
        config,
        functools.partial(_optimiser, paac),
        functools.partial(_update, paac),
        updates_per_rollout=1,
        batch_size=settings.num_envs * settings.num_steps,
        actors=settings.num_envs,
        traffic=RMSPROP_TRAFFIC,
    )
