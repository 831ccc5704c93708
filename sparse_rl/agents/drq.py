"""DrQ-v2 (Yarats et al. 2021, arXiv 2107.09645): deep deterministic policy gradient on pixels.

Pictures are shifted at random, an encoder is trained by the critic's loss only, targets take n steps,
the smaller of two critics counts, and exploration noise falls linearly. Each update: encoder and critic,
then the actor on what the encoder saw before, then the target critic; there is no target encoder.

The state counts its updates; how many interactions that is, so how large the noise, follows from it.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from sparse_rl.agents.contract import ADAM_TRAFFIC, TARGET_TRAFFIC, Metrics, OffPolicyAgent, RunInputs
from sparse_rl.agents.pruned import Params, Probed, draw_pruned, grad_norms, health
from sparse_rl.agents.stepping import begin_one, descend, together
from sparse_rl.envs import Spec
from sparse_rl.experience import NStep, frame_buffer, random_shift
from sparse_rl.networks import (
    Encoder,
    Picture,
    PixelActor,
    TwinCritic,
    Wiring,
    by_slices,
    drq_patch_bytes,
    slice_size,
    wiring_of,
)
from sparse_rl.pruning import apply
from sparse_rl.settings.off_policy import DrqConfig
from sparse_rl.settings.run import DiagnosticsConfig, RunConfig, agent_settings
from sparse_rl.settings.schema import ConfigError

NOISE_LIMIT = 1.0 - 1e-6
"""Actions with noise stay this far inside of [−1, 1], as in the public code."""


class DrqState(NamedTuple):
    """Everything DrQ carries from update to update."""

    actor: Params
    critic: Params
    encoder: Params
    target: Params
    """Of the critic."""
    optimisers: dict[str, optax.OptState]
    supports: dict[str, Any]
    """network → supports of its parameters; the target shares the critic's."""
    updates: Array
    """int32: made so far."""
    learning_rate: Array


class Drq(NamedTuple):
    """DrQ's static parts."""

    config: DrqConfig
    actor: PixelActor
    critic: TwinCritic
    encoder: Encoder
    picture: Picture
    steps_before: int
    """Env steps before the first update."""
    steps_per_update: float


def noise_scale(drq: Drq, updates: Array) -> Array:
    """Standard deviation of the noise, falling linearly with env steps (eq. 3): float32."""
    settings = drq.config
    steps = drq.steps_before + drq.steps_per_update * updates.astype(jnp.float32)
    over = jnp.minimum(steps / settings.noise_steps, 1.0)
    return (1.0 - over) * settings.initial_noise + over * settings.final_noise


def with_noise(action: Array, scale: Array, key: Array, clip: float | None = None) -> Array:
    """``a + clip(N(0, σ²), −c, c)``, kept in [−1, 1] but for its gradient: float32 ``[n, a]``."""
    noise = scale * jax.random.normal(key, action.shape)
    noisy = action + (noise if clip is None else jnp.clip(noise, -clip, clip))
    inside = jnp.clip(noisy, -NOISE_LIMIT, NOISE_LIMIT)
    return noisy + jax.lax.stop_gradient(inside - noisy)


def _encode(drq: Drq, state: DrqState, encoder: Params, pictures: Array) -> Array:
    """What the encoder makes of pictures: float32 ``[n, d]``."""

    def encode(pictures: Array) -> Array:
        return apply(drq.encoder, encoder, state.supports["encoder"], pictures)

    of_one = drq_patch_bytes(drq.encoder.kind, drq.encoder.channels, drq.encoder.picture)
    return by_slices(encode, pictures, slice_size(len(pictures), of_one))


def _policy(drq: Drq, state: DrqState, actor: Params, seen: Array) -> Array:
    return apply(drq.actor, actor, state.supports["actor"], seen)


def _values(drq: Drq, state: DrqState, critic: Params, seen: Array, action: Array) -> Array:
    return apply(drq.critic, critic, state.supports["critic"], seen, action)


def _wiring(drq: Drq) -> dict[str, Wiring]:
    return {name: wiring_of(getattr(drq, name)) for name in drq.config.NETWORKS}


def _init(drq: Drq, config: RunConfig, env: Spec, key: Array, inputs: RunInputs) -> DrqState:
    """The state before the first update."""
    pictures, action = jnp.zeros((1, env.observation_size), jnp.uint8), jnp.zeros((1, env.action_size))

    def initial(key: Array) -> dict[str, Params]:
        key_encoder, key_actor, key_critic = jax.random.split(key, 3)
        seen, encoder = drq.encoder.init_with_output(key_encoder, pictures)
        return {
            "actor": drq.actor.init(key_actor, seen)["params"],
            "critic": drq.critic.init(key_critic, seen, action)["params"],
            "encoder": encoder["params"],
        }

    pruned, supports = draw_pruned(config, _wiring(drq), initial, key, inputs)
    adam = optax.adam(inputs.learning_rate)
    return DrqState(
        **pruned,
        target=jax.tree.map(jnp.copy, pruned["critic"]),
        optimisers={name: begin_one(adam, name, params, inputs) for name, params in pruned.items()},
        supports=supports,
        updates=jnp.int32(0),
        learning_rate=jnp.asarray(inputs.learning_rate, jnp.float32),
    )


def _shifted(drq: Drq, observation: Array, key: Array) -> Array:
    """Pictures ``[n, h, w, c]``, shifted at random."""
    return random_shift(observation.reshape(-1, *drq.picture), key, drq.config.shift)


def td_target(drq: Drq, state: DrqState, batch: NStep, seen: Array, key: Array) -> Array:
    """Σ γ^i r + γ^k min Q'(s', a'), the last term 0 after a termination: float32 ``[n]`` (eq. 1).

    Args:
        drq, state: before the update.
        batch: n samples.
        seen: what the encoder makes of their ``next_observation``.
        key: of the noise.
    """
    action = _policy(drq, state, state.actor, seen)
    action = with_noise(action, noise_scale(drq, state.updates), key, drq.config.noise_clip)
    value = jnp.min(_values(drq, state, state.target, seen, action), axis=0)
    return batch.reward + batch.bootstrap * value


def _critic_loss(
    learned: dict[str, Params], drq: Drq, state: DrqState, pictures: Array, action: Array, target: Array
) -> tuple[Array, tuple[Array, Array]]:
    """Mean over the batch of Σ over critics of (Q − y)²; also the mean value, and what was seen."""
    seen = _encode(drq, state, learned["encoder"], pictures)
    values = _values(drq, state, learned["critic"], seen, action)
    loss = jnp.mean(jnp.sum(jnp.square(values - target), axis=0))
    return loss, (jnp.mean(values), seen)


def _actor_loss(actor: Params, drq: Drq, state: DrqState, seen: Array, key: Array) -> Array:
    """−E[min Q(s, a)] of the action with noise (eq. 2)."""
    action = _policy(drq, state, actor, seen)
    action = with_noise(action, noise_scale(drq, state.updates), key, drq.config.noise_clip)
    return -jnp.mean(jnp.min(_values(drq, state, state.critic, seen, action), axis=0))


def _update(drq: Drq, state: DrqState, batch: NStep, key: Array) -> tuple[DrqState, Metrics]:
    """One step of encoder and critic, one of the actor, one of the target's moving average."""
    key_now, key_next, key_target, key_actor = jax.random.split(key, 4)
    adam = optax.adam(state.learning_rate)
    pictures = _shifted(drq, batch.observation, key_now)
    after = _encode(drq, state, state.encoder, _shifted(drq, batch.next_observation, key_next))
    target = td_target(drq, state, batch, after, key_target)

    learned = {"critic": state.critic, "encoder": state.encoder}
    (critic_loss, (value, seen)), grads = jax.value_and_grad(_critic_loss, has_aux=True)(
        learned, drq, state, pictures, batch.action, target
    )
    changed, optimisers = {}, {}
    for name in learned:
        changed[name], optimisers[name] = descend(
            adam, together(grads[name]), state.optimisers[name], learned[name]
        )
    state = state._replace(**changed)

    seen = jax.lax.stop_gradient(seen)
    actor_loss, grads["actor"] = jax.value_and_grad(_actor_loss)(
        state.actor, drq, state, seen, key_actor
    )
    actor, optimisers["actor"] = descend(
        adam, together(grads["actor"]), state.optimisers["actor"], state.actor
    )
    metrics = {
        "loss/actor": actor_loss,
        "loss/critic": critic_loss,
        "value_mean": value,
        "exploration_noise": noise_scale(drq, state.updates),
        **grad_norms(grads),
    }
    return state._replace(
        actor=actor,
        target=optax.incremental_update(state.critic, state.target, drq.config.target_rate),
        optimisers=optimisers,
        updates=state.updates + 1,
    ), metrics


def _diagnose(drq: Drq, settings: DiagnosticsConfig, state: DrqState, batch: NStep) -> Metrics:
    """Health of the networks on a probe batch, its pictures as they are."""
    seen = _encode(drq, state, state.encoder, batch.observation)
    inputs = {"actor": (seen,), "critic": (seen, batch.action), "encoder": (batch.observation,)}
    networks = {"actor": drq.actor, "critic": drq.critic, "encoder": drq.encoder}
    probed = {
        name: Probed(
            networks[name], {"": getattr(state, name)}, {"": state.supports[name]}, inputs[name]
        )
        for name in networks
    }
    return health(probed, settings)


def _check_samples(config: RunConfig, env: Spec, random: int) -> None:
    """Raise :class:`ConfigError` if at some update no sample of n steps is held."""
    settings = agent_settings(config, DrqConfig)
    least = settings.n_steps + env.frames + 1
    if settings.replay_size < least * settings.num_envs:
        raise ConfigError(
            f"agent.replay_size={settings.replay_size} holds no {settings.n_steps} steps of each "
            f"environment; give at least {least} × agent.num_envs"
        )
    if random <= settings.n_steps:
        raise ConfigError(
            f"a run of {config.interactions:,} interactions begins with {random} random ones; agent=drq "
            f"needs more than agent.n_steps (= {settings.n_steps}): raise agent.random_interactions "
            "or env_steps"
        )


def build(config: RunConfig, env: Spec) -> Drq:
    """DrQ's static parts for one environment; ``config.width`` is the critic's, the others follow.

    Raises:
        ConfigError: the run is too short, or its replay buffer too small.
    """
    settings, picture = agent_settings(config, DrqConfig), env.picture
    assert picture is not None
    width, features = config.width, settings.feature_width(config.width)
    random = settings.random_of(config.interactions)
    _check_samples(config, env, random)
    return Drq(
        settings,
        PixelActor(settings.actor_width(width), features, env.action_size),
        TwinCritic(width, features),
        Encoder(settings.network, settings.encoder_width(width), picture),
        picture,
        random * config.frames_per_interaction,
        config.frames_per_interaction / settings.updates_per_interaction,
    )


def make(config: RunConfig, env: Spec) -> OffPolicyAgent:
    """Build DrQ for one environment that shows pictures."""
    drq = build(config, env)
    settings = drq.config

    def act_greedily(state: DrqState, observation: Array) -> Array:
        return _policy(drq, state, state.actor, _encode(drq, state, state.encoder, observation))

    def act(state: DrqState, observation: Array, key: Array) -> Array:
        return with_noise(act_greedily(state, observation), noise_scale(drq, state.updates), key)

    return OffPolicyAgent(
        init=functools.partial(_init, drq, config, env),
        act=act,
        act_greedily=act_greedily,
        update=jax.jit(functools.partial(_update, drq), inline=True),  # as in q_learner.py
        diagnose=functools.partial(_diagnose, drq, config.diagnostics),
        parameters=lambda state: {name: getattr(state, name) for name in settings.NETWORKS},
        supports=lambda state: state.supports,
        # encoder: the critic's loss (3) and the next pictures (1); actor and critic as DDPG's
        passes={"actor": 4, "critic": 6, "encoder": 4},
        traffic={
            "actor": ADAM_TRAFFIC,
            "critic": ADAM_TRAFFIC + TARGET_TRAFFIC,
            "encoder": ADAM_TRAFFIC,
        },
        wiring=_wiring(drq),
        buffer=functools.partial(
            frame_buffer, settings.n_steps, settings.discount, config.env.action_repeat
        ),
    )
