"""What a torch module's nonlinearities put out, and the share of dormant units among it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import jax.numpy as jnp
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakTensorKeyDictionary

from sparse_rl.diagnostics import Dormancy, dormancy
from sparse_rl.torch_modules.masks import Masks
from sparse_rl.torch_modules.parameters import CONVOLUTIONS, TRANSPOSED, kernel_names, plain_name

NONLINEARITIES = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish),
    *(nn.Tanh, nn.Sigmoid, nn.Softplus, nn.Softsign, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid),
)
POOLS = tuple(
    getattr(nn, f"{kind}{rank}d")
    for kind in ("MaxPool", "AvgPool", "AdaptiveMaxPool", "AdaptiveAvgPool", "ZeroPad", "ConstantPad")
    for rank in (1, 2, 3)
)
"""Modules that change a picture's size and no channel."""
RESIZING = (*POOLS, nn.LPPool1d, nn.LPPool2d, nn.Upsample, nn.ReflectionPad2d, nn.ReplicationPad2d)
CHANNELS_FIRST = (
    *CONVOLUTIONS,
    *TRANSPOSED,
    *RESIZING,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.InstanceNorm2d,
)
"""In a network without these, units are on the last axis."""


class Units(NamedTuple):
    """Which units a tensor holds, and where."""

    layer: str | None
    """The layer whose units they are; ``None``: a transposed convolution's, which go by what follows."""
    axis: int
    """From the end."""


def _parts(module: nn.Module) -> dict[str, nn.Module]:
    """Plain name → part; of a wrapper and what it wraps, the latter."""
    return {plain_name(module, name): part for name, part in module.named_modules()}


def _chosen(modules: Mapping[str, nn.Module], names: Iterable[str] | None) -> set[str]:
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


def _samples(output: Tensor, axis: int) -> Tensor:
    """float32 ``[samples, units]``, detached and copied."""
    units_last = output.detach().movedim(axis, -1)
    return units_last.reshape(-1, units_last.shape[-1]).to(torch.float32, copy=True)


def _own_units(part: nn.Module, name: str) -> Units | None:
    """The units that a layer makes."""
    if isinstance(part, nn.Linear):
        return Units(name, -1)
    if isinstance(part, CONVOLUTIONS):
        return Units(name, 1 - part.weight.ndim)
    return Units(None, 1 - part.weight.ndim) if isinstance(part, TRANSPOSED) else None


def _same_units(part: nn.Module, inputs: tuple[Any, ...], output: Any) -> bool:
    """Whether each unit of the output is its unit of the input (a norm, dropout, a nonlinearity)."""
    leaf = not any(True for _ in part.children()) and all(p.ndim <= 1 for p in part.parameters())
    tensors = bool(inputs) and isinstance(inputs[0], Tensor) and isinstance(output, Tensor)
    if not leaf or not tensors or isinstance(part, nn.ChannelShuffle):
        return False
    return inputs[0].shape == output.shape or isinstance(part, RESIZING)


def _unit_axis(name: str, output: Tensor, known: Units | None, told: int | None, pictures: bool) -> int:
    """Where a nonlinearity's units are: as told, as the layer before it has them, or last."""
    if told is not None or known is not None:
        return told if told is not None else known.axis if known is not None else -1
    if output.ndim > 2 and pictures:
        raise ValueError(
            f"{name or 'the module'} puts out {tuple(output.shape)} after no layer that is known, so "
            f'the axis of its units cannot be known; give unit_axis={{"{name}": 1}}'
        )
    return -1


def _watch(
    modules: Mapping[str, nn.Module],
    chosen: set[str],
    axis_of: Callable[[str, Tensor, Units | None], int],
    recorded: dict[str, Tensor],
) -> list[RemovableHandle]:
    """Hooks that follow units through all modules and record what the chosen ones put out."""
    fed_by = WeakTensorKeyDictionary()  # tensor → its Units

    def hook_of(name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def hook(part: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            before = fed_by.get(inputs[0]) if _same_units(part, inputs, output) else None
            units = _own_units(part, name) or before
            if name not in chosen:
                if units is not None:
                    fed_by[output] = units
                return
            if not isinstance(output, Tensor):
                raise ValueError(
                    f"{name} puts out a {type(output).__name__}; choose modules with a tensor"
                )
            label = units.layer if units is not None and units.layer is not None else name
            new = _samples(output, axis_of(name, output, units))
            old = recorded.get(label, new[:0])
            if old.shape[1] != new.shape[1]:
                raise ValueError(
                    f"{label} has {old.shape[1]} units and {new.shape[1]}; give each a module"
                )
            recorded[label] = torch.cat([old, new])

        return hook

    return [part.register_forward_hook(hook_of(name)) for name, part in modules.items()]


@contextmanager
def record_activations(
    module: nn.Module,
    names: Iterable[str] | None = None,
    unit_axis: Mapping[str, int] | None = None,
) -> Iterator[dict[str, Tensor]]:
    """Record what nonlinearities put out in the forward passes inside the ``with`` block.

    As in the JAX networks, an activation is named after the layer that feeds it (``trunk.embed``),
    directly or through norms, dropout and pooling, so one ``nn.ReLU`` may serve several layers. Where
    no layer feeds it (after a sum, say) it has its own name: give each such place a module of its own. A
    sum in place (``h += x``) goes by the layer that made ``h``. Compiled modules run uncompiled inside
    the block, for their parts cannot be watched.

    Args:
        module: its nonlinearities must be modules: a function cannot be hooked.
        names: modules to record; by default every one of ``NONLINEARITIES``, an output's squashing
            included.
        unit_axis: module → axis of its output's units, where no layer before it tells. Units are
            a convolution's channels; in a network without pictures they are last.

    Yields:
        layer → float32 ``[samples, units]``, detached; several passes are put together.

    Raises:
        ValueError: an unknown name, no nonlinearity modules, an output that is no tensor or, in a
            network of pictures, one whose unit axis is not known, or one nameless place used for
            different numbers of units.
    """
    modules, told = _parts(module), dict(unit_axis or {})
    chosen = _chosen(modules, names)
    _chosen(modules, told)
    pictures = any(isinstance(part, CHANNELS_FIRST) for part in modules.values())
    pictures |= any(parameter.ndim > 2 for parameter in module.parameters())
    recorded: dict[str, Tensor] = {}

    def axis_of(name: str, output: Tensor, units: Units | None) -> int:
        return _unit_axis(name, output, units, told.get(name), pictures)

    compiled = any("_orig_mod" in part._modules for part in module.modules())
    handles = _watch(modules, chosen, axis_of, recorded)
    try:
        with torch.compiler.set_stance("force_eager") if compiled else nullcontext():
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
        here = [name for name in kernel_names(layer) if name in (masks or {})]
        dense = torch.ones(activation.shape[1], 1, dtype=torch.bool)
        mask = masks[here[0]] if masks and here else dense
        values[layer] = jnp.asarray(activation.numpy(force=True))
        connected[layer] = jnp.asarray(mask.flatten(1).any(1).numpy(force=True))
    return dormancy(values, connected, threshold)
