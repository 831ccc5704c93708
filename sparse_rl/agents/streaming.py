"""What agents share that learn from a stream of transitions, one at a time: eligibility traces of what
their networks say, and one step along them."""

import functools
import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.agents import step_rules, stream_layers
from sparse_rl.agents.contract import TRACE_TRAFFIC, Metrics, RunInputs, StreamingAgent
from sparse_rl.agents.pruned import Params, Probed, draw_pruned, health
from sparse_rl.agents.sparse_start import sparse_parameters
from sparse_rl.agents.step_rules import Sums
from sparse_rl.networks import StreamNetwork, wiring_of
from sparse_rl.pruning import apply, store, support_masks
from sparse_rl.settings.run import RunConfig, agent_settings
from sparse_rl.settings.streaming import StreamingConfig

SMALL_ERROR = 1e-4
"""A TD error below which the share that a step removes is rounding."""


class StreamState(NamedTuple):
    """Everything such an agent carries from step to step."""

    networks: dict[str, Params]
    traces: dict[str, Params]
    """network → eligibility traces, of the form of its parameters."""
    alive: Array
    """float32: what of the traces goes on: 0 after an episode's end, where they begin anew, else 1."""
    intents: dict[str, Any]
    """network → what its step rule remembers; ``()`` of ObGD."""
    supports: dict[str, Any]
    learning_rate: Array


class Streamer(NamedTuple):
    """Static parts."""

    config: StreamingConfig
    networks: Mapping[str, StreamNetwork]
    observation_size: int
    """Numbers that the networks see."""

    @property
    def decay(self) -> float:
        """γλ."""
        return self.config.discount * self.config.trace_decay


class Looked(NamedTuple):
    """What a network said of n samples, and how its gradient joins the traces."""

    heads: dict[str, Array]
    """name → float32 ``[n, units]``."""
    trace: Callable[[dict[str, Array], Params, Array], tuple[Params, Sums]]
    """``(derivatives by the heads of the first sample, traces, what of these goes on) → (traces, sums
    over them and the gradient)``."""


def init(streamer: Streamer, config: RunConfig, key: Array, inputs: RunInputs) -> StreamState:
    """The state before the first step: weights sparse at first, within what survives."""
    seen = jnp.zeros((1, streamer.observation_size))
    wiring = {name: wiring_of(network) for name, network in streamer.networks.items()}

    def shapes() -> dict[str, Params]:
        return {
            name: jax.eval_shape(network.init, key, seen)["params"]
            for name, network in streamer.networks.items()
        }

    def nothing(key: Array) -> dict[str, Params]:
        del key
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes())

    _, supports = draw_pruned(config, wiring, nothing, key, inputs)
    networks = {}
    for i, (name, form) in enumerate(shapes().items()):
        own, masks = jax.random.fold_in(key, i), support_masks(supports[name])
        dense = sparse_parameters(form, own, streamer.config.initial_zeros, masks)
        networks[name] = store(supports[name], dense)
    intentional = streamer.config.step_rule == "intentional"
    return StreamState(
        networks,
        jax.tree.map(jnp.zeros_like, networks),
        jnp.float32(0.0),
        {name: step_rules.no_intent() if intentional else () for name in networks},
        supports,
        jnp.asarray(inputs.learning_rate, jnp.float32),
    )


def say(streamer: Streamer, state: StreamState, name: str, seen: Array) -> dict[str, Array]:
    """What a network says of ``[n, o]``: head → ``[n, units]``."""
    network, params, supports = streamer.networks[name], state.networks[name], state.supports[name]
    if len(seen) <= stream_layers.MOST_SAMPLES and stream_layers.serves(network, supports):
        return _looked_by_layers(network, params, supports, seen).heads
    return apply(network, params, supports, seen)


def look(streamer: Streamer, state: StreamState, name: str, seen: Array) -> Looked:
    """The same, for a gradient by the first of the samples."""
    network, supports = streamer.networks[name], state.supports[name]
    if stream_layers.serves(network, supports):
        return _looked_by_layers(network, state.networks[name], supports, seen)

    def said(params: Params) -> dict[str, Array]:
        return apply(network, params, supports, seen)

    heads, back = jax.vjp(said, state.networks[name])

    def trace(derivatives: dict[str, Array], traces: Params, kept: Array) -> tuple[Params, Sums]:
        rest = len(seen) - 1
        padded = jax.tree.map(lambda d: jnp.pad(d[None], ((0, rest), (0, 0))), derivatives)
        (grads,) = back(padded)
        traces = jax.tree.map(lambda z, g: kept * z + g, traces, grads)
        sums = (_total(jnp.abs, traces), _total(jnp.square, traces), _total(jnp.square, grads))
        return traces, Sums(*sums)

    return Looked(heads, trace)


def _looked_by_layers(network: StreamNetwork, params: Params, supports: Any, seen: Array) -> Looked:
    """:func:`look` with products of ours, which touch nothing but what survives."""
    layers = stream_layers.of(network, params, supports)
    heads, kept = stream_layers.look(seen, layers)

    def trace(derivatives: dict[str, Array], traces: Params, decay: Array) -> tuple[Params, Sums]:
        by_heads = jnp.concatenate([derivatives[name] for name, _ in network.heads])
        held = stream_layers.of(network, traces, supports)
        made, sums = stream_layers.trace(seen[:1], kept, by_heads, decay, layers, held)
        return stream_layers.joined(network, made), Sums(*sums)

    ends = list(itertools.accumulate(units for _, units in network.heads))[:-1]
    parts = jnp.split(heads, ends, axis=1)
    return Looked({name: x for (name, _), x in zip(network.heads, parts, strict=True)}, trace)


def _total(function: Callable[[Array], Array], tree: Params) -> Array:
    return sum((jnp.sum(function(leaf)) for leaf in jax.tree.leaves(tree)), jnp.float32(0.0))


def advance(
    streamer: Streamer,
    state: StreamState,
    error: Array,
    ascents: Mapping[str, tuple[Looked, dict[str, Array]]],
    resets: Array,
) -> tuple[StreamState, Metrics]:
    """One step of each network: z ← γλ z + ∇, then w ← w + α δ z.

    Args:
        streamer, state: before it.
        error: δ.
        ascents: network → what it said, and the derivatives by its heads of what is to rise where δ > 0.
        resets: bool: whether the traces begin anew after this step.

    Returns:
        The new state, and metrics.
    """
    metrics: Metrics = {}
    networks, traces, intents = dict(state.networks), dict(state.traces), dict(state.intents)
    for name, (looked, derivatives) in ascents.items():
        kept = streamer.decay * state.alive
        traces[name], sums = looked.trace(derivatives, state.traces[name], kept)
        factor, intents[name] = _factor(streamer, state, name, error, sums)
        networks[name] = jax.tree.map(
            lambda w, z, factor=factor: w + factor * z, state.networks[name], traces[name]
        )
        metrics |= {
            f"grad_norm/{name}": jnp.sqrt(sums.grad_square),
            f"trace_norm/{name}": jnp.sqrt(sums.trace_square),
            f"update_norm/{name}": jnp.abs(factor) * jnp.sqrt(sums.trace_square),
        }
    alive = jnp.where(resets, 0.0, 1.0)
    after = state._replace(networks=networks, traces=traces, alive=alive, intents=intents)
    return after, metrics | {"loss/critic": jnp.square(error), "td_error_size": jnp.abs(error)}


def _factor(
    streamer: Streamer, state: StreamState, name: str, error: Array, sums: Sums
) -> tuple[Array, Any]:
    """Of the trace of a network in its step, and what its rule remembers then."""
    settings, policy = streamer.config, name == "actor"
    of = "policy" if policy else "value"
    if settings.step_rule == "obgd":
        return step_rules.obgd(state.learning_rate, getattr(settings, f"{of}_kappa"), error, sums), ()
    share = getattr(settings, f"{of}_share")
    return step_rules.intentional(
        state.learning_rate, share, streamer.decay, error, sums, state.intents[name], policy=policy
    )


def removed(before: Array, after: Array, error: Array) -> Metrics:
    """The share of a TD error that a step removed, (V'(s) − V(s)) / δ, and whether it can be told."""
    told = (jnp.abs(error) >= SMALL_ERROR).astype(jnp.float32)
    share = jnp.where(told > 0, (after - before) / jnp.where(told > 0, error, 1.0), 0.0)
    return {"td_error_removed": share, "td_errors": told}


def measure(measured: Array, make: Callable[[], Metrics]) -> Metrics:
    """What ``make()`` finds where that is wanted, else zeros of its form."""
    shapes = jax.eval_shape(make)
    return jax.lax.cond(measured, make, lambda: jax.tree.map(lambda x: jnp.zeros(x.shape), shapes))


def agent(
    streamer: Streamer,
    config: RunConfig,
    *,
    act: Callable[[StreamState, Array, Array, Array], Array],
    act_greedily: Callable[[StreamState, Array], Array],
    update: Callable[[StreamState, Any, Array], tuple[StreamState, Metrics, Metrics]],
) -> StreamingAgent:
    """The functions that a loop drives: an agent's own, and what all have in common."""
    names = tuple(streamer.networks)
    return StreamingAgent(
        init=functools.partial(init, streamer, config),
        act=act,
        act_greedily=act_greedily,
        update=update,
        diagnose=functools.partial(_diagnose, streamer, config),
        parameters=lambda state: state.networks,
        supports=lambda state: state.supports,
        # what is seen, and for values what is seen next, forward (1 and 2); one gradient (2)
        passes={name: 3 if name == "actor" else 4 for name in names},
        traffic=dict.fromkeys(names, TRACE_TRAFFIC),
        wiring={name: wiring_of(network) for name, network in streamer.networks.items()},
    )


def _diagnose(streamer: Streamer, config: RunConfig, state: StreamState, seen: Array) -> Metrics:
    """Health of the networks on a probe batch."""
    probed = {
        name: Probed(network, {"": state.networks[name]}, {"": state.supports[name]}, (seen,))
        for name, network in streamer.networks.items()
    }
    return health(probed, config.diagnostics)


def settings_of(config: RunConfig) -> StreamingConfig:
    """The settings of a run's agent."""
    return agent_settings(config, StreamingConfig)


def sees(config: RunConfig, observation_size: int) -> int:
    """Numbers that the networks see of an observation of this size."""
    return observation_size + settings_of(config).time_feature
