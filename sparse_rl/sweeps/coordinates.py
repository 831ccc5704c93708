"""A coordinate check of a grid: measured in this process, to a table and a picture."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from sparse_rl.analysis import coordinates
from sparse_rl.records.console import console
from sparse_rl.runs import coordinates_of
from sparse_rl.settings.run import run_config
from sparse_rl.sweeps.grid import packs, unique
from sparse_rl.sweeps.run import study_folder


def check(jobs: Sequence[dict[str, Any]]) -> int:
    """Measure every job of a grid, and write ``coordinates.parquet``, ``.csv`` and ``.png``.

    Args:
        jobs: each job's settings (:func:`sparse_rl.sweeps.compose.compose`).

    Returns:
        Exit status 0.

    Raises:
        ConfigError: a setting is wrong, or a run cannot be checked.
    """
    out, folder = console(), study_folder(jobs[0]["results_dir"], jobs[0]["name"])
    grouped = packs(unique(run_config(job) for job in jobs))
    runs = sum(map(len, grouped))
    out.print(f"coordinate check: {runs} runs in {len(grouped)} programs → {folder}")
    if jobs[0]["plan"]:
        return 0
    rows = []
    for number, pack in enumerate(grouped, start=1):
        rows += list(coordinates_of(pack))
        first = pack[0]
        out.print(
            f"  {number}/{len(grouped)}: {first.agent.name} on {first.env.name}, width {first.width}"
        )
    table = pd.DataFrame(rows)
    folder.mkdir(parents=True, exist_ok=True)
    table.to_parquet(folder / "coordinates.parquet")
    table.to_csv(folder / "coordinates.csv", index=False)
    coordinates.draw(table).savefig(folder / "coordinates.png", dpi=150)
    for line in coordinates.words(table):
        out.print(line, markup=False, soft_wrap=True)
    return 0
