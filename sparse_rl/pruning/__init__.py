"""One-shot random static pruning at initialisation, for anybody's parameter pytree.

Knows nothing of agents or environments. Three questions, three rooms: how many weights each layer keeps
(:mod:`~sparse_rl.pruning.distributions`), which ones (:mod:`~sparse_rl.pruning.patterns` and
:mod:`~sparse_rl.pruning.blocks`), and how they are held (:mod:`~sparse_rl.pruning.storage`).
:mod:`~sparse_rl.pruning.one_shot` answers them together:

    params, supports = prune(mask_key, network.init(key, x)["params"], sparsity=0.9)
    state = optimiser.init(params)
    grads = jax.grad(lambda params: loss(apply(network, params, supports, x)))(params)
"""

from sparse_rl.pruning import dynamic, expected
from sparse_rl.pruning.axes import Axes, AxesError
from sparse_rl.pruning.blocks import FOR_KERNELS, BlockError, BlockGrid
from sparse_rl.pruning.compact import Compact, tiles_of
from sparse_rl.pruning.distributions import DISTRIBUTIONS, Distribution, densities, surviving_counts
from sparse_rl.pruning.dynamic import Change, Method
from sparse_rl.pruning.flax_layers import flax_axes
from sparse_rl.pruning.layers import apply, apply_weights
from sparse_rl.pruning.one_shot import (
    StorageChoice,
    choose_storage,
    draw_supports,
    plan_budget,
    prune,
    random_masks,
    random_supports,
    survivors,
)
from sparse_rl.pruning.patterns import PATTERNS, Pattern, some_inputs
from sparse_rl.pruning.storage import (
    STORAGES,
    Masked,
    Owned,
    Storage,
    connected_units,
    decay_mask,
    dense_shape,
    in_layer,
    is_support,
    owned,
    owned_by,
    owned_weights,
    owners,
    read_inputs,
    restore,
    store,
    support_masks,
    weights,
)
from sparse_rl.pruning.tree import (
    ParameterCounts,
    PassedOverWarning,
    default_prunable,
    parameter_counts,
    path_name,
    prunable_shapes,
)

__all__ = [
    "DISTRIBUTIONS",
    "FOR_KERNELS",
    "PATTERNS",
    "STORAGES",
    "Axes",
    "AxesError",
    "BlockError",
    "BlockGrid",
    "Change",
    "Compact",
    "Distribution",
    "Masked",
    "Method",
    "Owned",
    "ParameterCounts",
    "PassedOverWarning",
    "Pattern",
    "Storage",
    "StorageChoice",
    "apply",
    "apply_weights",
    "choose_storage",
    "connected_units",
    "decay_mask",
    "default_prunable",
    "dense_shape",
    "densities",
    "draw_supports",
    "dynamic",
    "expected",
    "flax_axes",
    "in_layer",
    "is_support",
    "owned",
    "owned_by",
    "owned_weights",
    "owners",
    "parameter_counts",
    "path_name",
    "plan_budget",
    "prunable_shapes",
    "prune",
    "random_masks",
    "random_supports",
    "read_inputs",
    "restore",
    "some_inputs",
    "store",
    "support_masks",
    "surviving_counts",
    "survivors",
    "tiles_of",
    "weights",
]
