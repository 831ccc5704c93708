"""How many weights each layer keeps."""

import math
from collections.abc import Mapping
from typing import Literal, get_args

Distribution = Literal["uniform", "erdos_renyi"]
DISTRIBUTIONS: tuple[str, ...] = get_args(Distribution)
Shapes = Mapping[str, tuple[int, ...]]


def check_sparsity(sparsity: float) -> None:
    """Raise ``ValueError`` unless ``0 <= sparsity < 1``."""
    if not 0.0 <= sparsity < 1.0:
        raise ValueError(f"sparsity={sparsity} is out of range; allowed: 0 <= sparsity < 1")


def densities(
    shapes: Shapes, sparsity: float, distribution: Distribution = "erdos_renyi"
) -> dict[str, float]:
    """Share of weights that each tensor keeps.

    ``uniform`` keeps ``1 − sparsity`` everywhere. ``erdos_renyi`` (Mocanu et al. 2018; Evci et al.
    2020, "Rigging the Lottery", with the kernel dimensions counted) keeps a share proportional to
    ``sum(shape) / prod(shape)``, for a matrix ``(n_in + n_out) / (n_in · n_out)``, scaled so that the
    total meets the target. A tensor that would exceed density 1 is made dense, and the rest is solved
    again.

    A convolution counts with its kernel's dimensions, however it is held: give ``(height, width,
    channels, units)``.

    Only the tensors named in ``shapes`` count towards the target. Public DRL code (Ma et al. 2025)
    counts biases and norms too, as one-dimensional tensors that the rule makes dense: pass them as
    well to get its figures.

    Args:
        shapes: path → shape of every tensor that counts.
        sparsity: share of all their weights to remove, in [0, 1).
        distribution: ``uniform`` or ``erdos_renyi``.

    Returns:
        path → density in [0, 1].

    Raises:
        ValueError: sparsity out of range or an unknown distribution.
    """
    check_sparsity(sparsity)
    if distribution == "uniform":
        return dict.fromkeys(shapes, 1.0 - sparsity)
    if distribution != "erdos_renyi":
        raise ValueError(f"distribution={distribution!r}; choose one of {', '.join(DISTRIBUTIONS)}")
    sizes = {path: math.prod(shape) for path, shape in shapes.items()}
    kept_in_all = (1.0 - sparsity) * sum(sizes.values())
    dense: set[str] = set()
    while True:
        # ε · Σ_sparse sum(shape) + Σ_dense size = kept_in_all, for a layer keeps ε · sum(shape).
        sparse = [path for path in shapes if path not in dense]
        weight = sum(sum(shapes[path]) for path in sparse)
        budget = kept_in_all - sum(sizes[path] for path in dense)
        scale = budget / weight if weight else 0.0
        over = {path for path in sparse if scale * sum(shapes[path]) > sizes[path]}
        if not over:
            return {
                path: 1.0 if path in dense else scale * sum(shapes[path]) / sizes[path]
                for path in shapes
            }
        dense |= over


def surviving_counts(
    shapes: Shapes, sparsity: float, distribution: Distribution = "erdos_renyi"
) -> dict[str, int]:
    """Whole numbers of surviving weights per tensor, summing exactly to the target.

    The target is ``round((1 − sparsity) · total)``. Densities are rounded by largest remainder (ties
    by path), so no tensor is off by more than one weight.
    """
    check_sparsity(sparsity)
    sizes = {path: math.prod(shape) for path, shape in shapes.items()}
    target = round((1.0 - sparsity) * sum(sizes.values()))
    ideal = {p: d * sizes[p] for p, d in densities(shapes, sparsity, distribution).items()}
    counts = {path: min(int(ideal[path]), sizes[path]) for path in shapes}
    by_remainder = sorted(shapes, key=lambda p: (counts[p] - ideal[p], p))
    missing = target - sum(counts.values())
    for path in [p for p in by_remainder if counts[p] < sizes[p]][:missing]:
        counts[path] += 1
    return counts
