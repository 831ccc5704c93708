"""One progress line per pack: live on a terminal, now and then in a log file."""

import contextlib
import math
import re
import threading
import time
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from statistics import fmean
from types import TracebackType

from rich.console import Console
from rich.live import Live

from sparse_rl.records import results
from sparse_rl.records.console import UNKNOWN, duration
from sparse_rl.runs import Progress, Watch
from sparse_rl.settings.run import RunConfig
from sparse_rl.sweeps.grid import Pack

LOG_EVERY_SECONDS = 15.0


def _rate(per_second: float) -> str:
    if not per_second:
        return UNKNOWN
    return f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.2g}"


def _mean(returns: Collection[float]) -> str:
    """The mean of the runs' last evaluations, and of how many runs it is."""
    if not returns:
        return f"last return {UNKNOWN}"
    of = f" (mean of {len(returns)} runs)" if len(returns) > 1 else ""
    return f"last return {fmean(returns):.4g}{of}"


class PackProgress(AbstractContextManager["PackProgress"]):
    """Watches one pack; call it with each :class:`Progress` from any thread."""

    def __init__(self, out: Console, label: str, pack: Pack, before: str = "compiling") -> None:
        self._out, self._label, self._before_first = out, label, before
        self._budgets = {config.run_id: config.env_steps for config in pack}
        self._lock = threading.Lock()
        self._steps: dict[str, int] = {}
        self._updates: dict[str, int] = {}
        self._ended: dict[str, str] = {}
        self._returns: dict[str, float] = {}
        self._first: float | None = None
        self._why = ""
        self._before = self._updates_before = 0
        self._created = self._printed = time.monotonic()
        self._live = Live(console=out, refresh_per_second=4) if out.is_terminal else None

    def __enter__(self) -> "PackProgress":
        if self._live:
            self._live.start()
            self._live.update(f"{self._label}: {self._before_first}")
        else:
            self._out.print(f"{self._label}: {self._before_first}")
        return self

    def wait(self, why: str) -> None:
        """Say why jobs wait, once per set of reasons, however many wait for each."""
        kinds = re.sub(r"\d+ waits? ", "", why)
        with self._lock:
            if kinds and kinds != self._why:
                self._out.print(f"{self._label}: {why}", markup=False)
            self._why = kinds

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()
        else:
            self._out.print(self.line())

    def __call__(self, progress: Progress) -> None:
        with self._lock:
            run = progress.run_id
            if progress.note:
                self._out.print(f"{run}: {progress.note}", markup=False)
                return
            if self._first is None:  # rates leave compilation and earlier attempts out
                self._first = time.monotonic()
            if run not in self._steps:
                self._before += progress.env_steps
                self._updates_before += progress.updates
            self._steps[run] = max(progress.env_steps, self._steps.get(run, 0))
            self._updates[run] = max(progress.updates, self._updates.get(run, 0))
            if math.isfinite(progress.return_mean):
                self._returns[run] = progress.return_mean
            if progress.ended:
                self._ended[run] = progress.ended
            if self._live:
                self._live.update(self.line())
            elif time.monotonic() - self._printed > LOG_EVERY_SECONDS:
                self._printed = time.monotonic()
                self._out.print(self.line())

    def line(self) -> str:
        """env steps/s, updates/s, mean over runs of the return at their last evaluation, time left."""
        seconds = max(time.monotonic() - (self._first or self._created), 1e-9)
        steps, updates = sum(self._steps.values()), sum(self._updates.values())
        total = sum(self._budgets.values())
        # Runs that ended early will not use the rest of their budget.
        unused = sum(self._budgets[run] - self._steps.get(run, 0) for run in self._ended)
        remaining = max(total - unused - steps, 0.0)
        rate = (steps - self._before) / seconds
        troubled = [s for s in self._ended.values() if s != "done"]
        left = duration(remaining / rate if rate else math.inf)
        return (
            f"{self._label}: {len(self._ended)}/{len(self._budgets)} runs ended"
            + (f" ({', '.join(sorted(set(troubled)))})" if troubled else "")
            + f", {steps:,}/{total:,} env steps, {_rate(rate)} env steps/s, "
            f"{_rate((updates - self._updates_before) / seconds)} updates/s, "
            f"{_mean(self._returns.values())}, {left} left"
        )


def poll(
    study_dir: Path, configs: Sequence[RunConfig], watch: Watch, ended: set[str] | None = None
) -> None:
    """Tell a watcher what other processes have written about their runs.

    Args:
        study_dir: folder of the study.
        configs: the runs.
        watch: who is told.
        ended: runs that are not looked at again; those that have ended are added.
    """
    ended = set() if ended is None else ended
    for config in configs:
        if config.run_id in ended:
            continue
        with contextlib.suppress(results.RecordError, OSError):  # seen by whoever trains the run
            record = results.read_run(study_dir / config.run_id)
            if record and "progress" in record:
                so_far, status = record["progress"], record["status"]
                end = status if status in ("done", "diverged", "failed") else None
                if status in ("done", "diverged"):  # what failed may be tried again
                    ended.add(config.run_id)
                told = so_far.get("return_mean")
                score = told if isinstance(told, int | float) else math.nan
                updates = so_far.get("updates", 0)
                watch(Progress(config.run_id, so_far["env_steps"], updates, score, end))


def last_line(log: Path) -> str:
    """What a process wrote last, in one line."""
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return " ".join(lines[-1].split()) if lines else "no output"


def label(config: RunConfig) -> str:
    """What tells a pack from the next: ``width 64 dense``, ``width 64 block 0.9``."""
    if not any(config.sparsities.values()):
        return f"width {config.width} dense"
    pattern, by_shape = config.pruning.pattern, config.storage.storage != "masked"
    return f"width {config.width} {pattern}" + (f" {config.sparsity:g}" if by_shape else "")
