"""What agents share that choose among a few actions by the values of these: one network, Q(s, ·), and
actions that are now and then drawn at random."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from sparse_rl.agents import apart
from sparse_rl.agents.actions import mask_illegal
from sparse_rl.agents.apart import Network
from sparse_rl.agents.contract import (
    Experience,
    Learned,
    Memories,
    Metrics,
    OnPolicyAgent,
    RunInputs,
    View,
)
from sparse_rl.agents.pruned import Params, draw_pruned, feature_major, health, probed_of
from sparse_rl.agents.remembering import step, unrolled_values
from sparse_rl.envs import Spec
from sparse_rl.networks import (
    Critic,
    Memory,
    RecurrentCritic,
    Wiring,
    empty,
)
from sparse_rl.settings.common import ExploringConfig, sharing_of
from sparse_rl.settings.off_policy import MixingConfig
from sparse_rl.settings.on_policy import ChoosingConfig
from sparse_rl.settings.run import RunConfig, agent_settings


class Chooser(NamedTuple):
    """The static parts."""

    critic: Network
    observation_size: int
    memory_span: int | None
    """Steps that a memory lasts at first."""


def build(config: RunConfig, env: Spec) -> Chooser:
    """The network for one environment."""
    settings = config.agent
    assert isinstance(settings, ChoosingConfig | MixingConfig)
    shape, size = (settings.network, config.width, settings.critic_blocks), env.action_size
    seen = (feature_major(config)["critic"], env.picture)
    if settings.memory == "none":
        critic: Critic | RecurrentCritic = Critic(*shape, *seen, size, config.products)
    else:
        cell, units = settings.memory, settings.memory_width(config.width)
        critic = RecurrentCritic(*shape, cell, units, *seen, config.products, size)
    network = apart.grouped(critic, sharing_of(settings), env.kinds, config.sparsities["critic"])
    return Chooser(network, env.observation_size, settings.memory_span)


def wiring(chooser: Chooser) -> dict[str, Wiring]:
    """What the network's layers read."""
    return {"critic": apart.wiring_of_all(chooser.critic)}


def init(chooser: Chooser, config: RunConfig, key: Array, inputs: RunInputs) -> tuple[Params, Any]:
    """The network before the first update, pruned, and its supports."""

    def draw(key: Array) -> dict[str, Params]:
        return {"critic": initial_critic(chooser, key)}

    labels = {"critic": apart.labels(chooser.critic)}
    networks, supports = draw_pruned(config, wiring(chooser), draw, key, inputs, labels)
    return networks["critic"], supports["critic"]


def initial_critic(chooser: Chooser, key: Array) -> Params:
    """The network's dense parameters before it has learned anything."""
    seen = jnp.zeros((1, chooser.observation_size))
    return apart.initial(chooser.critic, key, seen, chooser.memory_span)


def optimiser(max_grad_norm: float, learning_rate: Any) -> optax.GradientTransformation:
    """RAdam behind a clip of the gradients' global norm, as public code of teams has it."""
    return optax.chain(optax.clip_by_global_norm(max_grad_norm), optax.radam(learning_rate))


def exploration(settings: ExploringConfig, progress: Array) -> Array:
    """ε: from 1 linearly to its final value, reached when ``exploration_share`` of the run is over."""
    way = jnp.minimum(progress / settings.exploration_share, 1.0)
    return 1.0 + (settings.final_exploration - 1.0) * way


def values_of(
    chooser: Chooser, params: Params, supports: Any
) -> Callable[[View, Memory], tuple[Array, Memory]]:
    """``(view, memory) → (Q(s, ·) [n, a], memory)``, far below all others where an action is not
    allowed."""
    made, supports = apart.ready(chooser.critic, params, supports)

    def values(view: View, memory: Memory) -> tuple[Array, Memory]:
        values, memory = step(chooser.critic, made, supports, memory, view.observation)
        return mask_illegal(values, view.legal), memory

    return values


def act(
    chooser: Chooser, params: Params, supports: Any, epsilon: Array
) -> Callable[[View, Memory, Array], tuple[Array, Array, Memory]]:
    """ε-greedy."""
    said = values_of(chooser, params, supports)

    def act(view: View, memory: Memory, key: Array) -> tuple[Array, Array, Memory]:
        key_explore, key_choice = jax.random.split(key)
        values, memory = said(view, memory)
        any_legal = jax.random.categorical(key_choice, mask_illegal(jnp.zeros_like(values), view.legal))
        explores = jax.random.bernoulli(key_explore, epsilon, any_legal.shape)
        action = jnp.where(explores, any_legal, jnp.argmax(values, axis=-1))
        return action, jnp.zeros(action.shape), memory  # densities are nobody's business here

    return act


def act_greedily(
    chooser: Chooser, params: Params, supports: Any
) -> Callable[[View, Memory], tuple[Array, Memory]]:
    """The action of the largest value."""
    said = values_of(chooser, params, supports)

    def act(view: View, memory: Memory) -> tuple[Array, Memory]:
        values, memory = said(view, memory)
        return jnp.argmax(values, axis=-1), memory

    return act


def largest(chooser: Chooser, params: Params, supports: Any) -> Callable[[View, Memory], Array]:
    """``(view, memory) → max_a Q(s, a) [n]``; 0 of an agent of a team that does not act."""
    said = values_of(chooser, params, supports)
    return lambda view, memory: counted(jnp.max(said(view, memory)[0], axis=-1), view)


def largest_of_rollout(
    chooser: Chooser, params: Params, supports: Any
) -> Callable[[View, Array, Memory], tuple[Array, Memory]]:
    """The same of every step of a rollout, ``[T, n]``, and the memory after each; this network has a
    memory of its own."""

    def values(view: View, first: Array, memory: Memory) -> tuple[Array, Memory]:
        seen = view.observation
        said, after = unrolled_values(chooser.critic, params, supports, seen, first, memory)
        legal = None if view.legal is None else view.legal.reshape(said.shape)
        best = jnp.max(mask_illegal(said, legal), axis=-1)
        return counted(best.reshape(-1), view).reshape(best.shape), after

    return values


def counted(values: Array, view: View) -> Array:
    """Values ``[n]``, 0 of those who do not count."""
    return values if view.weight is None else values * view.weight


def diagnose(
    chooser: Chooser, config: RunConfig, params: Params, supports: Any, view: View, memories: Memories
) -> Metrics:
    """Health of the network on a probe batch."""
    wanted, seen = config.diagnostics.samples(config.width), (memories.acting, view.observation)
    found = apart.probes(chooser.critic, params, supports, seen, view.weight, wanted)
    return health({"critic": probed_of(chooser.critic, found, params, supports)}, config.diagnostics)


def agent(
    chooser: Chooser,
    config: RunConfig,
    env: Spec,
    *,
    init: Callable[[Array, RunInputs], Any],
    goes_on_from: Callable[[Any], Params],
    update: Callable[[Any, Experience, Array, Array], tuple[Any, Learned]],
    epochs: int,
    minibatches: int,
    traffic: int,
) -> OnPolicyAgent:
    """An agent that chooses: the shared functions around its own. Its state has ``critic``, ``supports``
    and ``exploration``.

    Args:
        chooser, config, env: what it is built from.
        init, update: as of :class:`OnPolicyAgent`.
        goes_on_from: ``state → parameters`` whose largest value a return goes on from.
        epochs: how often an update goes through a rollout.
        minibatches: optimiser steps of each.
        traffic: reads and writes of each weight per optimiser step.
    """
    settings = agent_settings(config, ChoosingConfig)
    actors = env.agents * settings.num_envs
    samples = actors * settings.num_steps // minibatches
    return OnPolicyAgent(
        init=init,
        act=lambda state: act(chooser, state.critic, state.supports, state.exploration),
        act_greedily=lambda state: act_greedily(chooser, state.critic, state.supports),
        value=lambda state: largest(chooser, goes_on_from(state), state.supports),
        values=lambda state: largest_of_rollout(chooser, goes_on_from(state), state.supports),
        begin=lambda n: Memories(*(empty(apart.one_of(chooser.critic), n) for _ in range(2))),
        update=update,
        updates_per_rollout=epochs * minibatches,
        batch_size=samples,
        actors=actors,
        names=env.names,
        diagnose=lambda state, view, memories: diagnose(
            chooser, config, state.critic, state.supports, view, memories
        ),
        parameters=lambda state: {"critic": state.critic},
        supports=lambda state: {"critic": state.supports},
        passes={"critic": 3},
        traffic={"critic": traffic},
        wiring=wiring(chooser),
        samples=apart.shares("critic", chooser.critic, samples),
        together=apart.together(chooser.critic),
    )
