"""The study of `make demo`, as it was trained, and with everything that happens to studies."""

import shutil
from pathlib import Path
from typing import Any

from sparse_rl.records import results

TRAINED = Path(__file__).parent / "studies" / "demo"
"""Rows of `make demo` (36 runs of SAC on Pendulum-v1), as this project trained them."""


def study(parent: Path) -> Path:
    """A copy with a run that failed, one that diverged, one half done and one never begun."""
    folder = parent / "hurt"
    shutil.copytree(TRAINED, folder)
    first, second, third, fourth = sorted(results.read_grid(folder))[:4]
    for run_id, status, reason, rows in (
        (first, "failed", "RuntimeError: no space left", 3),
        (second, "diverged", "loss/critic is nan", 7),
        (third, "running", None, 6),
    ):
        record = results.read_run(folder / run_id)
        assert record is not None
        results.write_run(folder / run_id, record | {"status": status, "reason": reason})
        cut: Any = results.read_metrics(folder / run_id).iloc[:rows].to_dict("records")
        results.write_metrics(folder / run_id, cut)
    shutil.rmtree(folder / fourth)
    return folder
