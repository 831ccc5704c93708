"""What every agent does with pruned networks: draw them, and measure their health."""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.agents.apart import Network, Probe, labels, one_of
from sparse_rl.agents.contract import Learner, Metrics, RunInputs
from sparse_rl.agents.stepping import flat_scales, in_place
from sparse_rl.diagnostics import global_norm, network_health, ratio
from sparse_rl.kernels.keys import key_of
from sparse_rl.networks import Wiring, inputs_of
from sparse_rl.pruning import Owned, draw_supports, is_support, owned_by, store
from sparse_rl.settings.off_policy import MixingConfig
from sparse_rl.settings.on_policy import OnPolicyConfig
from sparse_rl.settings.run import DiagnosticsConfig, RunConfig

Params = Any

MASK_STREAM = 0x6D61736B
"""Keeps mask draws apart from training draws when ``mask_seed`` equals ``seed``."""
LARGE_BYTES = 16 << 20
"""float32 bytes of a dense layer from which on it is drawn alone."""


def feature_major(config: RunConfig) -> dict[str, bool]:
    """network → whether it computes in the layout that products with blocks want."""
    by_blocks = config.storage.storage == "block"
    return {name: by_blocks and sparsity > 0 for name, sparsity in config.sparsities.items()}


def _alone(draw: Callable[[], Any], like: Any) -> Any:
    """What ``draw()`` returns, of the form of ``like``, computed in memory that is free afterwards.

    A branch that is always taken: XLA plans its inside apart, where it would otherwise draw the dense
    weights of several layers before it cuts the first. The barrier hides that it is always taken.
    """
    always = jax.lax.optimization_barrier(jnp.bool_(True))
    return jax.lax.cond(always, draw, lambda: jax.tree.map(jnp.zeros_like, like))


Labels = Mapping[str, Sequence[str]]
"""network → labels of those who have masks of their own for its weights, which all of them use."""
NOBODY: Labels = MappingProxyType({})


def supports_of(
    config: RunConfig,
    wiring: Mapping[str, Wiring],
    shapes: Mapping[str, Params],
    inputs: RunInputs,
    labels: Labels = NOBODY,
) -> dict[str, Any]:
    """network → the supports that its mask key draws. A tensor's mask comes from its path; that of who
    has one of its own, from its path below the label, as if it had weights of its own too.

    Args:
        config: of the pack.
        wiring: network → what its layers read.
        shapes: network → dense parameters, or their shapes.
        inputs: of the run.
        labels: who has masks of its own.
    """
    mask_key = jax.random.fold_in(key_of(inputs.mask_seed), MASK_STREAM)
    fan_out = config.pruning.fan_out

    def draw(i: int, name: str, tree: Params, before: Sequence[str]) -> Any:
        return draw_supports(
            jax.random.fold_in(mask_key, i),
            tree,
            {at + path: kept for at in before for path, kept in inputs.budgets[name].items()},
            pattern=config.pruning.pattern,
            storage=config.storage.storage,
            min_fan_in=config.pruning.min_fan_in,
            min_fan_out={at + path: fan_out for at in before for path in wiring[name].first},
        )

    found = {}
    for i, (name, params) in enumerate(shapes.items()):
        own = labels.get(name, ())
        if own:
            each = draw(i, name, dict.fromkeys(own, params), [f"{label}/" for label in own])
            found[name] = owned_by([each[label] for label in own])
        else:
            found[name] = draw(i, name, params, [""])
    return found


def draw_pruned(
    config: RunConfig,
    wiring: Mapping[str, Wiring],
    initial: Callable[[Array], Mapping[str, Params]],
    key: Array,
    inputs: RunInputs,
    labels: Labels = NOBODY,
) -> tuple[dict[str, Params], dict[str, Any]]:
    """Initialise, prune, scale: the draws depend on the key alone, the masks on the mask seed.

    Unless they are stored masked, large layers are drawn and cut one after the other, so that no more
    than one of them is ever dense.

    Args:
        config: of the pack.
        wiring: network → what its layers read.
        initial: ``key → network → dense initial parameters``.
        key: of the initial parameters.
        inputs: of the run.
        labels: who has masks of its own.

    Returns:
        network → parameters as stored, and network → their supports.
    """
    initial = jax.jit(initial, inline=True)  # traced once for all that follows; the program is the same
    shapes = jax.eval_shape(initial, key)
    form: Any = jax.tree.structure(shapes)

    def supports() -> list[Any]:
        return cast(list[Any], form.flatten_up_to(supports_of(config, wiring, shapes, inputs, labels)))

    def weights() -> list[Array]:
        return jax.tree.leaves(initial(key))

    def support(i: int) -> Any:
        return supports()[i]

    factors = [scale.initial for scale in in_place(shapes, flat_scales(inputs))]

    def held(i: int, weights: Array) -> Array:
        tensor = cast(Array, store(kept[i], weights))
        return tensor if factors[i] is None else tensor * factors[i]

    def tensor(i: int) -> Array:
        return held(i, weights()[i])

    kept = supports()
    stored = list(itertools.starmap(held, enumerate(weights())))
    cut = [support is not None and config.storage.storage != "masked" for support in kept]
    for i, dense in enumerate(jax.tree.leaves(shapes)):
        if cut[i] and dense.size * dense.dtype.itemsize >= LARGE_BYTES:
            kept[i] = _alone(functools.partial(support, i), kept[i])
            stored[i] = _alone(functools.partial(tensor, i), stored[i])
    return form.unflatten(stored), form.unflatten(kept)


def scheduled(settings: OnPolicyConfig | MixingConfig, learning_rate: Array, progress: Array) -> Array:
    """The learning rate when this share of the run is over: constant, or falling linearly to 0."""
    if settings.learning_rate_schedule == "constant":
        return learning_rate
    return learning_rate * (1.0 - progress)


def grad_norms(grads: Mapping[str, Params]) -> Metrics:
    """``grad_norm/network`` → global norm, of every network, before clipping."""
    return {f"grad_norm/{name}": global_norm(tree) for name, tree in grads.items()}


def acting(agent: Learner, state: Any) -> dict[str, Any]:
    """What acting and evaluating needs: parameters as stored, supports, the normaliser."""
    return {
        "parameters": agent.parameters(state.agent),
        "supports": agent.supports(state.agent),
        "normaliser": state.normaliser,
    }


class Probed(NamedTuple):
    """A network and the probe batch that its health is measured on."""

    network: Any
    """flax module."""
    members: Mapping[str, Params]
    """label → parameters; one labelled ``""`` for a network that is no ensemble."""
    supports: Mapping[str, Any]
    """label → supports."""
    inputs: Any
    """A tuple of float32 ``[samples, …]``; or label → such a tuple, where members see other things."""
    shared: Params = None
    """As stored: what all members use, each through a mask of its own; ``None``: each has its own."""
    shared_supports: Any = None
    """Of that."""


def probed_of(network: Network, found: Mapping[str, Probe], params: Params, supports: Any) -> Probed:
    """What is to be probed of a network, or of those of groups.

    Args:
        network: of ours.
        found: of :func:`~sparse_rl.agents.apart.probes`, whose ``seen`` is memory and observation.
        params, supports: as stored.
    """
    one = one_of(network)
    shared = (params, supports) if labels(network) else (None, None)
    return Probed(
        one,
        {label: probe.params for label, probe in found.items()},
        {label: probe.supports for label, probe in found.items()},
        {label: inputs_of(one, *probe.seen) for label, probe in found.items()},
        *shared,
    )


def _shared_use(supports: Any) -> dict[tuple[str, str], Array]:
    """Of weights for which several have masks, the share that anybody uses, and that all use."""
    masks = [x.masks for x in jax.tree.leaves(supports, is_leaf=is_support) if isinstance(x, Owned)]
    size = sum(mask[0].size for mask in masks)
    used = sum(jnp.sum(jnp.any(mask, axis=0), dtype=jnp.int32) for mask in masks)
    common = sum(jnp.sum(jnp.all(mask, axis=0), dtype=jnp.int32) for mask in masks)
    return {("used_ratio", ""): ratio(used, size), ("common_ratio", ""): ratio(common, size)}


def health(networks: Mapping[str, Probed], settings: DiagnosticsConfig) -> Metrics:
    """``metric/network[/layer]`` → scalar, of every network."""
    found = {}
    for name, probed in networks.items():
        found[name] = network_health(*probed[:4], settings)
        if probed.shared is not None:  # counted once, whoever uses it
            found[name]["param_norm", ""] = global_norm(probed.shared)
            found[name] |= _shared_use(probed.shared_supports)
    return {
        f"{metric}/{name}{rest}": value
        for name, numbers in found.items()
        for (metric, rest), value in numbers.items()
    }
