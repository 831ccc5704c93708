"""Proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347), with clipping.

Details as in Andrychowicz et al. 2021 (arXiv 2006.05990) and Huang et al. 2022 ("The 37 implementation
details"): separate networks, advantages normalised per minibatch, gradients clipped by their global
norm, Adam with ε = 1e-5.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from sparse_rl.agents import actor_critic
from sparse_rl.agents.actor_critic import ActorCritic, ActorCriticState, evaluate_actions, together
from sparse_rl.agents.batches import shuffled
from sparse_rl.agents.contract import ADAM_TRAFFIC, Experience, Learned, Metrics, OnPolicyAgent
from sparse_rl.agents.pruned import Params, grad_norms, scheduled
from sparse_rl.agents.stepping import descend
from sparse_rl.envs import Spec
from sparse_rl.experience import means
from sparse_rl.settings.on_policy import ClippedConfig
from sparse_rl.settings.run import RunConfig, agent_settings

ADAM_EPSILON = 1e-5
KL_MARGIN = 1.5
"""An update ends early above this multiple of ``target_kl``. The number is Spinning Up's; there the
policy alone stops, its KL is E[−log r] over the whole rollout, and the critic learns on. Here actor and
critic stop together at the first minibatch above it, whose step is not made."""


class Ppo(NamedTuple):
    """PPO's static parts."""

    config: ClippedConfig
    parts: ActorCritic


def clipped_objective(
    ratio: Array, advantage: Array, clip_ratio: float, weight: Array | None = None
) -> Array:
    """L^CLIP, to be maximised: E[min(r A, clip(r, 1 − ε, 1 + ε) A)] (eq. 7); float32 ``[n]`` each."""
    clipped = jnp.clip(ratio, 1.0 - clip_ratio, 1.0 + clip_ratio)
    return means.mean(jnp.minimum(ratio * advantage, clipped * advantage), weight)


def value_loss(
    value: Array, old: Array, target: Array, value_clip: float | None, weight: Array | None = None
) -> Array:
    """½ E[(V − V_target)²], or the larger of that and of the same with V no further from the old value
    than ``value_clip``; float32 ``[n]`` each.

    Eq. 9 has no ½, so its c₁ is half of ``value_coefficient``; the ½ is that of OpenAI's baselines."""
    error = jnp.square(value - target)
    if value_clip is not None:
        near = old + jnp.clip(value - old, -value_clip, value_clip)
        error = jnp.maximum(error, jnp.square(near - target))
    return 0.5 * means.mean(error, weight)


def approximate_kl(log_ratio: Array, weight: Array | None = None) -> Array:
    """KL(old ‖ new) from samples of the old policy: E[(r − 1) − log r] (Schulman 2020)."""
    return means.mean(jnp.expm1(log_ratio) - log_ratio, weight)


def _loss(
    ppo: Ppo, networks: dict[str, Params], supports: dict[str, Any], batch: Experience
) -> tuple[Array, Metrics]:
    """−L^CLIP + c₁ L^VF − c₂ S (eq. 9)."""
    settings, advantage, weight = ppo.config, batch.advantage, batch.view.weight
    if settings.normalise_advantages:
        centred = advantage - means.mean(advantage, weight)
        advantage = centred / (means.deviation(advantage, weight) + 1e-8)
    now = evaluate_actions(ppo.parts, networks, supports, batch)
    log_ratio = now.log_prob - batch.log_prob
    ratio = jnp.exp(log_ratio)
    actor_loss = -clipped_objective(ratio, advantage, settings.clip_ratio, weight)
    critic_loss = value_loss(now.value, batch.value, batch.value_target, settings.value_clip, weight)
    entropy = means.mean(now.entropy, weight)
    loss = actor_loss + settings.value_coefficient * critic_loss - settings.entropy_coefficient * entropy
    return loss, {
        "loss/actor": actor_loss,
        "loss/critic": critic_loss,
        "entropy": entropy,
        "value_mean": means.mean(now.value, weight),
        "approx_kl": approximate_kl(log_ratio, weight),
        "clip_fraction": means.mean(jnp.abs(ratio - 1.0) > settings.clip_ratio, weight),
    }


def _optimiser(ppo: Ppo, learning_rate: Any) -> optax.GradientTransformation:
    return optax.chain(
        optax.clip_by_global_norm(ppo.config.max_grad_norm),
        optax.adam(learning_rate, eps=ADAM_EPSILON),
    )


def _step(
    ppo: Ppo, state: ActorCriticState, batch: Experience, learning_rate: Array, stopped: Array
) -> tuple[ActorCriticState, Learned, Array]:
    """One optimiser step on a minibatch, or none once the policy has moved too far."""
    (_, metrics), grads = jax.value_and_grad(_loss, argnums=1, has_aux=True)(
        ppo, state.networks, state.supports, batch
    )
    networks, optimiser = descend(_optimiser(ppo, learning_rate), grads, state.optimiser, state.networks)
    after = state._replace(networks=networks, optimiser=optimiser)
    learned = Learned(metrics | grad_norms(grads), jnp.int32(1))
    if ppo.config.target_kl is None:
        return after, learned, stopped
    stopped |= metrics["approx_kl"] > KL_MARGIN * ppo.config.target_kl
    # Under vmap both sides of a branch are taken, so what must not happen is undone.
    kept = jax.tree.map(lambda old, new: jnp.where(stopped, old, new), state, after)
    made = jax.tree.map(lambda x: jnp.where(stopped, jnp.zeros_like(x), x), learned)
    return kept, made, stopped


def _update(
    ppo: Ppo, state: ActorCriticState, experience: Experience, progress: Array, key: Array
) -> tuple[ActorCriticState, Learned]:
    """Some epochs over the rollout, each in minibatches of its own order (Algorithm 1)."""
    learning_rate = scheduled(ppo.config, state.learning_rate, progress)

    def minibatch(carry: tuple[ActorCriticState, Array], batch: Experience) -> Any:
        state, stopped = carry
        state, learned, stopped = _step(ppo, state, batch, learning_rate, stopped)
        return (state, stopped), learned

    def epoch(carry: tuple[ActorCriticState, Array], key: Array) -> Any:
        batches = shuffled(experience, key, ppo.config.minibatches, together(ppo.parts))
        return jax.lax.scan(minibatch, carry, batches)

    start, keys = (state, jnp.bool(False)), jax.random.split(key, ppo.config.epochs)
    (state, _), learned = jax.lax.scan(epoch, start, keys)
    return state, jax.tree.map(jnp.sum, learned)


def make(config: RunConfig, env: Spec) -> OnPolicyAgent:
    """Build PPO for one environment; for a team IPPO (de Witt et al. 2020, arXiv 2011.09533), or MAPPO
    (Yu et al. 2022, arXiv 2103.01955) where the critic sees the whole team: agents are actors, and share
    their networks, or do not (:mod:`~sparse_rl.agents.apart`)."""
    settings = agent_settings(config, ClippedConfig)
    ppo = Ppo(settings, actor_critic.build(config, env))
    return actor_critic.agent(
        ppo.parts,
        config,
        functools.partial(_optimiser, ppo),
        functools.partial(_update, ppo),
        updates_per_rollout=settings.epochs * settings.minibatches,
        batch_size=env.agents * settings.num_envs * settings.num_steps // settings.minibatches,
        actors=env.agents * settings.num_envs,
        traffic=ADAM_TRAFFIC,
    )
