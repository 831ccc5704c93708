"""One run's record on disk while it trains, and the views beside it."""

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sparse_rl.records import results, views
from sparse_rl.records.results import Status
from sparse_rl.runs.costs import Costs
from sparse_rl.runs.provenance import provenance
from sparse_rl.settings.run import RunConfig

WRITE_EVERY_SECONDS = 2.0
"""Rows are flushed to disk no more often than this, and when the run ends."""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _before(run_dir: Path) -> dict[str, Any]:
    """The record of earlier attempts. One that is damaged makes room, and is kept beside."""
    try:
        return results.read_run(run_dir) or {}
    except results.RecordError:
        results.put_aside(run_dir / results.RUN)
        return {}


def _curriculum(config: RunConfig) -> dict[str, str]:
    """Who chooses the levels, where somebody does."""
    method = config.curriculum.method
    return {} if method == "none" else {"curriculum": method}


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
        "method": config.pruning.method,
        "distribution": config.pruning.distribution,
        "storage": config.storage.storage,
        "products": config.products,
        "learning_rate": config.agent.learning_rate,
        "num_envs": config.agent.num_envs,
        **{name: getattr(config.agent, name) for name in config.agent.RECORDED},
        **_curriculum(config),
        "seed": config.seed,
        "mask_seed": config.mask_seed,
        "parameters_total": costs.parameters_total,
        "parameters_nonzero": costs.parameters_nonzero,
        **{f"parameters_total/{name}": c.total for name, c in costs.parameters.items()},
        **{f"parameters_nonzero/{name}": c.nonzero for name, c in costs.parameters.items()},
        **{f"parameters_each/{name}": number for name, number in costs.each.items()},
        "flops_per_update": costs.flops_per_update,
        "flops_per_update_dense": costs.flops_per_update_dense,
        "bytes_per_update": costs.bytes_per_update,
        "state_bytes": costs.state_bytes,
        "replay_bytes": costs.replay_bytes,
    }


class Recorder:
    """Writes a run's directory. Not thread-safe: one recorder belongs to one run.

    Args:
        run_dir: the run's directory.
        config, costs: of the run.
        logging: the view beside the rows on disk.
        rows: of an earlier attempt, up to the checkpoint from which this one goes on.
        say: told when the view breaks, which ends nothing.
    """

    def __init__(
        self,
        run_dir: Path,
        config: RunConfig,
        costs: Costs,
        logging: str,
        rows: Sequence[Mapping[str, float]] = (),
        say: Callable[[str], None] = print,
    ) -> None:
        here = provenance(config)
        self._dir = run_dir
        self._rows = [dict(row) for row in rows]
        self._started = time.monotonic()
        self._earlier = self._rows[-1][results.WALL_TIME] if rows else 0.0
        self._written = -math.inf
        before = _before(run_dir)
        first = int(self._rows[-1]["env_steps"]) if rows else 0
        reached = before.get("progress", {}).get("env_steps", 0)
        attempt = {
            "started_at": _now(),
            "from_env_steps": first,
            "repeats_env_steps": max(reached - first, 0),
            **here,
        }
        self._record: dict[str, Any] = {
            **identity(config, costs),
            "status": "running",
            "reason": None,
            "started_at": before.get("started_at", attempt["started_at"]),
            "ended_at": None,
            "attempts": [*before.get("attempts", []), attempt],
            **here,
            "timings": {},
        }
        self._record["progress"] = self._progress()
        results.write_config(run_dir, asdict(config))
        results.write_run(run_dir, self._record)
        if not self._rows:
            results.remove_metrics(run_dir)
        self._view = views.open_view(logging, run_dir, self._record, asdict(config), say)
        for row in self._rows:
            self._view.log(row)

    @property
    def updates(self) -> int:
        """Optimiser steps so far."""
        return int(self._rows[-1]["updates"]) if self._rows else 0

    @property
    def best(self) -> int | None:
        """Env steps of the best evaluation so far."""
        return results.best_of(self._rows)

    def row(self, row: Mapping[str, float]) -> None:
        """Take one log point's numbers.

        Rows that cannot be written now (a full disk) are written with the next ones.
        """
        seconds = self._earlier + time.monotonic() - self._started
        self._rows.append({**row, results.WALL_TIME: seconds})
        self._view.log(self._rows[-1])
        if time.monotonic() - self._written > WRITE_EVERY_SECONDS:
            with contextlib.suppress(OSError):
                self.flush()

    def flush(self) -> None:
        """Write all rows so far, and how far that is for whoever watches from outside."""
        results.write_metrics(self._dir, self._rows)
        self._record["progress"] = self._progress()
        results.write_run(self._dir, self._record)
        self._written = time.monotonic()

    def _progress(self) -> dict[str, Any]:
        last = self._rows[-1] if self._rows else {"env_steps": 0}
        scores = (row.get("return_mean", math.nan) for row in reversed(self._rows))
        score = next(filter(math.isfinite, scores), None)
        return {
            "env_steps": int(last["env_steps"]),
            "updates": self.updates,
            "return_mean": score,
            "written_at": _now(),
        }

    def finish(self, status: Status, reason: str | None, timings: Mapping[str, float]) -> None:
        """Write the last rows and the run's end."""
        if self._rows:
            results.write_metrics(self._dir, self._rows)
        self._record |= {
            "progress": self._progress(),
            "status": status,
            "reason": reason,
            "ended_at": _now(),
            "timings": {"total_seconds": self._earlier + time.monotonic() - self._started, **timings},
        }
        results.write_run(self._dir, self._record)
        self._view.close(status)
