"""The same masks and measurements for a ``torch.nn.Module``. Extra ``torch``; the core never imports it.

The maths is not written again: masks come from :mod:`sparse_rl.pruning`, dormancy from
:mod:`sparse_rl.diagnostics`. Feature norm and srank take a torch module's features as an array, as in
``effective_rank(features.numpy())``. :mod:`~sparse_rl.torch_modules.parameters` knows torch's layers,
:mod:`~sparse_rl.torch_modules.masks` prunes, :mod:`~sparse_rl.torch_modules.activations` measures.

    masks = module_masks(critic, 0, sparsity=0.9)
    prune_(critic, masks)  # before the optimiser is made; nothing else is needed
"""

try:
    import torch  # noqa: F401
except ImportError as error:
    raise ImportError("sparse_rl.torch_modules needs torch: pip install 'sparse_rl[torch]'") from error

from sparse_rl.torch_modules.activations import NONLINEARITIES, module_dormancy, record_activations
from sparse_rl.torch_modules.masks import (
    Masks,
    apply_masks_,
    grad_norm,
    module_counts,
    module_masks,
    prune_,
)
from sparse_rl.torch_modules.states import state_dict

__all__ = [
    "NONLINEARITIES",
    "Masks",
    "apply_masks_",
    "grad_norm",
    "module_counts",
    "module_dormancy",
    "module_masks",
    "prune_",
    "record_activations",
    "state_dict",
]
