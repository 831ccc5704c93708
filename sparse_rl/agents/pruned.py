"""What every agent does with pruned networks: draw them, step them, and measure their health."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import optax
from jax import Array

from sparse_rl.agent_configs import OnPolicyConfig
from sparse_rl.agents.contract import Learner, Metrics, RunInputs
from sparse_rl.config import DiagnosticsConfig, RunConfig
from sparse_rl.diagnostics import global_norm, network_health
from sparse_rl.pruning import draw_supports, store

Params = Any

MASK_STREAM = 0x6D61736B
"""Keeps mask draws apart from training draws when ``mask_seed`` equals ``seed``."""


def feature_major(config: RunConfig) -> dict[str, bool]:
    """network → whether it computes in the layout that products with blocks want."""
    by_blocks = config.storage.storage == "block"
    return {name: by_blocks and sparsity > 0 for name, sparsity in config.sparsities.items()}


def draw_pruned(
    config: RunConfig, networks: Mapping[str, Params], inputs: RunInputs
) -> tuple[dict[str, Params], dict[str, Any]]:
    """Prune initial parameters; masks depend on the mask seed alone.

    Args:
        config: of the pack.
        networks: network → dense initial parameters.
        inputs: of the run.

    Returns:
        network → parameters as stored, and network → their supports.
    """
    mask_key = jax.random.fold_in(jax.random.key(inputs.mask_seed), MASK_STREAM)
    supports = {
        name: draw_supports(
            jax.random.fold_in(mask_key, i),
            params,
            inputs.budgets[name],
            pattern=config.pruning.pattern,
            storage=config.storage.storage,
            min_fan_in=config.pruning.min_fan_in,
        )
        for i, (name, params) in enumerate(networks.items())
    }
    return store(supports, dict(networks)), supports


def descend(
    optimiser: optax.GradientTransformation, grads: Params, state: optax.OptState, params: Params
) -> tuple[Params, optax.OptState]:
    """One step of the optimiser: parameters and its state."""
    updates, state = optimiser.update(grads, state, params)
    return optax.apply_updates(params, updates), state


def scheduled(settings: OnPolicyConfig, learning_rate: Array, progress: Array) -> Array:
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
    inputs: tuple[Any, ...]
    """float32 ``[samples, …]`` each."""


def health(networks: Mapping[str, Probed], settings: DiagnosticsConfig) -> Metrics:
    """``metric/network[/layer]`` → scalar, of every network."""
    found = {name: network_health(*probed, settings) for name, probed in networks.items()}
    return {
        f"{metric}/{name}{rest}": value
        for name, numbers in found.items()
        for (metric, rest), value in numbers.items()
    }
