"""A torch module's parameters: what they are called, which are kernels, what their axes mean.

Wrappers (``torch.compile``, ``DataParallel`` …) are no part of a name, and a parametrised weight goes by
the name of the weight: the same network gets the same masks.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim.swa_utils import AveragedModel

from sparse_rl.pruning import Axes

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
PACKED = (nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)
"""Modules that hold matrices ``[units, inputs]`` under names of their own."""
WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""What wrappers call what they wrap; compiled, sharded and recomputed modules."""
WRAPPING = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)
"""Wrappers that call it ``module``, as others may call a part of theirs."""
KEEP_ZEROS = {"_WeightNorm": "original1", "_SpectralNorm": "original"}
"""Parametrisation → the parameter whose zeros are the weight's."""


class Leaf(NamedTuple):
    """A parameter as flax would have it."""

    path: str
    order: tuple[int, ...]
    """Torch's axes in flax's order."""
    kernel: bool
    """Whether it is pruned unless the caller says otherwise."""
    axes: Axes | None = None
    """What its axes mean, in flax's order, where that does not follow from its name."""
    refused: str | None = None
    """Why its zeros may not be the weight's."""


def plain_name(module: nn.Module, name: str) -> str:
    """The name of a part or parameter without the wrappers around it or around parts of it."""
    part: nn.Module | None = module
    kept = []
    for step in name.split("."):
        wrapped = step in WRAPPERS or (step == "module" and isinstance(part, WRAPPING))
        kept += [] if wrapped else [step]
        part = part._modules.get(step) if part is not None else None
    return ".".join(kept)


def named(module: nn.Module) -> dict[str, nn.Parameter]:
    """Plain name → parameter; a shared one once, by its first name.

    Raises:
        ValueError: a lazy parameter has no shape yet.
    """
    found = {plain_name(module, name): parameter for name, parameter in module.named_parameters()}
    lazy = [name for name, p in found.items() if nn.parameter.is_lazy(p)]
    if lazy:
        raise ValueError(f"{', '.join(lazy)} have no shape yet: run the module once, then prune it")
    return found


def find(module: nn.Module, names: Mapping[str, Any]) -> dict[str, nn.Parameter]:
    """Name, with a wrapper's prefix or without → parameter, every name of a shared one.

    Raises:
        ValueError: no such parameter.
    """
    parameters = {
        plain_name(module, name): parameter
        for name, parameter in module.named_parameters(remove_duplicate=False)
    }

    def known(name: str) -> str | None:
        bare = ".".join(step for step in name.split(".") if step not in WRAPPERS)
        return next((n for n in (name, bare, bare.removeprefix("module.")) if n in parameters), None)

    found = {name: known(name) for name in names}
    unknown = [name for name, place in found.items() if place is None]
    if unknown:
        raise ValueError(f"no parameter {', '.join(unknown)}; choose from {', '.join(parameters)}")
    return {name: parameters[place] for name, place in found.items() if place is not None}


def kernel_names(layer: str) -> list[str]:
    """Names that the parameter with a layer's zeros may have, parametrised or not."""
    originals = sorted(set(KEEP_ZEROS.values()))
    leaves = ["weight", "weight_v", "weight_orig"]
    leaves += [f"parametrizations.weight.{original}" for original in originals]
    return [f"{layer}.{leaf}" if layer else leaf for leaf in leaves]


def _weight(owner: nn.Module, parameter: Tensor) -> tuple[str, tuple[int, ...], Axes | None] | None:
    """Leaf, order and axes of a layer's ``weight``; ``None``: it is no kernel of a known kind."""
    rank = parameter.ndim
    if isinstance(owner, nn.Linear):
        return "kernel", (1, 0), None
    if isinstance(owner, CONVOLUTIONS):
        order, groups = (*range(2, rank), 1, 0), owner.groups
        inputs, out = tuple(range(rank - 1)), parameter.shape[0]
        window = [parameter.shape[axis] for axis in order[:-1]]
        apart = Axes(inputs, (rank,), (*window, groups, out // groups)) if groups > 1 else None
        return "kernel", order, apart or Axes(inputs, (rank - 1,))
    if isinstance(owner, TRANSPOSED):  # torch [inputs, units of a group, *window]
        order, groups = (*range(2, rank), 0, 1), owner.groups
        window = [parameter.shape[axis] for axis in order[:-2]]
        seen = (*window, groups, parameter.shape[0] // groups, parameter.shape[1])
        apart = Axes((*range(rank - 2), rank - 1), (rank,), seen) if groups > 1 else None
        return "kernel", order, apart or Axes(tuple(range(rank - 1)), (rank - 1,))
    if isinstance(owner, nn.Bilinear):
        return "kernel", (1, 2, 0), Axes((0, 1), (2,))
    return None


def _unparametrised(module: nn.Module, name: str) -> tuple[str, str, str | None]:
    """The layer of a parameter, what the layer calls it, and why its zeros may not be the weight's."""
    parts = name.split(".")
    if len(parts) < 3 or parts[-3] != "parametrizations":
        parent, _, leaf = name.rpartition(".")
        return parent, {"weight_v": "weight", "weight_orig": "weight"}.get(leaf, leaf), None
    layer = ".".join(parts[:-3])
    made_by: Any = module.get_submodule(".".join(parts[:-1]))
    kinds = [type(one).__name__ for one in made_by]
    known = KEEP_ZEROS.get(kinds[0]) if len(kinds) == 1 else None
    if known is None:
        several = "" if parts[-1] == "original" else f"_{parts[-1]}"
        return layer, parts[-2] + several, f"is parametrised by {', '.join(kinds)}"
    return layer, parts[-2] if parts[-1] == known else "scale", None


def _leaf(module: nn.Module, name: str, parameter: Tensor) -> Leaf:
    layer, leaf, refused = _unparametrised(module, name)
    owner = module.get_submodule(layer)
    place = [step for step in plain_name(module, layer).split(".") if step] if layer else []
    order = tuple(range(parameter.ndim))
    kernel = _weight(owner, parameter) if leaf == "weight" and parameter.ndim >= 2 else None
    if kernel is not None:
        leaf, order, axes = kernel
        return Leaf("/".join([*place, leaf]), order, True, axes, refused)
    if isinstance(owner, PACKED) and "weight" in leaf and parameter.ndim == 2:
        return Leaf("/".join([*place, leaf]), (1, 0), True, Axes((0,), (1,)), refused)
    if refused is not None and isinstance(owner, (nn.Linear, *CONVOLUTIONS, *TRANSPOSED)):
        return Leaf("/".join([*place, leaf]), order, leaf.startswith("weight"), None, refused)
    if leaf == "weight" and (parameter.ndim == 1 or isinstance(owner, NORMS)):
        leaf = "scale"
    elif leaf == "weight" and isinstance(owner, nn.Embedding | nn.EmbeddingBag):
        leaf = "embedding"
    return Leaf("/".join([*place, leaf]), order, False)


def flax_leaves(module: nn.Module) -> dict[str, Leaf]:
    """Plain name → what a flax network of the same submodules calls the parameter, and how it lies."""
    return {
        plain_name(module, name): _leaf(module, name, parameter)
        for name, parameter in module.named_parameters()
    }
