"""What a run costs, counted from shapes before anything is compiled."""

import bisect
import dataclasses
import functools
import math
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sparse_rl.agents import Learner, RunInputs
from sparse_rl.envs import Env, HostEnv
from sparse_rl.loops import Beside, Loop, Workload, drawn, make_loop
from sparse_rl.networks import Picture, applications, kernel_shapes
from sparse_rl.pruning import (
    BlockError,
    Owned,
    ParameterCounts,
    is_support,
    owners,
    parameter_counts,
    plan_budget,
    prunable_shapes,
    survivors,
    tiles_of,
)
from sparse_rl.runs.labels import check_counts, check_exchanges
from sparse_rl.runs.scales import scales_of
from sparse_rl.settings.run import RunConfig
from sparse_rl.settings.schema import ConfigError


class Costs(NamedTuple):
    """Exact counts, and the arithmetic and traffic that follow from them."""

    parameters: dict[str, ParameterCounts]
    """Per network: all parameters, and those that survive; where agents have masks of their own for
    weights that all share, those that any of them uses."""
    updates: int
    """Optimiser steps in the whole run."""
    flops_per_update: int
    """2·MACs of the matrix products, forward and backward, surviving weights only."""
    flops_per_update_dense: int
    """The same with every weight."""
    bytes_per_update: int
    """Memory traffic of weights, moments and targets as stored: a floor, without activations."""
    state_bytes: int
    """What the agent stores: parameters, moments, targets, and where the surviving weights are."""
    replay_bytes: int
    """The replay buffer."""
    memory_bytes: int
    """An estimate of what a run needs while it trains: the above, gradients and activations. It decides
    how many runs share a device; a pack that does not fit after all is halved."""
    each: Mapping[str, int] = MappingProxyType({})
    """Per network for whose weights agents have masks of their own: parameters that each uses."""

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


def dense_networks(loop: Loop) -> Mapping[str, Any]:
    """Shapes of the networks' parameters, nothing removed."""
    nothing: dict[str, Any] = {name: {} for name in loop.config.agent.NETWORKS}
    unpruned = RunInputs(np.uint32(0), np.uint32(0), np.float32(0), nothing)
    return loop.agent.parameters(jax.eval_shape(loop.init, unpruned).agent)


def prunable(
    config: RunConfig, agent: Learner, networks: Mapping[str, Any]
) -> dict[str, dict[str, tuple[int, ...]]]:
    """network → path → shape, of convolutions that of their kernels. A network that is not pruned has
    none, so no budget and no supports: its program is the dense one."""
    return {
        name: kernel_shapes(agent.wiring[name], prunable_shapes(networks[name])) if sparsity else {}
        for name, sparsity in config.sparsities.items()
    }


def _budgets(
    config: RunConfig, shapes: Mapping[str, Mapping[str, tuple[int, ...]]], factor: float = 1.0
) -> dict[str, Mapping[str, Any]]:
    """What each network keeps, with all sparsities times ``factor``."""
    return {
        name: plan_budget(
            shapes[name],
            factor * sparsity,
            distribution=config.pruning.distribution,
            pattern=config.pruning.pattern,
            storage=config.storage.storage,
            block_fan_in=config.pruning.block_fan_in,
        )
        for name, sparsity in config.sparsities.items()
    }


def _width_with_blocks(config: RunConfig, env: Env | HostEnv) -> int | None:
    """The least width whose layers all have blocks; ``None`` if a layer reads too few inputs at any."""

    def works(width: int) -> bool:
        wider = dataclasses.replace(config, width=width)
        try:
            loop = make_loop(wider, env)
            _budgets(wider, prunable(wider, loop.agent, dense_networks(loop)))
        except BlockError:
            return False
        return True

    high = next((width for width in (config.width << i for i in range(1, 11)) if works(width)), None)
    if high is None:
        return None
    widths = range(config.width, high + 1)
    return widths[bisect.bisect_left(widths, True, key=works)]


def _run_inputs(config: RunConfig, loop: Loop, networks: Mapping[str, Any]) -> RunInputs:
    """What tells this run from the others of its pack.

    Raises:
        ConfigError: a layer is too small for blocks at this sparsity, or the run would not be what its
            label says (:mod:`sparse_rl.runs.labels`).
    """
    shapes = prunable(config, loop.agent, networks)
    try:
        budgets = _budgets(config, shapes)
    except BlockError as error:
        width = _width_with_blocks(config, loop.env)
        wider = f", or width={width}" if width else ""
        raise ConfigError(f"pruning=block, width={config.width}, {error}{wider}") from None
    check_counts(config, loop.agent.wiring, shapes, functools.partial(_budgets, config, shapes))
    return RunInputs(
        np.uint32(config.seed),
        np.uint32(config.mask_seed),
        np.float32(config.agent.learning_rate),
        budgets,
        scales_of(config, loop, networks, budgets, _budgets_of),
    )


def _budgets_of(
    config: RunConfig, agent: Learner, networks: Mapping[str, Any]
) -> dict[str, Mapping[str, Any]]:
    """What each network of an agent keeps."""
    return _budgets(config, prunable(config, agent, networks))


def _uses(loop: Loop, path: str) -> int:
    """How often a kernel is applied to one sample."""
    return applications(loop.config.agent.network, path, loop.env.picture)


def _widest(loop: Loop, networks: Mapping[str, Any]) -> int:
    """Numbers of the largest thing that a layer reads or makes of one sample: of a convolution at all of
    its positions together."""
    shapes = (item for network in networks.values() for item in prunable_shapes(network).items())
    return max(loop.config.width, *(_uses(loop, path) * max(shape) for path, shape in shapes))


def _made_dense(config: RunConfig, networks: Mapping[str, Any], budgets: Mapping[str, Any]) -> int:
    """Bytes of the largest tile that is made dense to be multiplied (storage ``compact``)."""
    if config.storage.storage != "compact" or config.multiplies_stored:
        return 0
    shapes = {name: prunable_shapes(network) for name, network in networks.items()}
    pruned = [(shapes[name][path], kept) for name in shapes for path, kept in budgets[name].items()]
    tiles = (4 * math.prod(shape) // tiles_of(shape, survivors(kept)) for shape, kept in pruned)
    return max(tiles, default=0)


def _memory_bytes(config: RunConfig, state: int, work: Workload, widest: int) -> int:
    """State and replay (updated in place), gradients of a quarter of the state, and three float32 arrays
    ``[probe samples + largest batch, widest]``: the widest activations, and what is made of them."""
    samples = config.diagnostics.samples(config.width) + work.samples_at_once
    experience = _nbytes(work.replay) + _nbytes(work.rollout)
    return experience + state + state // 4 + 3 * 4 * samples * widest


class Work(NamedTuple):
    """What one learner's update is."""

    parameters: dict[str, ParameterCounts]
    sparse: int
    dense: int
    traffic: int


def _uses_of_batch(
    loop: Loop,
    name: str,
    path: str,
    batch_size: int,
    picture: Picture | None,
    samples: Mapping[str, int],
) -> int:
    """How often a kernel of a network is applied in an optimiser step; those of agents that do not share
    theirs, to their own samples."""
    label = f"{name}/{path.split('/')[0]}"
    seen = samples.get(label, samples.get(name, batch_size))
    return seen * applications(loop.config.agent.network, path, picture)


def _work(
    loop: Loop, agent: Learner, inputs: RunInputs, state: Any, networks: Mapping[str, Any],
    batch_size: int, picture: Picture | None, samples: Mapping[str, int] = MappingProxyType({}),
) -> Work:  # fmt: skip
    """Counts of one learner; ``networks`` are the dense ones."""
    by_stored, stored = loop.config.multiplies_stored, agent.parameters(state)
    supports = agent.supports(state)
    parameters, sparse, dense, traffic = {}, 0, 0, 0
    for name, network in networks.items():
        total = parameter_counts({}, network).total
        sizes = {path: math.prod(shape) for path, shape in prunable_shapes(network).items()}
        uses = {path: _uses_of_batch(loop, name, path, batch_size, picture, samples) for path in sizes}
        kept = sizes | {path: survivors(kept) for path, kept in inputs.budgets[name].items()}
        parameters[name] = ParameterCounts(total, total - sum(sizes.values()) + sum(kept.values()))
        passes = agent.passes[name]
        sparse += 2 * sum(kept[path] * uses[path] for path in sizes) * passes
        dense += 2 * sum(sizes[path] * uses[path] for path in sizes) * passes
        multiplied = _nbytes(stored[name]) if by_stored else _nbytes(network)
        multiplied *= owners(supports.get(name))  # made dense for each of who has a mask of its own
        traffic += multiplied * passes + _nbytes(stored[name]) * agent.traffic[name]
    return Work(parameters, sparse, dense, traffic)


def _beside(loop: Loop, inputs: RunInputs, other: Beside) -> Work:
    """Counts of somebody who learns beside the agent, and is not pruned."""
    networks = other.agent.parameters(other.state)
    nothing: dict[str, Any] = {name: {} for name in networks}
    dense = inputs._replace(budgets=nothing)
    return _work(loop, other.agent, dense, other.state, networks, other.batch_size, other.picture)


def _costs(loop: Loop, inputs: RunInputs, state: Any, networks: Mapping[str, Any]) -> Costs:
    """Count what a run costs. ``networks`` are the dense ones.

    A forward pass reads every surviving weight once (2 FLOPs per weight and sample, in a convolution per
    position too); the gradient with respect to the weights costs as much, and so does the one with
    respect to the inputs. The agent's ``passes`` say how many of these an update makes per network.
    """
    work = loop.workload(state)
    seen = (work.batch_size, loop.env.picture, work.samples)
    own = _work(loop, loop.agent, inputs, state.agent, networks, *seen)
    others = [_beside(loop, inputs, each) for each in work.beside]
    stored = work.copies * _nbytes(state.agent) + sum(_nbytes(each.state) for each in work.beside)
    return Costs(
        parameters=own.parameters,
        updates=work.updates,
        flops_per_update=work.copies * own.sparse + sum(each.sparse for each in others),
        flops_per_update_dense=work.copies * own.dense + sum(each.dense for each in others),
        bytes_per_update=work.copies * own.traffic + sum(each.traffic for each in others),
        state_bytes=stored,
        replay_bytes=_nbytes(work.replay),
        memory_bytes=_memory_bytes(loop.config, stored, work, _widest(loop, networks))
        + _made_dense(loop.config, networks, inputs.budgets),
    )


def _owned(supports: Any) -> list[Owned]:
    """Supports of weights that several agents use."""
    found = jax.tree.leaves(supports, is_leaf=is_support)
    return [support for support in found if isinstance(support, Owned)]


def _with_used(
    loop: Loop, inputs: Sequence[RunInputs], costs: Sequence[Costs], shared: Collection[str]
) -> list[Costs]:
    """Costs with the parameters that are stored of networks which agents use through masks of their own.

    How many weights nobody uses is not told by numbers: these masks are drawn, by one small program.

    Args:
        loop: of the pack.
        inputs, costs: of its runs; as counted, of one agent.
        shared: names of such networks.
    """

    @jax.jit
    def more_of(inputs: RunInputs) -> dict[str, Any]:
        """network → weights that all together keep beyond those of one agent."""
        supports = loop.agent.supports(loop.init(inputs).agent)
        return {
            name: sum(
                jnp.sum(each.used, dtype=jnp.int32) - jnp.sum(each.masks[0], dtype=jnp.int32)
                for each in _owned(supports[name])
            )
            for name in shared
        }

    counted = []
    for each, cost in zip(inputs, costs, strict=True):
        more = {name: int(number) for name, number in more_of(each).items()}
        together = {
            name: counts._replace(nonzero=counts.nonzero + more.get(name, 0))
            for name, counts in cost.parameters.items()
        }
        alone = {name: cost.parameters[name].nonzero for name in more}
        counted.append(cost._replace(parameters=together, each=alone))
    return counted


def count(configs: Sequence[RunConfig], loop: Loop) -> list[tuple[RunInputs, Costs]]:
    """Inputs and costs of a pack's runs. Shapes are the pack's: they are traced once, not per run."""
    networks = dense_networks(loop)
    inputs = [_run_inputs(config, loop, networks) for config in configs]
    inputs = [
        each._replace(drawn=drawn(loop, config, each))
        for config, each in zip(configs, inputs, strict=True)
    ]
    state = jax.eval_shape(loop.init, inputs[0])
    costs = [_costs(loop, each, state, networks) for each in inputs]
    shared = {name for name, of in loop.agent.supports(state.agent).items() if _owned(of)}
    if shared:
        costs = _with_used(loop, inputs, costs, shared)
    for config, each, cost in zip(configs, inputs, costs, strict=True):
        check_exchanges(config, prunable(config, loop.agent, networks), each.budgets, cost.updates)
    return list(zip(inputs, costs, strict=True))
