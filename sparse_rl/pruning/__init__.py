"""One-shot random static pruning at initialisation, for anybody's parameter pytree.

Knows nothing of agents or environments. Three questions, three files: how many weights each layer
keeps (:mod:`~sparse_rl.pruning.distributions`), which ones (:mod:`~sparse_rl.pruning.patterns`), and
what that does to a pytree (:mod:`~sparse_rl.pruning.masked`).

    params = network.init(key, x)["params"]
    masks = random_masks(mask_key, params, sparsity=0.9)
    params = apply_masks(masks, params)                 # before the optimiser is initialised
    grads = apply_masks(masks, grads)                   # at every update; nothing else is needed
"""

from sparse_rl.pruning.distributions import (
    DISTRIBUTIONS,
    Distribution,
    densities,
    surviving_counts,
)
from sparse_rl.pruning.masked import (
    ParameterCounts,
    apply_masks,
    default_prunable,
    parameter_counts,
    prunable_shapes,
)
from sparse_rl.pruning.patterns import PATTERNS, Pattern, masks_from_counts, random_masks

__all__ = [
    "DISTRIBUTIONS",
    "PATTERNS",
    "Distribution",
    "ParameterCounts",
    "Pattern",
    "apply_masks",
    "default_prunable",
    "densities",
    "masks_from_counts",
    "parameter_counts",
    "prunable_shapes",
    "random_masks",
    "surviving_counts",
]
