"""What an off-policy agent is: a handful of pure functions over one state pytree."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jax import Array

from sparse_rl.agents.replay import Transition

Metrics = dict[str, Array]

WEIGHT_TRAFFIC = {False: 8, True: 11}
"""Reads and writes of each weight per optimiser step, without the passes through the network: AdamW
reads parameter, gradient and two moments and writes them; a target reads both and writes one."""


class RunInputs(NamedTuple):
    """What may differ among the runs of a pack: arrays, never part of the compiled program."""

    seed: Any
    """uint32: everything random about training."""
    mask_seed: Any
    """uint32: everything random about the masks."""
    learning_rate: Any
    """float32."""
    budgets: Mapping[str, Mapping[str, Any]]
    """network → path → what the tensor keeps (:func:`sparse_rl.pruning.plan_budget`); empty for a dense
    network. Numbers of survivors are int32 arrays, but where they decide shapes they are static."""


class OffPolicyAgent(NamedTuple):
    """The functions that the off-policy loop drives. Observations arrive normalised."""

    init: Callable[[Array, RunInputs], Any]
    """``(key, inputs) → state``: parameters (pruned), their supports, optimiser, targets."""
    act: Callable[[Any, Array, Array], Array]
    """``(state, [n, o], key) → [n, a]`` in [−1, 1]: exploring."""
    act_greedily: Callable[[Any, Array], Array]
    """``(state, [n, o]) → [n, a]``: for evaluation."""
    update: Callable[[Any, Transition, Array], tuple[Any, Metrics]]
    """``(state, batch, key) → (state, metrics)``: one optimiser step of the critic and the actor."""
    diagnose: Callable[[Any, Transition], Metrics]
    """``(state, probe batch) → health``."""
    parameters: Callable[[Any], Mapping[str, Any]]
    """``state → network → parameters`` of what is trained and pruned."""
    supports: Callable[[Any], Mapping[str, Any]]
    """``state → network → supports`` of those parameters."""
    passes: Mapping[str, int]
    """network → products with its weights that an update makes: forward passes, gradients with respect
    to weights, and gradients with respect to inputs, one each."""
    with_target: frozenset[str]
    """Networks that keep a moving average of themselves."""
