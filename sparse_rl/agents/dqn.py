"""n-step deep Q-learning on parallel actors (Mnih et al. 2016, arXiv 1602.01783, Algorithm S2, in the
synchronous framework of Clemente et al. 2017, arXiv 1705.04862, §3).

DQN (Mnih et al. 2015) with many actors in place of a replay buffer: ε-greedy rollouts, n-step targets
that start from a target network's largest value, one update on each rollout. Off-policy and value-based,
on the loop that PPO and PAAC run on.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from sparse_rl.agents.actions import mask_illegal
from sparse_rl.agents.contract import (
    ADAM_TRAFFIC,
    TARGET_TRAFFIC,
    Experience,
    Learned,
    Memories,
    Metrics,
    OnPolicyAgent,
    RunInputs,
    View,
)
from sparse_rl.agents.pruned import (
    Params,
    Probed,
    descend,
    draw_pruned,
    feature_major,
    grad_norms,
    health,
    scheduled,
)
from sparse_rl.agents.remembering import over_pieces, step, unrolled_values
from sparse_rl.envs import Spec
from sparse_rl.networks import (
    Critic,
    Memory,
    RecurrentCritic,
    Wiring,
    empty,
    initial_params,
    inputs_of,
    wiring_of,
)
from sparse_rl.pruning import weights
from sparse_rl.settings.agents import DqnConfig
from sparse_rl.settings.run import RunConfig, agent_settings


class DqnState(NamedTuple):
    """Everything DQN carries from update to update."""

    critic: Params
    target: Params
    optimiser: optax.OptState
    supports: Any
    """Of the critic's parameters; the target shares them."""
    learning_rate: Array
    exploration: Array
    """float32: probability of a random action."""


class Dqn(NamedTuple):
    """DQN's static parts."""

    config: DqnConfig
    critic: Critic | RecurrentCritic
    observation_size: int
    rollouts: int
    """In the whole run."""


def exploration(settings: DqnConfig, progress: Array) -> Array:
    """ε: from 1 linearly to its final value, reached when ``exploration_share`` of the run is over."""
    way = jnp.minimum(progress / settings.exploration_share, 1.0)
    return 1.0 + (settings.final_exploration - 1.0) * way


def _optimiser(dqn: Dqn, learning_rate: Any) -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(dqn.config.max_grad_norm), optax.adam(learning_rate))


def _wiring(dqn: Dqn) -> dict[str, Wiring]:
    return {"critic": wiring_of(dqn.critic)}


def _init(dqn: Dqn, config: RunConfig, key: Array, inputs: RunInputs) -> DqnState:
    """The state before the first update."""

    def initial(key: Array) -> dict[str, Params]:
        seen = jnp.zeros((1, dqn.observation_size))
        return {"critic": initial_params(dqn.critic, key, seen, dqn.config.memory_span)}

    networks, supports = draw_pruned(config, _wiring(dqn), initial, key, inputs)
    critic, learning_rate = networks["critic"], jnp.asarray(inputs.learning_rate, jnp.float32)
    return DqnState(
        critic,
        jax.tree.map(jnp.copy, critic),
        _optimiser(dqn, learning_rate).init(critic),
        supports["critic"],
        learning_rate,
        jnp.float32(1.0),
    )


def _values_of(
    dqn: Dqn, params: Params, state: DqnState
) -> Callable[[View, Memory], tuple[Array, Memory]]:
    """``(view, memory) → (Q(s, ·) [n, a], memory)``, far below all others where an action is not
    allowed."""
    made = weights(state.supports, params)

    def values_of(view: View, memory: Memory) -> tuple[Array, Memory]:
        values, memory = step(dqn.critic, made, state.supports, memory, view.for_critic())
        return mask_illegal(values, view.legal), memory

    return values_of


def _act(dqn: Dqn, state: DqnState) -> Callable[[View, Memory, Array], tuple[Array, Array, Memory]]:
    """ε-greedy."""
    values_of = _values_of(dqn, state.critic, state)

    def act(view: View, memory: Memory, key: Array) -> tuple[Array, Array, Memory]:
        key_explore, key_choice = jax.random.split(key)
        values, memory = values_of(view, memory)
        any_legal = jax.random.categorical(key_choice, mask_illegal(jnp.zeros_like(values), view.legal))
        explores = jax.random.bernoulli(key_explore, state.exploration, any_legal.shape)
        action = jnp.where(explores, any_legal, jnp.argmax(values, axis=-1))
        return action, jnp.zeros(action.shape), memory  # densities are nobody's business here

    return act


def _act_greedily(dqn: Dqn, state: DqnState) -> Callable[[View, Memory], tuple[Array, Memory]]:
    values_of = _values_of(dqn, state.critic, state)

    def act(view: View, memory: Memory) -> tuple[Array, Memory]:
        values, memory = values_of(view, memory)
        return jnp.argmax(values, axis=-1), memory

    return act


def _value(dqn: Dqn, state: DqnState) -> Callable[[View, Memory], Array]:
    """max_a Q'(s, a): what an n-step return goes on from."""
    values_of = _values_of(dqn, state.target, state)
    return lambda view, memory: jnp.max(values_of(view, memory)[0], axis=-1)


def _values(dqn: Dqn, state: DqnState) -> Callable[[View, Array, Memory], tuple[Array, Memory]]:
    """The same of every step of a rollout; the target has a memory of its own."""

    def values(view: View, first: Array, memory: Memory) -> tuple[Array, Memory]:
        seen = view.for_critic()
        said, after = unrolled_values(dqn.critic, state.target, state.supports, seen, first, memory)
        legal = None if view.legal is None else view.legal.reshape(said.shape)
        return jnp.max(mask_illegal(said, legal), axis=-1), after

    return values


def _loss(dqn: Dqn, critic: Params, supports: Any, batch: Experience) -> tuple[Array, Metrics]:
    """½ E[(R − Q(s, a))²]."""
    memory, seen = batch.memory.acting, batch.view.for_critic()
    values = over_pieces(dqn.critic, critic, supports, memory, batch.first, seen)
    taken = jnp.take_along_axis(values, batch.action[..., None], axis=-1)[..., 0]
    loss = 0.5 * jnp.mean(jnp.square(taken - batch.value_target))
    return loss, {"loss/critic": loss, "value_mean": jnp.mean(taken)}


def _update(
    dqn: Dqn, state: DqnState, experience: Experience, progress: Array, key: Array
) -> tuple[DqnState, Learned]:
    """One optimiser step on the whole rollout, then one of the target's moving average."""
    del key  # nothing is drawn
    (_, metrics), grads = jax.value_and_grad(_loss, argnums=1, has_aux=True)(
        dqn, state.critic, state.supports, experience
    )
    optimiser = _optimiser(dqn, scheduled(dqn.config, state.learning_rate, progress))
    critic, moments = descend(optimiser, grads, state.optimiser, state.critic)
    metrics |= grad_norms({"critic": grads}) | {"exploration": state.exploration}
    after = state._replace(
        critic=critic,
        target=optax.incremental_update(critic, state.target, dqn.config.target_rate),
        optimiser=moments,
        exploration=exploration(dqn.config, progress + 1.0 / dqn.rollouts),  # of the rollout to come
    )
    return after, Learned(metrics, jnp.int32(1))


def _diagnose(dqn: Dqn, config: RunConfig, state: DqnState, view: View, memories: Memories) -> Metrics:
    """Health of the critic on a probe batch."""
    inputs = inputs_of(dqn.critic, memories.acting, view.for_critic())
    critic = Probed(dqn.critic, {"": state.critic}, {"": state.supports}, inputs)
    return health({"critic": critic}, config.diagnostics)


def make(config: RunConfig, env: Spec) -> OnPolicyAgent:
    """Build DQN for one environment."""
    settings, by_blocks = agent_settings(config, DqnConfig), feature_major(config)["critic"]
    shape, size = (settings.network, config.width, settings.critic_blocks), env.action_size
    seen = (by_blocks, env.picture)
    if settings.memory == "none":
        critic: Critic | RecurrentCritic = Critic(*shape, *seen, size, config.products)
    else:
        cell, units = settings.memory, settings.memory_width(config.width)
        critic = RecurrentCritic(*shape, cell, units, *seen, config.products, size)
    dqn = Dqn(settings, critic, env.observation_size, config.env_steps // config.frames_per_round)
    return OnPolicyAgent(
        init=functools.partial(_init, dqn, config),
        act=functools.partial(_act, dqn),
        act_greedily=functools.partial(_act_greedily, dqn),
        value=functools.partial(_value, dqn),
        values=functools.partial(_values, dqn),
        begin=lambda n: Memories(empty(critic, n), empty(critic, n)),
        update=functools.partial(_update, dqn),
        updates_per_rollout=1,
        batch_size=settings.num_envs * settings.num_steps,
        diagnose=functools.partial(_diagnose, dqn, config),
        parameters=lambda state: {"critic": state.critic},
        supports=lambda state: {"critic": state.supports},
        passes={"critic": 3},
        traffic={"critic": ADAM_TRAFFIC + TARGET_TRAFFIC},
        wiring=_wiring(dqn),
    )
