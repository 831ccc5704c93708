"""What on-policy agents share: an actor and a critic, each with its width, and one optimiser."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from sparse_rl.agents import apart
from sparse_rl.agents.actions import Actions, actions_of, mask_illegal
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
from sparse_rl.agents.remembering import over_pieces, step, unrolled_values
from sparse_rl.agents.stepping import begin
from sparse_rl.envs import Spec, TeamEnv
from sparse_rl.networks import (
    Critic,
    Memory,
    Policy,
    RecurrentCritic,
    RecurrentPolicy,
    Wiring,
    empty,
)
from sparse_rl.settings.common import sharing_of
from sparse_rl.settings.on_policy import ActorCriticConfig
from sparse_rl.settings.run import RunConfig, agent_settings

StandsIn = Literal["itself", "team", "nobody"]
MakeOptimiser = Callable[[Any], optax.GradientTransformation]
"""Learning rate (may be traced) → optimiser of both networks."""


class ActorCritic(NamedTuple):
    """The static parts."""

    actor: Network
    critic: Network
    actions: Actions
    observation_size: int
    critic_size: int
    """Numbers that the critic sees."""
    names: int
    """As of :class:`~sparse_rl.envs.Spec`."""
    agents: int = 1
    """Of a team."""
    stands_in: StandsIn = "itself"
    """Whose value a return goes on from where an agent does not act."""


class ActorCriticState(NamedTuple):
    """Everything an on-policy agent carries from update to update."""

    networks: dict[str, Params]
    """``actor`` and ``critic``."""
    optimiser: optax.OptState
    """Of both."""
    supports: dict[str, Any]
    """network → supports of its parameters."""
    learning_rate: Array


class Outputs(NamedTuple):
    """What the networks say about n samples."""

    log_prob: Array
    """float32 ``[n]``, or ``[n, C]`` of pieces: of the actions that were taken."""
    entropy: Array
    """float32 ``[n]``."""
    value: Array
    """float32 ``[n]``."""


def build(config: RunConfig, env: Spec) -> ActorCritic:
    """Networks for one environment; ``config.width`` is the critic's, the actor's follows from it."""
    settings = agent_settings(config, ActorCriticConfig)
    by_blocks, kind = feature_major(config), settings.network
    width = settings.actor_width(config.width)
    actor, critic = settings.actor_blocks, settings.critic_blocks
    seen, last = (env.picture, config.products), (env.action_size, not env.discrete)
    networks: tuple[Policy | RecurrentPolicy, Critic | RecurrentCritic]
    if settings.memory == "none":
        networks = (
            Policy(kind, width, actor, *last, by_blocks["actor"], *seen),
            Critic(kind, config.width, critic, by_blocks["critic"], env.picture, None, config.products),
        )
    else:
        cell, units = settings.memory, settings.memory_width
        networks = (
            RecurrentPolicy(kind, width, actor, cell, units(width), by_blocks["actor"], *seen, *last),
            RecurrentCritic(
                kind, config.width, critic, cell, units(config.width), by_blocks["critic"], *seen
            ),
        )
    sees = (env.observation_size, env.observation_size if env.critic_size is None else env.critic_size)
    actor_of, critic_of = (
        apart.grouped(network, sharing_of(config.agent), env.kinds, config.sparsities[name])
        for name, network in zip(("actor", "critic"), networks, strict=True)
    )
    return ActorCritic(
        actor_of, critic_of, actions_of(env), *sees, env.names, env.agents, _stands_in(env)
    )


def _stands_in(env: Spec) -> StandsIn:
    """Whose value a return goes on from, at a rollout's end or where time ran out, for an agent that is
    dead or waits there: its own critic never learned of such observations.

    Where a team has one reward, what is to come is the same for all: those who act know it. Where each
    has its own, the dead earn nothing more; of who waits for a reward of its own, nobody else knows. A
    central critic has learned of the state from those who act.
    """
    if not isinstance(env, TeamEnv) or not env.some_idle or env.critic_size is not None:
        return "itself"
    if env.shared_reward:
        return "team"
    return "itself" if env.turns else "nobody"


def stood_in(parts: ActorCritic, values: Array, view: View) -> Array:
    """Values that returns go on from, float32 ``[n]``, teams together: of an agent that does not act,
    the mean of those of its team who do, or 0.

    Args:
        parts: who stands in.
        values: what the critic says of each agent.
        view: who acts.
    """
    if view.weight is None or parts.stands_in == "itself":
        return values
    acts, said = (x.reshape(-1, parts.agents) for x in (view.weight, values))
    of_others = jnp.zeros((len(said), 1))
    if parts.stands_in == "team":
        acting = jnp.maximum(jnp.sum(acts, axis=1, keepdims=True), 1.0)
        of_others = jnp.sum(said * acts, axis=1, keepdims=True) / acting
    return jnp.where(acts > 0, said, of_others).reshape(-1)


def together(parts: ActorCritic) -> int:
    """Samples in a row that must stay together."""
    return apart.together(parts.actor, parts.critic)


def _wiring(parts: ActorCritic) -> dict[str, Wiring]:
    return {"actor": apart.wiring_of_all(parts.actor), "critic": apart.wiring_of_all(parts.critic)}


def uniform_layers(params: Params, key: Array) -> Params:
    """The same layers with weights and biases drawn within ±1/√inputs, as PAAC's public code has them.

    Args:
        params: flax parameters; a layer is what has a ``kernel`` ``[inputs, units]``.
        key: of the draws.
    """
    if "kernel" in params:
        bound, keys = params["kernel"].shape[0] ** -0.5, jax.random.split(key, len(params))
        return {
            name: jax.random.uniform(own, leaf.shape, leaf.dtype, -bound, bound)
            for own, (name, leaf) in zip(keys, sorted(params.items()), strict=True)
        }
    return {
        name: uniform_layers(part, jax.random.fold_in(key, i)) if isinstance(part, Mapping) else part
        for i, (name, part) in enumerate(sorted(params.items()))
    }


def _init(
    parts: ActorCritic, config: RunConfig, optimiser: MakeOptimiser, key: Array, inputs: RunInputs
) -> ActorCriticState:
    """The state before the first update."""
    seen = {"actor": parts.observation_size, "critic": parts.critic_size}
    settings = agent_settings(config, ActorCriticConfig)

    def draw(key: Array) -> dict[str, Params]:
        key_actor, key_critic = jax.random.split(key)
        keys = {"actor": key_actor, "critic": key_critic}
        drawn = {
            name: apart.initial(
                getattr(parts, name), own, jnp.zeros((1, seen[name])), settings.memory_span
            )
            for name, own in keys.items()
        }
        return uniform_layers(drawn, key) if settings.initialisation == "uniform" else drawn

    labels = {name: apart.labels(getattr(parts, name)) for name in seen}
    networks, supports = draw_pruned(config, _wiring(parts), draw, key, inputs, labels)
    learning_rate = jnp.asarray(inputs.learning_rate, jnp.float32)
    moments = begin(optimiser(learning_rate), networks, inputs)
    return ActorCriticState(networks, moments, supports, learning_rate)


def evaluate_actions(
    parts: ActorCritic, networks: dict[str, Params], supports: dict[str, Any], experience: Experience
) -> Outputs:
    """Density of the actions that were taken, entropy of the policy, and values; differentiable."""
    view, memory, first = experience.view, experience.memory, experience.first

    def says(name: str, memory: Memory, seen: Array) -> Any:
        network = getattr(parts, name)
        return over_pieces(network, networks[name], supports[name], memory, first, seen)

    policy = mask_illegal(says("actor", memory.acting, view.observation), view.legal)
    return Outputs(
        parts.actions.log_prob(policy, experience.action),
        parts.actions.entropy(policy),
        says("critic", memory.valuing, view.for_critic()),
    )


def _policy_of(
    parts: ActorCritic, state: ActorCriticState
) -> Callable[[View, Memory], tuple[Any, Memory]]:
    """``(view, memory) → (policy, memory)``, the weights made ready once."""
    made, supports = apart.ready(parts.actor, state.networks["actor"], state.supports["actor"])

    def policy_of(view: View, memory: Memory) -> tuple[Any, Memory]:
        policy, memory = step(parts.actor, made, supports, memory, view.observation)
        return mask_illegal(policy, view.legal), memory

    return policy_of


def _act(
    parts: ActorCritic, state: ActorCriticState
) -> Callable[[View, Memory, Array], tuple[Array, Array, Memory]]:
    policy_of, actions = _policy_of(parts, state), parts.actions

    def act(view: View, memory: Memory, key: Array) -> tuple[Array, Array, Memory]:
        policy, memory = policy_of(view, memory)
        action = actions.sample(policy, key)
        return action, actions.log_prob(policy, action), memory

    return act


def _act_greedily(
    parts: ActorCritic, state: ActorCriticState
) -> Callable[[View, Memory], tuple[Array, Memory]]:
    policy_of = _policy_of(parts, state)

    def act(view: View, memory: Memory) -> tuple[Array, Memory]:
        policy, memory = policy_of(view, memory)
        return parts.actions.mode(policy), memory

    return act


def _value(parts: ActorCritic, state: ActorCriticState) -> Callable[[View, Memory], Array]:
    made, supports = apart.ready(parts.critic, state.networks["critic"], state.supports["critic"])

    def value(view: View, memory: Memory) -> Array:
        said = step(parts.critic, made, supports, memory, view.for_critic())[0]
        return stood_in(parts, said, view)

    return value


def _values(
    parts: ActorCritic, state: ActorCriticState
) -> Callable[[View, Array, Memory], tuple[Array, Memory]]:
    params, supports = state.networks["critic"], state.supports["critic"]
    return lambda view, first, memory: unrolled_values(
        parts.critic, params, supports, view.for_critic(), first, memory
    )


def _diagnose(
    parts: ActorCritic, config: RunConfig, state: ActorCriticState, view: View, memories: Memories
) -> Metrics:
    """Health of both networks on a probe batch."""
    wanted = config.diagnostics.samples(config.width)
    seen = {
        "actor": (memories.acting, view.observation),
        "critic": (memories.valuing, view.for_critic()),
    }
    probed = {}
    for name, inputs in seen.items():
        network = getattr(parts, name)
        if together(parts) > 1 and apart.together(network) == 1:  # then all samples are here
            inputs = apart.first_of(inputs, view.weight, wanted)
        found = apart.probes(
            network, state.networks[name], state.supports[name], inputs, view.weight, wanted
        )
        probed[name] = probed_of(network, found, state.networks[name], state.supports[name])
    return health(probed, config.diagnostics)


def agent(
    parts: ActorCritic,
    config: RunConfig,
    optimiser: MakeOptimiser,
    update: Callable[[ActorCriticState, Experience, Array, Array], tuple[ActorCriticState, Learned]],
    *,
    updates_per_rollout: int,
    batch_size: int,
    actors: int,
    traffic: int,
) -> OnPolicyAgent:
    """An on-policy agent: the shared functions around its own ``optimiser`` and ``update``.

    Args:
        traffic: reads and writes of each weight per optimiser step.
    """
    return OnPolicyAgent(
        init=lambda key, inputs: _init(parts, config, optimiser, key, inputs),
        act=lambda state: _act(parts, state),
        act_greedily=lambda state: _act_greedily(parts, state),
        value=lambda state: _value(parts, state),
        values=lambda state: _values(parts, state),
        begin=lambda n: Memories(
            empty(apart.one_of(parts.actor), n), empty(apart.one_of(parts.critic), n)
        ),
        update=update,
        updates_per_rollout=updates_per_rollout,
        batch_size=batch_size,
        actors=actors,
        names=parts.names,
        diagnose=lambda state, view, memories: _diagnose(parts, config, state, view, memories),
        parameters=lambda state: state.networks,
        supports=lambda state: state.supports,
        passes={"actor": 3, "critic": 3},
        traffic={"actor": traffic, "critic": traffic},
        wiring=_wiring(parts),
        samples=apart.shares("actor", parts.actor, batch_size)
        | apart.shares("critic", parts.critic, batch_size),
        together=together(parts),
    )
