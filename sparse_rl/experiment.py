"""One pack of runs: build, compile, train in chunks, evaluate, log."""

import math
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sparse_rl import envs
from sparse_rl.agents import OffPolicyLoop, RunInputs, make_loop
from sparse_rl.config import RunConfig
from sparse_rl.costs import Costs, count
from sparse_rl.recorder import Recorder
from sparse_rl.results import Status

Layout = Literal["map", "vmap"]
"""How a pack shares its program: runs one by one (a few side by side), or batched into one call."""

SIDE_BY_SIDE_FLOPS = 2e9
"""On a CPU, an update above this many FLOPs keeps all cores busy by itself (measured with SimBa at
width 256); below it, one run per core is up to twice as fast."""


class Run(NamedTuple):
    """One run of a pack, ready to train."""

    config: RunConfig
    inputs: RunInputs
    costs: Costs


class PreparedPack(NamedTuple):
    """Runs that share a compiled program, and the loop that it is compiled from."""

    loop: OffPolicyLoop
    runs: list[Run]


class Programs(NamedTuple):
    """A pack's compiled programs; being compiled, they cannot retrace."""

    init: Callable[..., Any]
    chunk: Callable[..., Any]
    evaluate: Callable[..., Any]
    seconds: float
    """Wall time of compilation."""


class Progress(NamedTuple):
    """What a pack tells whoever watches: when a run starts, after each log point, and at its end."""

    run_id: str
    env_steps: int
    updates: int
    return_mean: float
    ended: Status | None


Watch = Callable[[Progress], None]


def default_layout() -> Layout:
    """Batching runs gains nothing on a CPU and much on an accelerator."""
    return "map" if jax.default_backend() == "cpu" else "vmap"


def compiler_options() -> dict[str, str | bool]:
    """How programs are compiled on this device.

    XLA's CPU backend orders a program for concurrency by default: drawing the weights and masks of a
    wide network then holds many dense tensors at once. In the order of least memory updates are as fast.
    """
    if jax.default_backend() != "cpu":
        return {}
    return {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}


def prepare_pack(configs: Sequence[RunConfig]) -> PreparedPack:
    """Build a pack's environment and agent, and count its runs; compiles nothing.

    Args:
        configs: runs that differ only in what :func:`sparse_rl.sweeps.grid.program_of` ignores.
    """
    first = configs[0]
    loop = make_loop(first, envs.make(first.env.source, first.env.task))
    counted = zip(configs, count(configs, loop), strict=True)
    return PreparedPack(loop, [Run(config, inputs, costs) for config, (inputs, costs) in counted])


def _stack(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def compile_programs(loop: OffPolicyLoop, inputs: Sequence[RunInputs], layout: Layout) -> Programs:
    """Compile a pack's three programs, side by side.

    With ``map`` the programs hold one run, so they serve packs of any size; with ``vmap`` all.
    """
    started = time.monotonic()
    init, chunk, evaluate = loop.init, loop.chunk, loop.evaluate
    arguments: Any = inputs[0]
    if layout == "vmap":
        init, chunk = jax.vmap(init), jax.vmap(chunk, in_axes=(None, 0))
        evaluate = jax.vmap(evaluate, in_axes=(None, 0))
        arguments = _stack(inputs)
    first = jax.ShapeDtypeStruct((), jnp.int32)
    state = jax.eval_shape(init, arguments)
    # Traced one after the other (tracing holds Python's lock), compiled side by side.
    lowered = (
        jax.jit(init).lower(arguments),
        jax.jit(chunk, donate_argnums=1).lower(first, state),
        jax.jit(evaluate).lower(first, state),
    )
    options = compiler_options()
    with ThreadPoolExecutor(len(lowered)) as pool:
        init, chunk, evaluate = pool.map(lambda low: low.compile(compiler_options=options), lowered)
    return Programs(init, chunk, evaluate, time.monotonic() - started)


def _divergence(row: Mapping[str, float]) -> str | None:
    """Why a row shows that its run diverged, or ``None``."""
    learned = row["updates_in_chunk"] > 0
    for name, value in row.items():
        checked = name.startswith("param_norm") or (learned and name.startswith(("loss/", "grad_norm/")))
        if checked and not math.isfinite(value):
            return f"{name} is {value}"
    return None


def _unstack(metrics: Mapping[str, Any], layout: Layout, runs: int) -> list[dict[str, float]]:
    """One host transfer; then a dict of floats per run."""
    host = jax.device_get(metrics)
    if layout == "map":
        return [{name: float(value) for name, value in host.items()}]
    return [{name: float(value[i]) for name, value in host.items()} for i in range(runs)]


def _train(
    programs: Programs,
    runs: Sequence[Run],
    recorders: Sequence[Recorder],
    layout: Layout,
    watch: Watch,
    stop: threading.Event,
) -> list[Status]:
    """Train runs in lockstep: a single one (``map``) or a whole pack (``vmap``)."""
    config = runs[0].config
    step = config.log_every // config.frames_per_interaction
    every = config.eval_every // config.log_every
    statuses: list[Status] = ["running"] * len(runs)
    updates = [0] * len(runs)
    started = time.monotonic()

    def end(i: int, status: Status, reason: str | None, env_steps: int) -> None:
        seconds = time.monotonic() - started
        statuses[i] = status
        timings = {
            "compile_seconds": programs.seconds,
            "train_seconds": seconds,
            "env_steps_per_second": env_steps / seconds,
            "updates_per_second": updates[i] / seconds,
        }
        recorders[i].finish(status, reason, timings)
        watch(Progress(runs[i].config.run_id, env_steps, updates[i], math.nan, status))

    inputs = runs[0].inputs if layout == "map" else _stack([run.inputs for run in runs])
    for run in runs:
        watch(Progress(run.config.run_id, 0, 0, math.nan, None))
    state = programs.init(inputs)
    chunks = config.env_steps // config.log_every
    for k in range(chunks):
        state, metrics = programs.chunk(np.int32(k * step), state)
        if (k + 1) % every == 0 or k + 1 == chunks:
            metrics = metrics | programs.evaluate(np.int32((k + 1) * step), state)
        env_steps = (k + 1) * config.log_every
        for i, numbers in enumerate(_unstack(metrics, layout, len(runs))):
            if statuses[i] != "running":
                continue
            reason = _divergence(numbers)
            updates[i] += int(numbers.pop("updates_in_chunk"))
            wall_time = time.monotonic() - started
            head = {"env_steps": env_steps, "updates": updates[i], "wall_time": wall_time}
            recorders[i].row(head | numbers)
            if reason:
                end(i, "diverged", f"{reason} at env_steps={env_steps}", env_steps)
                continue
            score = numbers.get("return_mean", math.nan)
            watch(Progress(runs[i].config.run_id, env_steps, updates[i], score, None))
            if k + 1 == chunks:
                end(i, "done", None, env_steps)
            elif stop.is_set():
                end(i, "preempted", f"interrupted at env_steps={env_steps}", env_steps)
        if "running" not in statuses:
            break
    return statuses


def workers(runs: Sequence[Run], layout: Layout) -> int:
    """Runs that train side by side: one per core on a CPU while a single one cannot fill the cores."""
    if layout == "vmap" or runs[0].costs.flops_per_update_dense > SIDE_BY_SIDE_FLOPS:
        return 1
    return min(len(runs), len(os.sched_getaffinity(0)))


def _run_id(run: Run) -> str:
    return run.config.run_id


def train_pack(
    pack: PreparedPack,
    study_dir: Path,
    *,
    logging: str = "none",
    watch: Watch = lambda progress: None,
    layout: Layout | None = None,
) -> dict[str, Status]:
    """Train runs that share a compiled program, each recorded in ``study_dir/<run_id>``.

    Args:
        pack: what :func:`prepare_pack` made.
        study_dir: folder of the study.
        logging: the view beside the rows on disk (:mod:`sparse_rl.views`).
        watch: called from worker threads after each log point and at each run's end.
        layout: how the runs share the program; by default what suits the device.

    Returns:
        run_id → how it ended. A run that fails or diverges is recorded with its reason and does not
        stop the others.

    Raises:
        KeyboardInterrupt: passed on, after unfinished runs were recorded as ``preempted``.
    """
    layout = layout or default_layout()
    loop, runs = pack
    groups = [[run] for run in runs] if layout == "map" else [runs]
    stop = threading.Event()  # set to end all runs at their next log point

    def record(group: Sequence[Run]) -> list[Recorder]:
        return [Recorder(study_dir / r.config.run_id, r.config, r.costs, logging) for r in group]

    def fail(group: Sequence[Run], recorders: Sequence[Recorder], error: Exception) -> list[Status]:
        for run, recorder in zip(group, recorders, strict=True):
            recorder.finish("failed", f"{type(error).__name__}: {error}", {})
            watch(Progress(run.config.run_id, 0, 0, math.nan, "failed"))
        return ["failed"] * len(group)

    def train(group: Sequence[Run]) -> list[Status]:
        if stop.is_set():
            return ["pending"] * len(group)
        recorders = record(group)
        try:
            return _train(programs, group, recorders, layout, watch, stop)
        except Exception as error:  # a result of the run, not the end of the sweep
            return fail(group, recorders, error)

    try:
        programs = compile_programs(loop, [run.inputs for run in runs], layout)
    except Exception as error:  # out of memory, say
        return dict(zip(map(_run_id, runs), fail(runs, record(runs), error), strict=True))

    with ThreadPoolExecutor(workers(runs, layout)) as pool:
        futures = [pool.submit(train, group) for group in groups]
        try:
            statuses = [status for future in futures for status in future.result()]
        except BaseException:
            stop.set()
            raise
    return dict(zip(map(_run_id, runs), statuses, strict=True))
