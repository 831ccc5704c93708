"""The same masks and measurements for a ``torch.nn.Module``. Extra ``torch``; the core never imports it.

The maths is not written again: masks come from :mod:`sparse_rl.pruning`, dormancy from
:mod:`sparse_rl.diagnostics`. Feature norm and srank take a torch module's features as an array, as in
``effective_rank(features.numpy())``.

    masks = module_masks(critic, 0, sparsity=0.9)
    prune_(critic, masks)  # before the optimiser is made; nothing else is needed
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from sparse_rl.diagnostics import Dormancy, dormancy
from sparse_rl.kernels.keys import key_of
from sparse_rl.pruning import ParameterCounts, random_masks

try:
    import torch
except ImportError as error:
    raise ImportError("sparse_rl.torch_modules needs torch: pip install 'sparse_rl[torch]'") from error

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakTensorKeyDictionary

Masks = Mapping[str, Tensor]
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Layers whose weight is a flax kernel: torch ``[out, in, *window]``, flax ``[*window, in, out]``."""
NONLINEARITIES = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish),
    *(nn.Tanh, nn.Sigmoid, nn.Softplus, nn.Softsign, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid),
)


def _flax_leaf(module: nn.Module, name: str, parameter: Tensor) -> tuple[str, tuple[int, ...]]:
    """A parameter's path in a flax network of the same submodules, and its axes in flax's order."""
    parent, _, leaf = name.rpartition(".")
    owner = module.get_submodule(parent)
    axes = tuple(range(parameter.ndim))
    if leaf == "weight" and isinstance(owner, LAYERS):
        leaf, axes = "kernel", (*axes[2:], 1, 0)
    elif leaf == "weight" and isinstance(owner, nn.Embedding):
        leaf = "embedding"
    elif leaf == "weight" and parameter.ndim == 1:
        leaf = "scale"
    return "/".join([*filter(None, parent.split(".")), leaf]), axes


def module_masks(
    module: nn.Module, key: Array | int, sparsity: float, **options: Any
) -> dict[str, Tensor]:
    """Draw the masks that a flax network with the same submodule names and shapes gets for this key.

    By default the weights of linear and convolution layers are prunable. A layer ``trunk.embed`` is the
    path ``trunk/embed/kernel``. Parameters of other kinds (embeddings, transposed convolutions,
    attention's packed projection, anything under a parametrisation) stay dense unless ``prunable``
    picks them; they are seen in torch's layout. A parameter shared by several modules counts once.

    Args:
        module: any module; it is not changed.
        key: JAX mask key, or the seed of one (modulo 2³²).
        sparsity: share of prunable weights to remove, in [0, 1).
        options: of :func:`sparse_rl.pruning.random_masks`: ``distribution``, ``pattern``,
            ``min_fan_in``, ``prunable`` (which is asked about flax paths and shapes).

    Returns:
        parameter name → bool mask with the parameter's shape, on its device, true where it survives.

    Raises:
        ValueError: sparsity out of range, or an unknown distribution or pattern.
    """
    parameters = dict(module.named_parameters())
    leaves = {name: _flax_leaf(module, name, p) for name, p in parameters.items()}
    shapes = {
        path: jax.ShapeDtypeStruct(tuple(parameters[name].shape[axis] for axis in axes), jnp.float32)
        for name, (path, axes) in leaves.items()
    }
    key = key_of(key) if isinstance(key, int | np.integer) else key
    drawn = random_masks(key, shapes, sparsity, **options)
    masks = {}
    for name, (path, axes) in leaves.items():
        if drawn[path] is not None:
            mask = np.transpose(np.asarray(drawn[path]), np.argsort(axes))
            masks[name] = torch.tensor(mask, device=parameters[name].device)
    return masks


def _masked_parameters(module: nn.Module, masks: Masks) -> dict[str, nn.Parameter]:
    """The parameters that have a mask, checked against it."""
    parameters = dict(module.named_parameters())
    unknown = [name for name in masks if name not in parameters]
    if unknown:
        raise ValueError(f"no parameter {', '.join(unknown)}; choose from {', '.join(parameters)}")
    for name, mask in masks.items():
        shape = tuple(parameters[name].shape)
        if mask.dtype != torch.bool or tuple(mask.shape) != shape:
            found = f"{mask.dtype} {tuple(mask.shape)}"
            raise ValueError(f"mask of {name} is {found}; it must be torch.bool {shape}")
    return {name: parameters[name] for name in masks}


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


def _chosen(module: nn.Module, names: Iterable[str] | None) -> set[str]:
    modules = dict(module.named_modules())
    if names is None:
        found = {name for name, part in modules.items() if isinstance(part, NONLINEARITIES)}
        if not found:
            kinds = ", ".join(kind.__name__ for kind in NONLINEARITIES)
            raise ValueError(
                f"no nonlinearity modules ({kinds}); functions cannot be hooked: give names"
            )
        return found
    chosen = set(names)
    unknown = sorted(chosen - set(modules))
    if unknown:
        raise ValueError(
            f"no module {', '.join(unknown)}; choose from {', '.join(filter(None, modules))}"
        )
    return chosen


def _samples(output: Tensor, layer: nn.Module | None) -> Tensor:
    """float32 ``[samples, units]``, detached and copied; a convolution's units are its channels."""
    window = layer.weight.ndim - 2 if isinstance(layer, LAYERS) else 0
    units_last = output.detach().movedim(-1 - window, -1)
    return units_last.reshape(-1, units_last.shape[-1]).to(torch.float32, copy=True)


def _same_units(part: nn.Module, inputs: tuple[Any, ...], output: Any) -> bool:
    """Whether each unit of the output is its unit of the input (a norm, dropout, a nonlinearity)."""
    leaf = not any(True for _ in part.children()) and all(p.ndim <= 1 for p in part.parameters())
    tensors = bool(inputs) and isinstance(inputs[0], Tensor) and isinstance(output, Tensor)
    return leaf and tensors and inputs[0].shape == output.shape


@contextmanager
def record_activations(
    module: nn.Module, names: Iterable[str] | None = None
) -> Iterator[dict[str, Tensor]]:
    """Record what nonlinearities put out in the forward passes inside the ``with`` block.

    As in the JAX networks, an activation is named after the layer that feeds it (``trunk.embed``),
    directly or through norms and dropout, so one ``nn.ReLU`` may serve several layers. Where no layer
    feeds it (after a sum, say) it has its own name: give each such place a module of its own. A sum in
    place (``h += x``) goes by the layer that made ``h``.

    Args:
        module: its nonlinearities must be modules: a function cannot be hooked.
        names: modules to record; by default every one of ``NONLINEARITIES``, an output's squashing
            included.

    Yields:
        layer → float32 ``[samples, units]``, detached; several passes are put together. Without a
        convolution before it, a tensor of three or more axes has its units last.

    Raises:
        ValueError: an unknown name, no nonlinearity modules, an output that is no tensor, or one
            nameless place used for different numbers of units.
    """
    chosen = _chosen(module, names)
    modules = dict(module.named_modules())
    recorded: dict[str, Tensor] = {}
    fed_by = WeakTensorKeyDictionary()  # tensor → the layer whose units it holds

    def hook_of(name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def hook(part: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            same = _same_units(part, inputs, output)
            layer = name if isinstance(part, LAYERS) else fed_by.get(inputs[0]) if same else None
            if name not in chosen:
                if layer is not None:
                    fed_by[output] = layer
                return
            if not isinstance(output, Tensor):
                raise ValueError(
                    f"{name} puts out a {type(output).__name__}; choose modules with a tensor"
                )
            label = layer or name
            new = _samples(output, modules.get(label))
            old = recorded.get(label, new[:0])
            if old.shape[1] != new.shape[1]:
                raise ValueError(
                    f"{label} has {old.shape[1]} units and {new.shape[1]}; give each a module"
                )
            recorded[label] = torch.cat([old, new])

        return hook

    handles = [part.register_forward_hook(hook_of(name)) for name, part in modules.items()]
    try:
        yield recorded
    finally:
        for handle in handles:
            handle.remove()


def module_dormancy(
    activations: Mapping[str, Tensor], masks: Masks | None = None, threshold: float = 0.1
) -> Dormancy:
    """τ-dormant ratio (Sokar et al. 2023), by :func:`sparse_rl.diagnostics.dormancy`.

    Args:
        activations: of :func:`record_activations`: layer → float32 ``[samples, units]``.
        masks: parameter name → mask; units whose inputs are all pruned are left out. ``None``: dense.
        threshold: τ.

    Raises:
        ValueError: no activations.
    """
    if not activations:
        raise ValueError("no activations: run the module inside record_activations")
    values, connected = {}, {}
    for layer, activation in activations.items():
        mask = (masks or {}).get(f"{layer}.weight", torch.ones(activation.shape[1], 1, dtype=torch.bool))
        values[layer] = jnp.asarray(activation.numpy(force=True))
        connected[layer] = jnp.asarray(mask.flatten(1).any(1).numpy(force=True))
    return dormancy(values, connected, threshold)
