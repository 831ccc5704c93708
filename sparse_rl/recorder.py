"""One run's record on disk while it trains, and the views beside it."""

import functools
import math
import os
import platform
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

import sparse_rl
from sparse_rl import results, views
from sparse_rl.config import RunConfig
from sparse_rl.costs import Costs
from sparse_rl.results import Status

WRITE_EVERY_SECONDS = 2.0
"""Rows are flushed to disk no more often than this, and when the run ends."""


@functools.cache
def _git_commit() -> str | None:
    """Commit of the source tree this package runs from, or ``None`` for an installed wheel."""
    here = Path(__file__).resolve().parent
    git = ["git", "-C", str(here)]
    try:
        top = subprocess.run([*git, "rev-parse", "--show-toplevel"], capture_output=True, text=True)
        if top.returncode or Path(top.stdout.strip()) != here.parent:
            return None
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True)
    except OSError:
        return None
    return commit.stdout.strip() + ("+changes" if changed.stdout.strip() else "") or None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _versions() -> dict[str, str]:
    packages = {name: version(name) for name in ("jax", "jaxlib", "flax", "optax", "numpy")}
    return {"sparse_rl": sparse_rl.__version__, "python": platform.python_version(), **packages}


def identity(config: RunConfig, costs: Costs) -> dict[str, Any]:
    """What a run is and what it costs: the axes of every plot."""
    return {
        "run_id": config.run_id,
        "agent": config.agent.name,
        "network": config.agent.network,
        "env": config.env.name,
        "width": config.width,
        "sparsity": config.sparsity,
        "actor_sparsity": config.actor_sparsity,
        "critic_sparsity": config.critic_sparsity,
        "pattern": config.pruning.pattern,
        "distribution": config.pruning.distribution,
        "storage": config.storage.storage,
        "learning_rate": config.agent.learning_rate,
        "seed": config.seed,
        "mask_seed": config.mask_seed,
        "parameters_total": costs.parameters_total,
        "parameters_nonzero": costs.parameters_nonzero,
        **{f"parameters_total/{name}": c.total for name, c in costs.parameters.items()},
        **{f"parameters_nonzero/{name}": c.nonzero for name, c in costs.parameters.items()},
        "flops_per_update": costs.flops_per_update,
        "flops_per_update_dense": costs.flops_per_update_dense,
        "bytes_per_update": costs.bytes_per_update,
        "state_bytes": costs.state_bytes,
        "replay_bytes": costs.replay_bytes,
    }


class Recorder:
    """Writes a run's directory. Not thread-safe: one recorder belongs to one run."""

    def __init__(self, run_dir: Path, config: RunConfig, costs: Costs, logging: str) -> None:
        device = jax.devices()[0]
        self._dir = run_dir
        self._rows: list[dict[str, float]] = []
        self._started = time.monotonic()
        self._written = -math.inf
        self._record: dict[str, Any] = {
            **identity(config, costs),
            "status": "running",
            "reason": None,
            "started_at": _now(),
            "ended_at": None,
            "device": f"{device.platform}:{device.device_kind}",
            "host": {"name": platform.node(), "processors": os.cpu_count()},
            "versions": _versions(),
            "git_commit": _git_commit(),
            "timings": {},
        }
        results.write_config(run_dir, asdict(config))
        results.write_run(run_dir, self._record)
        (run_dir / results.METRICS).unlink(missing_ok=True)
        self._view = views.open_view(logging, run_dir, self._record, asdict(config))

    def row(self, row: Mapping[str, float]) -> None:
        """Take one log point's numbers."""
        self._rows.append(dict(row))
        self._view.log(row)
        if time.monotonic() - self._written > WRITE_EVERY_SECONDS:
            self._flush()

    def _flush(self) -> None:
        results.write_metrics(self._dir, self._rows)
        self._written = time.monotonic()

    def finish(self, status: Status, reason: str | None, timings: Mapping[str, float]) -> None:
        """Write the last rows and the run's end."""
        if self._rows:
            self._flush()
        self._record |= {
            "status": status,
            "reason": reason,
            "ended_at": _now(),
            "timings": {"total_seconds": time.monotonic() - self._started, **timings},
        }
        results.write_run(self._dir, self._record)
        self._view.close(status)
