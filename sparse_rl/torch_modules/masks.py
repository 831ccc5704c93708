"""Masks of a torch module, and how its parameters stay pruned."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import Array
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from sparse_rl.kernels.keys import key_of
from sparse_rl.pruning import ParameterCounts, PassedOverWarning, random_masks
from sparse_rl.torch_modules.parameters import Leaf, find, flax_leaves, named

Masks = Mapping[str, Tensor]


def module_masks(
    module: nn.Module, key: Array | int, sparsity: float, **options: Any
) -> dict[str, Tensor]:
    """Draw the masks that a flax network with the same submodule names and shapes gets for this key.

    By default the weights of linear, bilinear, recurrent, attention and (transposed) convolution layers
    are prunable, weight-normed and spectral-normed ones included. A layer ``trunk.embed`` is the path
    ``trunk/embed/kernel``; wrappers (``torch.compile``, ``DataParallel``) are no part of it. The groups
    of a convolution are matrices of their own; packed gates and projections are one. Other parameters of
    several axes (embedding tables, a layer's own) stay dense unless ``prunable`` picks them, which a
    warning says. A parameter shared by several modules counts once.

    Args:
        module: any module; it is not changed.
        key: JAX mask key, or the seed of one.
        sparsity: share of prunable weights to remove, in [0, 1).
        options: of :func:`sparse_rl.pruning.random_masks`: ``distribution``, ``pattern``,
            ``min_fan_in``, ``prunable`` (which is asked about flax paths and shapes, and has the last
            word), ``axes`` (of these paths and shapes).

    Returns:
        parameter name, without wrappers → bool mask with the parameter's shape, on its device, true
        where it survives.

    Raises:
        ValueError: sparsity out of range, an unknown distribution or pattern, nothing to prune, a weight
            whose parametrisation need not keep zeros, or a parameter without a shape yet.
    """
    parameters, leaves = named(module), flax_leaves(module)
    shapes = {
        leaf.path: jax.ShapeDtypeStruct([parameters[name].shape[a] for a in leaf.order], jnp.float32)
        for name, leaf in leaves.items()
    }
    if "prunable" not in options:
        options["prunable"] = _by_default(parameters, leaves, sparsity)
    told = {leaf.path: leaf.axes for leaf in leaves.values() if leaf.axes is not None}
    options["axes"] = told | dict(options.get("axes") or {})
    key = key_of(key) if isinstance(key, int | np.integer) else key
    drawn = random_masks(key, shapes, sparsity, **options)
    masks = {}
    for name, leaf in leaves.items():
        if drawn[leaf.path] is not None:
            mask = np.transpose(np.asarray(drawn[leaf.path]), np.argsort(leaf.order))
            masks[name] = torch.tensor(mask, device=parameters[name].device)
    return masks


def _by_default(
    parameters: Mapping[str, nn.Parameter], leaves: Mapping[str, Leaf], sparsity: float
) -> Callable[[str, Any], bool]:
    """Which paths are kernels; what looks like one and is none is named."""
    for name, leaf in leaves.items():
        if sparsity > 0 and leaf.kernel and leaf.refused:
            raise ValueError(
                f"{name} {leaf.refused}: its zeros need not be the weight's. Remove the parametrisation "
                "before pruning, or say which weights are prunable: prunable=lambda path, leaf: …"
            )
    kernels = {leaf.path for leaf in leaves.values() if leaf.kernel}
    over = [
        f"{name} {tuple(parameters[name].shape)}"
        for name, leaf in leaves.items()
        if not leaf.kernel and parameters[name].ndim >= 2 and not leaf.path.endswith("scale")
    ]
    if over and sparsity > 0 and kernels:
        warnings.warn(
            f"left dense: {', '.join(over)}; to prune them, or to leave them without this warning, say "
            "which are weights: prunable=lambda path, leaf: …",
            PassedOverWarning,
            stacklevel=3,
        )
    return lambda path, leaf: path in kernels


def _masked_parameters(module: nn.Module, masks: Masks) -> dict[str, nn.Parameter]:
    """The parameters that have a mask, checked against it."""
    parameters = find(module, masks)
    for name, mask in masks.items():
        shape = tuple(parameters[name].shape)
        if mask.dtype != torch.bool or tuple(mask.shape) != shape:
            found = f"{mask.dtype} {tuple(mask.shape)}"
            raise ValueError(f"mask of {name} is {found}; it must be torch.bool {shape}")
    return parameters


@torch.no_grad()
def apply_masks_(module: nn.Module, masks: Masks) -> None:
    """Zero the pruned entries of parameters, and of gradients that are there, in place.

    Raises:
        ValueError: a mask names no parameter, or has another shape or dtype.
    """
    for name, parameter in _masked_parameters(module, masks).items():
        pruned = ~masks[name].to(parameter.device)
        parameter.masked_fill_(pruned, 0)
        if parameter.grad is not None:
            parameter.grad.masked_fill_(pruned, 0)


def _keep(mask: Tensor) -> Callable[[Tensor], Tensor]:
    def hook(gradient: Tensor) -> Tensor:
        nonlocal mask
        mask = mask.to(gradient.device)  # moved once, if the module was moved after pruning
        return torch.where(mask, gradient, 0.0)  # a product would let NaN and infinity through

    return hook


def prune_(module: nn.Module, masks: Masks) -> list[RemovableHandle]:
    """Zero pruned weights in place and keep them zero: a hook on each parameter masks its gradient.

    With a zero weight and an always zero gradient, every optimiser that works entry by entry (SGD, Adam,
    AdamW, RMSprop …) holds exact zeros there in its moments and updates, weight decay of either kind
    included, and so does a target network that copies or averages the weights. Call it before the
    optimiser is made. What it cannot see, and what to do:

    - ``deepcopy`` copies the zeros but not the hooks. A target gets no gradient and needs none; a copy
      that is to be trained must be pruned itself.
    - Weights written from outside (a reset, ``load_state_dict`` of dense weights), gradients written to
      ``.grad`` by hand (added noise), and optimisers that mix entries (Muon): call :func:`apply_masks_`
      afterwards. ``load_state_dict(assign=True)`` makes new parameters: prune again.
    - A library that loads a model anew makes new parameters: prune again with the same key, which draws
      the same masks.
    - Adam's ``eps`` must not be 0, which makes 0/0 of a zero moment.
    - ``torch.func`` transforms run no hooks: mask their gradients yourself.

    A second call prunes further: what both masks keep survives. To change masks, remove the handles.

    Args:
        module: trainable module; its parameters' hooks survive ``requires_grad_``, ``to`` and ``half``.
        masks: parameter name → bool mask of the parameter's shape.

    Returns:
        a handle per mask, whose ``remove()`` lets the pruned weights be trained again.

    Raises:
        ValueError: a mask names no parameter, has another shape or dtype, or its parameter is frozen.
    """
    parameters = _masked_parameters(module, masks)
    frozen = [name for name, parameter in parameters.items() if not parameter.requires_grad]
    if frozen:
        raise ValueError(
            f"{', '.join(frozen)} takes no gradient, so no hook; apply_masks_ is enough for a network "
            "that is not trained, else call requires_grad_() first"
        )
    apply_masks_(module, masks)
    return [parameter.register_hook(_keep(masks[name])) for name, parameter in parameters.items()]


def module_counts(module: nn.Module, masks: Masks) -> ParameterCounts:
    """Count parameters in all and those that survive the masks (a count of places, not of values).

    Raises:
        ValueError: a mask names no parameter, or has another shape or dtype.
    """
    _masked_parameters(module, masks)
    total = sum(parameter.numel() for parameter in module.parameters())
    return ParameterCounts(total, total - sum(int((~mask).sum()) for mask in masks.values()))


def grad_norm(module: nn.Module) -> Tensor:
    """Global L2 norm of all gradients, a scalar; 0 if there are none. Call before clipping.

    Pruned places hold exact zeros after :func:`prune_`, so they do not count.
    """
    return nn.utils.get_total_norm([p.grad for p in module.parameters() if p.grad is not None])
