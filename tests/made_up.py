"""Rows of runs that nobody trained, whose every number is known: no two sizes or costs are equal."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from sparse_rl.analysis import series

POINTS = 10
UPDATES = 30
"""Between rows, which are 100 env steps apart."""


def total(width: int) -> int:
    """Parameters of a made-up network: what may be pruned, and 7 that may not."""
    return 10 * width**2 + 7


def nonzero(width: int, sparsity: float) -> int:
    """Those that survive."""
    return round((1 - sparsity) * 10 * width**2) + 7


def flops(width: int, sparsity: float) -> int:
    """Of an update."""
    return 6 * nonzero(width, sparsity)


def rows(
    run_id: str, returns: list[float], sparsity: float = 0.0, width: int = 8, status: str = "done",
    env: str = "probe/x", seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """A run with one row per 100 env steps and 30 updates, 2 seconds apart."""
    points = np.arange(1, len(returns) + 1)
    return pd.DataFrame(
        {
            "env_steps": 100 * points, "updates": UPDATES * points, "wall_time": 2.0 * points,
            "return_mean": returns, "dormant_ratio/critic": 0.5, "run_id": run_id, "study": "s",
            "status": status, "env": env, "agent": "sac", "network": "simba", "pattern": "unstructured",
            "distribution": "uniform", "variant": "", "width": width, "sparsity": sparsity, "seed": seed,
            "mask_seed": seed, "parameters_total": total(width),
            "parameters_nonzero": nonzero(width, sparsity),
            "flops_per_update": flops(width, sparsity), "train_seconds": 2.0 * len(returns),
        }
    )  # fmt: skip


def grid(
    value: Mapping[tuple[int, float], float],
    seeds: tuple[float, ...] = (-1.0, 0.0, 1.0),
    env: str = "probe/x",
) -> pd.DataFrame:
    """(width, sparsity) → return at every evaluation, to which each seed adds its own."""
    return pd.concat(
        [
            rows(f"{width}-{sparsity}-{i}", [at + own] * POINTS, sparsity, width, env=env, seed=i)
            for (width, sparsity), at in value.items()
            for i, own in enumerate(seeds)
        ],
        ignore_index=True,
    )


def only(frame: pd.DataFrame) -> series.Series:
    """The one series of these rows."""
    (found,) = series.split(frame)
    return found
