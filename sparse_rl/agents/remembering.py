"""Networks over steps and over whole sequences, whether they remember or not."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.agents.apart import Apart, Network, each, joined, of_labels
from sparse_rl.networks import Memory, Recurrent, forget, remembered
from sparse_rl.pruning import apply, apply_weights, in_layer, is_support, weights


def _of_samples(said: Any) -> Any:
    """What a network says, with leading samples throughout: a Gaussian's deviation is that of all."""
    if not isinstance(said, tuple):
        return said
    mean, log_std = said
    return mean, jnp.broadcast_to(log_std, mean.shape)


def step(
    network: Network, made: Any, supports: Any, memory: Memory, observation: Array
) -> tuple[Any, Memory]:
    """What a network says of n observations, and its memory after them.

    Args:
        network: of ours, with a memory or without, or those of several groups.
        made: its weights, as :func:`~sparse_rl.agents.apart.ready` made them.
        supports: that go with them.
        memory: before them; ``()`` for a network that has none.
        observation: ``[n, observation_size]``.
    """
    if isinstance(network, Apart):

        def one(*of_group: Any) -> tuple[Any, Memory]:
            said, memory = step(*of_group)
            return _of_samples(said), memory

        found = each(network, one, made, supports, (memory, 0), (observation, 0))
        both: tuple[Any, Memory] = joined(found, network, 0)
        return both
    if isinstance(network, Recurrent):
        said: tuple[Any, Memory] = apply_weights(network, made, supports, memory, observation)
        return said
    return apply_weights(network, made, supports, observation), memory


def unroll(
    network: Recurrent, made: Any, supports: Any, memory: Memory, first: Array, observation: Array
) -> tuple[Any, Memory]:
    """What a network says of T steps of n episodes, and its memory after each step.

    The trunk and the heads see all steps at once; only the cell takes one after the other, in flax's own
    code where its matrices are multiplied as they are stored.

    Args:
        network: with a memory.
        made, supports: as of :func:`step`.
        memory: before the first step, each leaf ``[n, M]``.
        first: bool ``[T, n]``: where an episode begins; it begins without memory.
        observation: ``[T, n, observation_size]``.

    Returns:
        What the heads say, each leaf ``[T, n, …]``, and each leaf of the memory as ``[T, n, M]``.
    """
    run = functools.partial(apply_weights, network, made, supports)
    seen = run(observation.reshape(-1, observation.shape[-1]), method="seen")

    by_time = seen.reshape(*first.shape, -1)
    held = jax.tree.leaves(supports.get("cell"), is_leaf=is_support)
    if not any(map(in_layer, held)):
        after, hidden = remembered(network.cell_kind, made["cell"], memory, first, by_time)
        return run(hidden, method="said"), after

    def remember(memory: Memory, now: tuple[Array, Array]) -> Any:
        seen, first = now
        memory, hidden = run(forget(memory, first), seen, method="remembered")
        return memory, (memory, hidden)

    _, (after, hidden) = jax.lax.scan(remember, memory, (by_time, first))
    return run(hidden, method="said"), after


def over_pieces(
    network: Network, params: Any, supports: Any, memory: Memory, first: Array | None, seen: Array
) -> Any:
    """What a network says of samples ``[n, …]``, or, with a memory, of n pieces of C steps,
    ``[n, C, …]``; differentiable.

    Args:
        network: of ours.
        params, supports: as stored.
        memory: with which each piece begins, ``[n, M]``.
        first: bool ``[n, C]``; ``None`` for samples.
        seen: ``[n, observation_size]`` or ``[n, C, observation_size]``.
    """
    if isinstance(network, Apart):

        def one(*of_group: Any) -> Any:
            return _of_samples(over_pieces(*of_group))

        params, supports = of_labels(network, params, supports)
        seen_by = (memory, 0), (first, 0), (seen, 0)
        return joined(each(network, one, params, supports, *seen_by), network, 0)
    if not isinstance(network, Recurrent):
        return apply(network, params, supports, seen)
    assert first is not None
    made = weights(supports, params)
    said, _ = unroll(network, made, supports, memory, first.T, jnp.swapaxes(seen, 0, 1))
    if isinstance(said, tuple):  # a Gaussian: its deviation is the same everywhere
        mean, log_std = said
        return jnp.swapaxes(mean, 0, 1), log_std
    return jnp.swapaxes(said, 0, 1)


def unrolled_values(
    network: Network,
    params: Any,
    supports: Any,
    views: Array,
    first: Array,
    memory: Memory,
) -> tuple[Any, Memory]:
    """What a critic says of a rollout, each leaf ``[T, n, …]``, and its memory after each step.

    Args:
        network: of ours.
        params, supports: as stored.
        views: ``[T·n, observation_size]``.
        first: bool ``[T, n]``.
        memory: before the first step, ``[n, M]``; ``()`` for a network that has none.
    """
    if isinstance(network, Apart):

        def one(network: Any, params: Any, supports: Any, views: Array, *rest: Any) -> Any:
            views = views.reshape(-1, views.shape[-1])
            return unrolled_values(network, params, supports, views, *rest)

        params, supports = of_labels(network, params, supports)
        seen = (views.reshape(*first.shape, -1), 1), (first, 1), (memory, 0)
        both: tuple[Any, Memory] = joined(each(network, one, params, supports, *seen), network, 1)
        return both
    made = weights(supports, params)
    if not isinstance(network, Recurrent):
        said = apply_weights(network, made, supports, views)
        return said.reshape(*first.shape, *said.shape[1:]), memory
    return unroll(network, made, supports, memory, first, views.reshape(*first.shape, -1))
