"""What a run's parametrisation makes of each tensor of its networks, told by shapes and counts."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from sparse_rl.agents import Learner, RunInputs
from sparse_rl.kernels.keys import key_of
from sparse_rl.loops import Loop, agent_of
from sparse_rl.networks import Layer, Scale, kept_scales, scales, times
from sparse_rl.pruning import BlockError, path_name, prunable_shapes, survivors
from sparse_rl.settings.common import ParametrisedConfig
from sparse_rl.settings.off_policy import MixingConfig
from sparse_rl.settings.on_policy import ActorCriticConfig, PaacConfig, PqnVdnConfig
from sparse_rl.settings.run import RunConfig
from sparse_rl.settings.schema import ConfigError, rounded

BY_SIZE = (PaacConfig, PqnVdnConfig, MixingConfig)
"""Agents whose optimisers mind how large gradients are: RMSProp with an ε of 0.1, and RAdam, which is
momentum in its first updates."""
Networks = Mapping[str, Any]
Budgets = Mapping[str, Mapping[str, Any]]
MakeBudgets = Callable[[RunConfig, Learner, Networks], Budgets]
"""``(config, agent, shapes of its dense networks) → network → path → what is kept``."""


def base_of(config: RunConfig) -> RunConfig:
    """The run at whose shape its parametrisation is the standard one."""
    settings = config.agent
    assert isinstance(settings, ParametrisedConfig)
    assert settings.base_width is not None  # checked
    whole = dataclasses.replace(
        config.pruning, actor_sparsity=None, critic_sparsity=None, encoder_sparsity=0.0,
        mixer_sparsity=None,
    )  # fmt: skip
    return dataclasses.replace(
        config,
        agent=settings.without_base(),
        width=settings.base_width,
        sparsity=rounded(1.0 - settings.base_density),
        pruning=whole,
    )


def at_base(config: RunConfig) -> bool:
    """Whether a run's parametrisation is the standard one, or at its shape the same."""
    settings = config.agent
    if not isinstance(settings, ParametrisedConfig) or settings.parametrisation == "standard":
        return True
    dense_or_not = settings.parametrisation == "mup" or base_of(config).sparsities == config.sparsities
    return config.width == settings.base_width and dense_or_not


def shapes_of(agent: Any, config: RunConfig) -> Networks:
    """Shapes of an agent's networks, nothing removed."""
    nothing: dict[str, Any] = {name: {} for name in config.agent.NETWORKS}
    unpruned = RunInputs(np.uint32(0), np.uint32(0), np.float32(0), nothing)
    state = jax.eval_shape(lambda: agent.init(key_of(0), unpruned))
    networks: Networks = agent.parameters(state)
    return networks


def _densities(network: Any, budget: Mapping[str, Any]) -> dict[str, float]:
    """Kernel's path → share of its weights that is kept; of those that are pruned."""
    sizes = {path: math.prod(shape) for path, shape in prunable_shapes(network).items()}
    return {path: survivors(kept) / sizes[path] for path, kept in budget.items()}


def _layers(network: Any, base: Any, budget: Any, base_budget: Any) -> dict[str, Layer]:
    """Kernel's path → the layer, here and at the base."""
    shapes, base_shapes = prunable_shapes(network), prunable_shapes(base)
    kept, base_kept = _densities(network, budget), _densities(base, base_budget)
    return {
        path: Layer(shape, base_shapes[path], kept.get(path, 1.0), base_kept.get(path, 1.0))
        for path, shape in shapes.items()
    }


def _paths(network: Any) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(network)
    return {path_name(path): leaf for path, leaf in leaves}


def _at_the_base(config: RunConfig, loop: Loop, budgets_of: MakeBudgets) -> tuple[Networks, Budgets]:
    """The base's networks, and what they keep.

    Raises:
        ConfigError: it has no blocks.
    """
    base = base_of(config)
    agent = agent_of(base, loop.env)
    networks = shapes_of(agent, base)
    try:
        return networks, budgets_of(base, agent, networks)
    except BlockError as error:
        settings: Any = config.agent
        raise ConfigError(
            f"agent.base_width={settings.base_width}, "
            f"agent.base_density={settings.base_density:g}: {error}"
        ) from None


def _parametrised(
    config: RunConfig, loop: Loop, networks: Networks, budgets: Budgets, budgets_of: MakeBudgets
) -> dict[str, dict[str, Scale]]:
    settings: Any = config.agent
    base, base_budgets = _at_the_base(config, loop, budgets_of)
    if settings.parametrisation == "mup":
        budgets = base_budgets = {name: {} for name in networks}
    uniform = isinstance(settings, ActorCriticConfig) and settings.initialisation == "uniform"
    return {
        name: scales(
            name,
            loop.agent.wiring[name],
            _layers(network, base[name], budgets[name], base_budgets[name]),
            _paths(network),
            uniform=uniform,
            by_size=isinstance(settings, BY_SIZE),
        )
        for name, network in networks.items()
    }


def scales_of(
    config: RunConfig, loop: Loop, networks: Networks, budgets: Budgets, budgets_of: MakeBudgets
) -> Any:
    """network → path → factors, float32; ``()`` where there are none.

    Args:
        config: of the run.
        loop: of its pack.
        networks: shapes of its dense networks.
        budgets: what they keep.
        budgets_of: for the base.

    Raises:
        ConfigError: the base has no blocks at its density.
    """
    found: dict[str, dict[str, Scale]] = {name: {} for name in networks}
    if not at_base(config):
        found = _parametrised(config, loop, networks, budgets, budgets_of)
    if config.pruning.initial_scale == "kept":
        for name, network in networks.items():
            kept, paths = _densities(network, budgets[name]), _paths(network)
            beside = kept_scales(kept, paths)
            found[name] = {path: times(found[name].get(path, Scale()), beside[path]) for path in paths}
    as_array = functools.partial(jax.tree.map, np.float32)
    return as_array(found) if any(found.values()) else ()
