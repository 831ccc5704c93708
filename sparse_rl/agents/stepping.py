"""Optimiser steps of every agent, each tensor's multiplied as the parametrisation says
(:mod:`sparse_rl.networks.parametrisation`); under the standard one nothing is."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from sparse_rl.agents.contract import RunInputs
from sparse_rl.diagnostics import global_norm
from sparse_rl.networks import Scale
from sparse_rl.pruning import path_name

Params = Any


def flat_scales(inputs: RunInputs) -> dict[str, Scale]:
    """``network/path`` → factors; empty under the standard parametrisation."""
    every = dict(inputs.scales)
    return {f"{name}/{path}": scale for name, of in every.items() for path, scale in of.items()}


def in_place(params: Params, scales: Mapping[str, Scale]) -> list[Scale]:
    """The factors of each leaf, in the order of the leaves.

    Args:
        params: arrays, or their shapes.
        scales: path → factors; a tensor that is not named has none.
    """
    paths = (path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params))
    return [scales.get(path, Scale()) for path in paths]


class Scaled(NamedTuple):
    """State of an optimiser whose gradients and steps are multiplied, tensor by tensor."""

    inner: optax.OptState
    gradient: list[Any]
    """Factor of each leaf, float32; ``None``: no factor."""
    step: list[Any]


def begin(
    optimiser: optax.GradientTransformation, networks: Mapping[str, Params], inputs: RunInputs
) -> optax.OptState:
    """State of an optimiser of several networks before its first step, for :func:`descend`.

    Args:
        optimiser: of them.
        networks: name → parameters as stored.
        inputs: of the run.
    """
    return _begin(optimiser, networks, flat_scales(inputs))


def begin_one(
    optimiser: optax.GradientTransformation, name: str, params: Params, inputs: RunInputs
) -> optax.OptState:
    """The same of an optimiser of one network."""
    return _begin(optimiser, params, inputs.scales[name] if inputs.scales else {})


def _begin(
    optimiser: optax.GradientTransformation, params: Params, scales: Mapping[str, Scale]
) -> optax.OptState:
    inner, leaves = optimiser.init(params), in_place(params, scales)
    gradient, step = [scale.gradient for scale in leaves], [scale.step for scale in leaves]
    plain = all(factor is None for factor in gradient + step)
    return inner if plain else Scaled(inner, gradient, step)


def emptied(optimisers: Any) -> Any:
    """Optimisers' states as if there had been no gradient yet."""

    def empty(state: Any) -> Any:
        if isinstance(state, Scaled):
            return state._replace(inner=jax.tree.map(jnp.zeros_like, state.inner))
        return jnp.zeros_like(state)

    return jax.tree.map(empty, optimisers, is_leaf=lambda node: isinstance(node, Scaled))


def descend(
    optimiser: optax.GradientTransformation, grads: Params, state: optax.OptState, params: Params
) -> tuple[Params, optax.OptState]:
    """One step of the optimiser: parameters and its state.

    Weight decay takes the same share of a weight as at the base, learning rate times decay, whatever the
    factor of its step: public µP's AdamW divides the rate by m and multiplies the decay with it
    (microsoft/mup, ``optim.py``). So the optimiser is shown parameters over that factor.
    """
    if not isinstance(state, Scaled):
        updates, state = optimiser.update(grads, state, params)
        return optax.apply_updates(params, updates), state
    form: Any = jax.tree.structure(params)

    def each(function: Callable[[Array, Any], Array], tree: Params, factors: list[Any]) -> Params:
        leaves = zip(form.flatten_up_to(tree), factors, strict=True)
        return form.unflatten([x if factor is None else function(x, factor) for x, factor in leaves])

    shown = each(jnp.multiply, grads, state.gradient), each(jnp.divide, params, state.step)
    updates, inner = optimiser.update(shown[0], state.inner, shown[1])
    updates = each(jnp.multiply, updates, state.step)
    return optax.apply_updates(params, updates), state._replace(inner=inner)


def together(grads: Params) -> Params:
    """The same gradients, none of which can be used before all are there: for :func:`descend`.

    XLA writes in place only what nothing else can still read, by dependence and not by order: a gradient
    with respect to a layer's input reads the layer's weights, and their own step depends on another one.
    Without this it copies the weights in every update. All wait for their norm, by arithmetic, for XLA
    drops barriers before it plans memory. Gradients that are clipped by their norm wait for it anyway.
    """
    zero = jnp.minimum(global_norm(grads), 0.0)
    return jax.tree.map(lambda grad: grad + zero, grads)
