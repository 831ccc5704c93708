"""Runs in lockstep, from their first chunk or their last checkpoint to their end."""

import functools
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sparse_rl.agents import RunInputs
from sparse_rl.loops import Loop
from sparse_rl.records import checkpoints, levels, results
from sparse_rl.records.checkpoints import CheckpointError
from sparse_rl.records.results import Status
from sparse_rl.runs.costs import Costs
from sparse_rl.runs.recorder import Recorder
from sparse_rl.runs.remarks import remarks
from sparse_rl.settings.run import RunConfig

Layout = Literal["map", "vmap"]
"""How a pack shares its program: runs one by one (a few side by side), or batched into one call."""


class Run(NamedTuple):
    """One run of a pack, ready to train."""

    config: RunConfig
    inputs: RunInputs
    costs: Costs


class Programs(NamedTuple):
    """A pack's compiled programs; being compiled, they cannot retrace."""

    init: Callable[..., Any]
    chunk: Callable[..., Any]
    evaluate: Callable[..., Any]
    seconds: float
    """Wall time of compilation."""
    show: Callable[..., Any] | None = None
    """Of curricula: ``(interactions, state) → levels for people``; ``None``: there are none to show."""


def _not_compiled(*_: Any) -> Any:
    raise RuntimeError("the pack's programs were not compiled")


NOT_COMPILED = Programs(_not_compiled, _not_compiled, _not_compiled, 0.0)
"""Of runs that can only fail."""


class Progress(NamedTuple):
    """What a pack tells whoever watches: when a run starts, after each log point, and at its end."""

    run_id: str
    env_steps: int
    updates: int
    return_mean: float
    ended: Status | None
    note: str | None = None
    """Something that people should know, but that stops nothing."""


Watch = Callable[[Progress], None]


class Policy(NamedTuple):
    """When the state of a run is written to disk, beside at an interruption."""

    every: int | None = None
    """Env steps between checkpoints, a multiple of ``log_every``; ``None``: by ``seconds``."""
    seconds: float = 60.0
    """At the first log point so long after the last checkpoint."""
    keep: bool = False
    """Whether the state at the end of a run stays."""
    best: bool = False
    """Whether what the best evaluation saw is written beside what a run ends with."""


class Start(NamedTuple):
    """Where runs in lockstep begin."""

    env_steps: int
    states: list[Any]
    """Per run, from its checkpoint; empty at the very start."""
    rows: list[list[dict[str, float]]]
    """Per run, those before."""


def stack(trees: Sequence[Any]) -> Any:
    """Per-run pytrees → one with a leading axis."""

    def joined(*leaves: Any) -> Any:
        typed = jnp.issubdtype(leaves[0].dtype, jax.dtypes.prng_key)
        return jnp.stack(leaves) if typed else np.stack(leaves)

    return jax.tree.map(joined, *trees)


def _rows_until(run_dir: Path, config: RunConfig, env_steps: int) -> list[dict[str, float]]:
    try:
        frame = results.read_metrics(run_dir)
        frame = frame[frame["env_steps"] <= env_steps]
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"its rows are of no use: {error}") from error
    if len(frame) != env_steps // config.log_every:
        raise CheckpointError(
            f"{len(frame)} rows belong to it instead of {env_steps // config.log_every}"
        )
    return frame.to_dict("records")  # type: ignore[return-value]


def find_start(
    loop: Loop, runs: Sequence[Run], study_dir: Path, say: Callable[[str, str], None]
) -> Start:
    """The newest point from which all of the runs can go on.

    A checkpoint that is damaged is passed over for the one before, and ``say(run_id, why)`` is called.
    """
    dirs = [study_dir / run.config.run_id for run in runs]
    shared = set.intersection(*(set(checkpoints.steps(run_dir)) for run_dir in dirs))
    for env_steps in sorted(shared, reverse=True):
        states, rows = [], []
        try:
            for run, run_dir in zip(runs, dirs, strict=True):
                rows.append(_rows_until(run_dir, run.config, env_steps))
                arrays = checkpoints.read_arrays(checkpoints.path_of(run_dir, env_steps))
                states.append(loop.from_disk(arrays, run.inputs))
        except CheckpointError as error:
            say(run.config.run_id, f"checkpoint at env_steps={env_steps} is of no use ({error})")
            continue
        return Start(env_steps, states, rows)
    return Start(0, [], [[] for _ in runs])


def divergence(row: Mapping[str, float]) -> str | None:
    """Why a row shows that its run diverged, or ``None``."""
    learned = row["updates_in_chunk"] > 0
    for name, value in row.items():
        checked = name.startswith("param_norm") or (learned and name.startswith(("loss/", "grad_norm/")))
        if checked and not math.isfinite(value):
            return f"{name} is {value}"
    return None


def _shown(programs: Programs, config: RunConfig, state: Any, env_steps: int) -> checkpoints.Arrays:
    """What is kept of levels now; empty where there are none, or this is no moment for it."""
    if programs.show is None or env_steps not in levels.moments(config.env_steps, config.log_every):
        return {}
    interactions = np.int32(env_steps // config.frames_per_interaction)
    return checkpoints.to_arrays(programs.show(interactions, state))


@dataclass
class Lockstep:
    """Runs that take their chunks together: a single one (``map``) or a whole pack (``vmap``)."""

    loop: Loop
    programs: Programs
    runs: Sequence[Run]
    study_dir: Path
    layout: Layout
    logging: str
    watch: Watch
    policy: Policy
    stop: threading.Event
    """Set from outside to end all runs at their next log point, with a checkpoint."""
    recorders: list[Recorder] = field(default_factory=list)
    statuses: list[Status] = field(default_factory=list)
    _first_updates: list[int] = field(default_factory=list)
    _told: set[tuple[str, str]] = field(default_factory=set)
    """Runs, and what was said of them."""

    def train(self) -> list[Status]:
        """Train from where earlier attempts left off; how each run ended."""
        config = self.runs[0].config
        start = find_start(self.loop, self.runs, self.study_dir, self._note)
        self._open(start)
        inputs = [run.inputs for run in self.runs]
        batched = self.layout == "vmap"
        if start.states:
            state = stack(start.states) if batched else start.states[0]
        else:
            state = self.programs.init(stack(inputs) if batched else inputs[0])
        self._started, self._first = time.monotonic(), start.env_steps
        saved = self._started, start.env_steps

        for env_steps in range(
            start.env_steps + config.log_every, config.env_steps + 1, config.log_every
        ):
            state, metrics = self._chunk(state, env_steps)
            self._record(state, metrics, env_steps)
            self._show(state, env_steps)
            if "running" not in self.statuses:
                break
            stopping = self.stop.is_set()
            if stopping or self._due(env_steps, *saved):
                self._save(state, env_steps)
                saved = time.monotonic(), env_steps
            if stopping:
                self._end_all("preempted", f"interrupted at env_steps={env_steps}", env_steps)
                break
        return self.statuses

    def fail(self, error: Exception) -> list[Status]:
        """Record an error as the end of the runs that had none yet.

        What the system is to blame for (a full disk) interrupts a run, so that it goes on later.
        """
        status: Status = "preempted" if isinstance(error, OSError) else "failed"
        reason = f"{type(error).__name__}: {error}"
        try:
            if not self.recorders:
                self._open(Start(0, [], [[] for _ in self.runs]))
            # Opening may have broken off: runs without a recorder are as they were on disk.
            for recorder, now in zip(self.recorders, self.statuses, strict=False):
                if now == "running":
                    recorder.finish(status, reason, {})
        except OSError as disk:  # what is on disk says running or nothing: it will be taken up
            self._note(self.runs[0].config.run_id, f"{reason}; not recorded: {disk}")
        ended = [status if now == "running" else now for now in self.statuses]
        for run, now in zip(self.runs, ended, strict=True):
            self.watch(Progress(run.config.run_id, 0, 0, math.nan, now))
        return ended

    def _note(self, run_id: str, note: str) -> None:
        self.watch(Progress(run_id, 0, 0, math.nan, None, note))

    def _open(self, start: Start) -> None:
        self.statuses = ["running"] * len(self.runs)
        for run, rows in zip(self.runs, start.rows, strict=True):
            run_dir = self.study_dir / run.config.run_id
            say = functools.partial(self._note, run.config.run_id)
            self.recorders.append(Recorder(run_dir, run.config, run.costs, self.logging, rows, say))
            updates = self.recorders[-1].updates
            self._first_updates.append(updates)
            self.watch(Progress(run.config.run_id, start.env_steps, updates, math.nan, None))

    def _chunk(self, state: Any, env_steps: int) -> tuple[Any, Mapping[str, Any]]:
        """Train to the next log point, and evaluate if it is time."""
        config = self.runs[0].config
        unit = config.frames_per_interaction
        state, metrics = self.programs.chunk(np.int32((env_steps - config.log_every) // unit), state)
        if env_steps % config.eval_every == 0 or env_steps == config.env_steps:
            metrics = metrics | self.programs.evaluate(np.int32(env_steps // unit), state)
        return state, metrics

    def _by_run(self, metrics: Mapping[str, Any]) -> list[dict[str, float]]:
        """One host transfer; then a dict of floats per run."""
        host = jax.device_get(metrics)
        if self.layout == "map":
            return [{name: float(value) for name, value in host.items()}]
        return [{n: float(value[i]) for n, value in host.items()} for i in range(len(self.runs))]

    def _record(self, state: Any, metrics: Mapping[str, Any], env_steps: int) -> None:
        for i, numbers in enumerate(self._by_run(metrics)):
            if self.statuses[i] != "running":
                continue
            run, recorder = self.runs[i].config, self.recorders[i]
            reason = divergence(numbers)
            updates = recorder.updates + int(numbers.pop("updates_in_chunk"))
            recorder.row({"env_steps": env_steps, "updates": updates, **numbers})
            if reason:
                self._end(i, "diverged", f"{reason} at env_steps={env_steps}", env_steps)
                continue
            if numbers.get(results.RESTARTS):
                again = f"environments broke off and were opened again at env_steps≤{env_steps}"
                self._note(run.run_id, f"{again}, {numbers[results.RESTARTS]:g} time(s)")
            if self.policy.best and recorder.best == env_steps:
                self._write_best(state, i, env_steps)
            self._remark(run, numbers, env_steps)
            score = numbers.get("return_mean", math.nan)
            self.watch(Progress(run.run_id, env_steps, updates, score, None))
            if env_steps == run.env_steps:
                trained = self.loop.trained(self._state_of(state, i))
                checkpoints.write_arrays(self.study_dir / run.run_id / results.PARAMETERS, trained)
                if self.policy.keep:
                    arrays = self.loop.to_disk(self._state_of(state, i))
                    checkpoints.save(self.study_dir / run.run_id, env_steps, arrays)
                self._end(i, "done", None, env_steps)

    def _write_best(self, state: Any, i: int, env_steps: int) -> None:
        trained = dict(self.loop.trained(self._state_of(state, i)))
        trained[results.AT] = np.asarray(env_steps, np.int64)
        checkpoints.write_arrays(self.study_dir / self.runs[i].config.run_id / results.BEST, trained)

    def _remark(self, run: RunConfig, numbers: Mapping[str, float], env_steps: int) -> None:
        """Say what people should know of a run, each thing once."""
        for name, words in remarks(run, numbers, env_steps).items():
            if (run.run_id, name) not in self._told:
                self._told.add((run.run_id, name))
                self._note(run.run_id, words)

    def _show(self, state: Any, env_steps: int) -> None:
        """Keep a few of a curriculum's levels for people, now and then."""
        arrays = _shown(self.programs, self.runs[0].config, state, env_steps)
        for i, run in enumerate(self.runs if arrays else ()):
            mine = {n: x[i] for n, x in arrays.items()} if self.layout == "vmap" else arrays
            try:
                levels.add(self.study_dir / run.config.run_id, env_steps, mine)
            except OSError as error:  # costs the levels, not the run
                self._note(run.config.run_id, f"no levels kept at env_steps={env_steps}: {error}")

    def _state_of(self, state: Any, i: int) -> Any:
        """One run's state."""
        return jax.tree.map(lambda leaf: leaf[i], state) if self.layout == "vmap" else state

    def _due(self, env_steps: int, at: float, steps: int) -> bool:
        if self.policy.every:
            return env_steps // self.policy.every > steps // self.policy.every
        return time.monotonic() - at > self.policy.seconds

    def _save(self, state: Any, env_steps: int) -> None:
        """Write what the runs need to go on. A disk that is full costs the checkpoint, not the run."""
        for i, run in enumerate(self.runs):
            if self.statuses[i] != "running":
                continue
            try:
                self.recorders[i].flush()
                arrays = self.loop.to_disk(self._state_of(state, i))
                checkpoints.save(self.study_dir / run.config.run_id, env_steps, arrays)
            except OSError as error:
                self._note(run.config.run_id, f"no checkpoint at env_steps={env_steps}: {error}")

    def _end(self, i: int, status: Status, reason: str | None, env_steps: int) -> None:
        run, updates = self.runs[i].config, self.recorders[i].updates
        seconds = time.monotonic() - self._started
        timings = {
            "compile_seconds": self.programs.seconds,
            "train_seconds": seconds,
            "env_steps_per_second": (env_steps - self._first) / seconds,
            "updates_per_second": (updates - self._first_updates[i]) / seconds,
        }
        self.recorders[i].finish(status, reason, timings)
        self.statuses[i] = status
        if status == "done" and self.policy.keep:
            run_dir = self.study_dir / run.run_id
            checkpoints.remove(run_dir, checkpoints.steps(run_dir)[1:])
        elif status != "preempted":
            checkpoints.remove(self.study_dir / run.run_id)
        self.watch(Progress(run.run_id, env_steps, updates, math.nan, status))

    def _end_all(self, status: Status, reason: str, env_steps: int) -> None:
        for i, now in enumerate(self.statuses):
            if now == "running":
                self._end(i, status, reason, env_steps)
