"""What a run costs, counted from shapes before anything is compiled."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sparse_rl.agents import OffPolicyLoop, RunInputs, RunState
from sparse_rl.agents.contract import WEIGHT_TRAFFIC
from sparse_rl.config import RunConfig
from sparse_rl.pruning import (
    ParameterCounts,
    parameter_counts,
    prunable_shapes,
    surviving_counts,
)


class Costs(NamedTuple):
    """Exact counts, and the arithmetic and traffic that follow from them."""

    parameters: dict[str, ParameterCounts]
    """Per network: all parameters, and those that survive."""
    updates: int
    """Optimiser steps in the whole run."""
    flops_per_update: int
    """2·MACs of the matrix products, forward and backward, surviving weights only."""
    flops_per_update_dense: int
    """The same with every weight."""
    bytes_per_update: int
    """Memory traffic of the stored weights, moments and targets: a floor, without activations."""
    state_bytes: int
    """What the agent stores: parameters, moments, targets, masks."""
    replay_bytes: int
    """The replay buffer."""

    @property
    def parameters_total(self) -> int:
        return sum(counts.total for counts in self.parameters.values())

    @property
    def parameters_nonzero(self) -> int:
        return sum(counts.nonzero for counts in self.parameters.values())


def _nbytes(tree: Any) -> int:
    def leaf_bytes(leaf: Any) -> int:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.eval_shape(jax.random.key_data, leaf)
        return math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize

    return sum(leaf_bytes(leaf) for leaf in jax.tree.leaves(tree))


def sparsities(config: RunConfig) -> dict[str, float]:
    """Network → share of its prunable weights to remove."""
    return {"actor": config.actor_sparsity, "critic": config.critic_sparsity}


def _run_inputs(config: RunConfig, networks: Mapping[str, Any]) -> RunInputs:
    """The arrays that tell this run from the others of its pack.

    A network that is not pruned has no counts, so it gets no masks: its program is the dense one.
    """
    surviving: dict[str, Mapping[str, Any]] = {}
    for name, sparsity in sparsities(config).items():
        shapes = prunable_shapes(networks[name]) if sparsity else {}
        counts = surviving_counts(shapes, sparsity, config.pruning.distribution)
        surviving[name] = {path: np.int32(count) for path, count in counts.items()}
    return RunInputs(
        np.uint32(config.seed),
        np.uint32(config.mask_seed),
        np.float32(config.agent.learning_rate),
        surviving,
    )


def total_updates(loop: OffPolicyLoop) -> int:
    """Updates of the whole run: ⌊learning interactions × updates per interaction⌋."""
    config = loop.config
    numerator, denominator = loop.updates_ratio()
    return (config.interactions - config.random_interactions) * numerator // denominator


def _costs(loop: OffPolicyLoop, inputs: RunInputs, state: RunState) -> Costs:
    """Count what a run costs.

    A forward pass reads every surviving weight once (2 FLOPs per weight and sample); the gradient
    with respect to the weights costs as much, and so does the one with respect to the inputs. The
    agent's ``passes`` say how many of these an update makes per network.
    """
    batch_size = loop.config.agent.batch_size
    parameters, sparse, dense, traffic = {}, 0, 0, 0
    for name, network in loop.agent.parameters(state.agent).items():
        total = parameter_counts({}, network).total
        prunable = sum(math.prod(shape) for shape in prunable_shapes(network).values())
        kept = int(sum(inputs.surviving[name].values())) if inputs.surviving[name] else prunable
        parameters[name] = ParameterCounts(total, total - prunable + kept)
        passes = loop.agent.passes[name]
        sparse += 2 * kept * passes * batch_size
        dense += 2 * prunable * passes * batch_size
        traffic += 4 * total * (passes + WEIGHT_TRAFFIC[name in loop.agent.with_target])
    return Costs(
        parameters=parameters,
        updates=total_updates(loop),
        flops_per_update=sparse,
        flops_per_update_dense=dense,
        bytes_per_update=traffic,
        state_bytes=_nbytes(state.agent),
        replay_bytes=_nbytes(state.replay),
    )


def count(configs: Sequence[RunConfig], loop: OffPolicyLoop) -> list[tuple[RunInputs, Costs]]:
    """Inputs and costs of a pack's runs. Shapes are the pack's: they are traced once, not per run."""
    unpruned = RunInputs(np.uint32(0), np.uint32(0), np.float32(0), {"actor": {}, "critic": {}})
    networks = loop.agent.parameters(jax.eval_shape(loop.init, unpruned).agent)
    inputs = [_run_inputs(config, networks) for config in configs]
    state = jax.eval_shape(loop.init, inputs[0])
    return [(each, _costs(loop, each, state)) for each in inputs]
