"""Draw what survives of a parameter pytree, once, at random, before training."""

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from sparse_rl.kernels.flags import check_counting, put_aside
from sparse_rl.kernels.keys import threefry
from sparse_rl.pruning.axes import Axes, Layout, layouts, names
from sparse_rl.pruning.blocks import BlockError, BlockGrid, block_grid, draw_blocks
from sparse_rl.pruning.distributions import Distribution, Shapes, densities, surviving_counts
from sparse_rl.pruning.patterns import PATTERNS, Pattern, banded, constant_fan_in, spread, unstructured
from sparse_rl.pruning.storage import STORAGES, Storage, Support, store, support_masks, support_of
from sparse_rl.pruning.tree import Prunable, default_prunable, path_name, select

COMPACT_FROM_WIDTH = 2048
"""Layers of this many units and more are stored compact by ``auto`` (docs/storage.md)."""

SPREAD_STREAM = 0x73707264
"""Keeps the moves of weights to inputs that nothing reads apart from the draw of the mask."""


@jax.tree_util.register_static
@dataclass(frozen=True)
class FixedCount:
    """A number of survivors that decides shapes, so it belongs to the compiled program."""

    count: int


Kept = Any
"""What a tensor keeps: int32 (may be traced), :class:`FixedCount` or :class:`BlockGrid`."""


class StorageChoice(NamedTuple):
    """How pruned tensors are held, and why."""

    storage: Storage
    reason: str


def choose_storage(storage: Literal["auto"] | Storage, pattern: Pattern, width: int) -> StorageChoice:
    """The storage to use for layers of ``width`` units.

    Raises:
        ValueError: the pattern has no such storage, or either is unknown.
    """
    if pattern not in PATTERNS:
        raise ValueError(f"pattern={pattern!r}; choose one of {', '.join(PATTERNS)}")
    has = STORAGES if pattern == "block" else STORAGES[:2]
    if storage != "auto":
        if storage not in has:
            raise ValueError(
                f"storage={storage!r} is not for pattern={pattern}; choose one of auto, {', '.join(has)}"
            )
        return StorageChoice(storage, "as asked for")
    if pattern == "block":
        return StorageChoice("block", "products skip what the pattern left out")
    if width >= COMPACT_FROM_WIDTH:
        return StorageChoice("compact", f"from width {COMPACT_FROM_WIDTH} on: less state to update")
    return StorageChoice("masked", f"below width {COMPACT_FROM_WIDTH}: one program for every sparsity")


def plan_budget(
    shapes: Shapes,
    sparsity: float,
    *,
    distribution: Distribution = "erdos_renyi",
    pattern: Pattern = "unstructured",
    storage: Storage = "masked",
    block_fan_in: int = 1,
) -> dict[str, Kept]:
    """What each tensor keeps; a tensor that is not named stays dense.

    Survivors sum exactly to ``round((1 − sparsity) · total)``, but for ``block``: blocks come in whole
    numbers, each layer is within 5 % of its share where it has units enough, and the exact number is the
    grid's ``count``.

    Raises:
        ValueError: sparsity out of range or an unknown distribution.
        BlockError: a layer is too small for as few blocks as that; names the sparsity that works.
    """
    if pattern != "block":
        counts = surviving_counts(shapes, sparsity, distribution)
        kept = np.int32 if storage == "masked" else FixedCount
        return {path: kept(count) for path, count in counts.items()}

    grids = _grids(shapes, sparsity, distribution, block_fan_in)
    return {path: grid for path, grid in grids.items() if grid is not None}


def _grids(
    shapes: Shapes, sparsity: float, distribution: Distribution, fan_in: int
) -> dict[str, BlockGrid | None]:
    """Every layer's blocks, or an error that names the nearest sparsity below that has them."""

    def grids(sparsity: float) -> dict[str, BlockGrid | None]:
        wanted = densities(shapes, sparsity, distribution)
        return {path: block_grid(path, shapes[path], wanted[path], fan_in) for path in shapes}

    def works(sparsity: float) -> bool:
        try:
            grids(sparsity)
        except BlockError:
            return False
        return True

    try:
        return grids(sparsity)
    except BlockError as error:
        below = (percent / 100 for percent in range(math.ceil(sparsity * 100) - 1, -1, -1))
        nearest = next(filter(works, below))
        raise BlockError(
            f"sparsity={sparsity:g}: {error}; the nearest sparsity that works is {nearest:g}"
        ) from None


def survivors(kept: Kept) -> int:
    """The number of weights that a tensor keeps."""
    return kept.count if isinstance(kept, FixedCount | BlockGrid) else int(kept)


def _support(
    key: Array,
    name: str,
    shape: tuple[int, ...],
    kept: Kept,
    pattern: Pattern,
    storage: Storage,
    min_fan_in: int,
    min_fan_out: int,
) -> Support:
    key = jax.random.fold_in(key, zlib.crc32(name.encode()))
    if isinstance(kept, BlockGrid):
        blocks = draw_blocks(key, kept)
        if storage == "block":
            if len(shape) != 2:
                raise ValueError(f"{name} is no matrix: with pattern=block, store it masked or compact")
            return blocks
        return support_of(support_masks(blocks).reshape(shape), storage, kept.count)
    count = jnp.asarray(kept.count if isinstance(kept, FixedCount) else kept, jnp.int32)
    matrix = (math.prod(shape[:-1]), shape[-1])
    if pattern == "constant_fan_in":
        mask = constant_fan_in(key, matrix, count)
    elif pattern == "banded":
        mask = banded(key, matrix, count)
    else:
        mask = unstructured(key, matrix, count, min_fan_in)
    if min_fan_out:
        mask = spread(jax.random.fold_in(key, SPREAD_STREAM), mask, min_fan_out)
    return support_of(mask.reshape(shape), storage, kept.count if storage == "compact" else None)


def _stacked_support(
    key: Array,
    path: str,
    layout: Layout,
    budget: Mapping[str, Kept],
    pattern: Pattern,
    storage: Storage,
    min_fan_in: int,
    min_fan_out: int,
) -> Support | None:
    """Of a tensor that is several matrices, or one whose axes lie otherwise: each is drawn by itself."""
    kept = {name: budget[name] for name in names(path, layout) if name in budget}
    if not kept:
        return None
    if storage == "block":
        raise ValueError(
            f"{path} {layout.shape} is no matrix [inputs, units]: with pattern=block, store it masked "
            "or compact"
        )
    masks = [
        support_masks(
            _support(key, name, layout.member, one, pattern, "masked", min_fan_in, min_fan_out)
        )
        for name, one in kept.items()
    ]
    mask = layout.assemble([mask.reshape(layout.member) for mask in masks])
    count = sum(map(survivors, kept.values())) if storage == "compact" else None
    return support_of(mask, storage, count)


def draw_supports(
    key: Array,
    params: Any,
    budget: Mapping[str, Kept],
    *,
    pattern: Pattern = "unstructured",
    storage: Storage = "masked",
    min_fan_in: int = 1,
    seen_as: Mapping[str, Layout] | None = None,
    min_fan_out: Mapping[str, int] = MappingProxyType({}),
) -> Any:
    """Draw which weights survive, given how many: the same ones whatever the process has set for jax.

    Args:
        key: mask key of any implementation (:func:`~sparse_rl.kernels.keys.threefry`); each tensor draws
            from ``fold_in(key, crc32(path))``, so what it keeps depends neither on the other tensors nor
            on the storage.
        params: pytree of arrays (or shapes). A tensor's last axis is its units, the others its inputs,
            unless ``seen_as`` has its path.
        budget: of :func:`plan_budget`, made for the same pattern and storage.
        pattern: which weights of a layer survive.
        storage: how they are held.
        min_fan_in: inputs that each unit keeps at least, where the budget allows (``unstructured``).
        seen_as: path → the matrices that a tensor is made of (:func:`~sparse_rl.pruning.axes.layouts`);
            the budget is by their names.
        min_fan_out: path → units that read each input of this layer at least, where the budget allows
            (``unstructured``, ``constant_fan_in``; with blocks every input is read): for layers that
            read what a network is shown.

    Returns:
        pytree like ``params``: supports, ``None`` where ``budget`` names no path.

    Raises:
        TypeError: ``key`` is no random key.
        ValueError: ``min_fan_out`` with the pattern ``banded``, which says where each weight is; or the
            mask is drawn from inside jit, where threefry was set to count in the old way.
    """
    if pattern == "banded" and any(min_fan_out.values()):
        raise ValueError("pattern=banded says where weights are: it takes no min_fan_out")

    def draw(path: tuple[Any, ...], leaf: Any) -> Support | None:
        name = path_name(path)
        layout = (seen_as or {}).get(name)
        fan = min_fan_in, min_fan_out.get(name, 0)
        if layout is not None and not layout.plain:
            return _stacked_support(key, name, layout, budget, pattern, storage, *fan)
        if name not in budget:
            return None
        return _support(key, name, tuple(leaf.shape), budget[name], pattern, storage, *fan)

    check_counting(key)
    with put_aside():
        key = threefry(key)
        return jax.tree_util.tree_map_with_path(draw, params)


def _counted(shapes: Shapes, counted_as: Shapes) -> Shapes:
    """Shapes, some of them as they are counted."""
    for path, shape in counted_as.items():
        if math.prod(shape) != math.prod(shapes.get(path, ())):
            raise ValueError(f"counted_as: {path} has shape {shapes.get(path)}, which is not {shape}")
    return {**shapes, **counted_as}


def random_supports(
    key: Array,
    params: Any,
    sparsity: float,
    *,
    distribution: Distribution = "erdos_renyi",
    pattern: Pattern = "unstructured",
    storage: Literal["auto"] | Storage = "auto",
    min_fan_in: int = 1,
    min_fan_out: Mapping[str, int] = MappingProxyType({}),
    block_fan_in: int = 1,
    counted_as: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
    prunable: Prunable = default_prunable,
    axes: Mapping[str, Axes] | None = None,
) -> Any:
    """Draw one-shot random static supports for a parameter pytree.

    Args:
        key: mask key (kept apart from the seed that initialises the weights).
        params: pytree of arrays or shapes.
        sparsity: share of prunable weights to remove, in [0, 1); exactly
            ``round((1 − sparsity) · prunable weights)`` survive, ``block`` apart (:func:`plan_budget`).
        distribution: how the survivors are shared among layers.
        pattern: which weights of a layer survive.
        storage: how they are held; ``auto``: :func:`choose_storage` for the widest layer.
        min_fan_in: inputs that each unit keeps at least, where the budget allows (``unstructured``).
        min_fan_out: path → units that read each input of this layer at least, where the budget allows
            (:func:`draw_supports`).
        block_fan_in: blocks that each output group reads at least (``block``).
        counted_as: path → shape that ``erdos_renyi`` counts with, for a kernel that is held in another:
            ``(height, width, channels, units)`` of a convolution that is a matrix.
        prunable: ``(path, leaf) → bool``; by default kernels, never biases, norms or embedding tables. A
            rule of the caller's own is the last word.
        axes: path → what the tensor's axes mean, where names and biases do not say it
            (:func:`~sparse_rl.pruning.flax_axes`).

    Returns:
        pytree like ``params``: supports, ``None`` where dense.

    Raises:
        ValueError: sparsity out of range, nothing to prune, an unknown distribution, pattern or
            storage, or a shape in ``counted_as`` of another number of weights.
        AxesError: a tensor of three or more axes that may be read in several ways.
        BlockError: a layer too small for blocks at this sparsity.
    """
    found = layouts(params, select(params, sparsity, prunable), axes)
    shapes = {name: layout.member for path, layout in found.items() for name in names(path, layout)}
    width = max((shape[-1] for shape in shapes.values()), default=0)
    held = choose_storage(storage, pattern, width).storage
    how: dict[str, Any] = {"pattern": pattern, "storage": held}
    counted, laid = _counted(shapes, counted_as), {"block_fan_in": block_fan_in, **how}
    budget = plan_budget(counted, sparsity, distribution=distribution, **laid)
    fans: dict[str, Any] = {"min_fan_in": min_fan_in, "min_fan_out": min_fan_out}
    return draw_supports(key, params, budget, seen_as=found, **how, **fans)


def prune(key: Array, params: Any, sparsity: float, **options: Any) -> tuple[Any, Any]:
    """Prune parameters at initialisation, before their optimiser is made.

    Takes the arguments of :func:`random_supports`; ``params`` must be arrays.

    Returns:
        what to train, and the supports to use it with in :func:`~sparse_rl.pruning.apply`.
    """
    supports = random_supports(key, params, sparsity, **options)
    return store(supports, params), supports


def random_masks(key: Array, params: Any, sparsity: float, **options: Any) -> Any:
    """The masks of :func:`random_supports`, for a training loop that applies them itself.

    Returns:
        pytree like ``params``: bool arrays, ``None`` where dense.
    """
    return support_masks(random_supports(key, params, sparsity, storage="masked", **options))
