"""What does a pack of runs gain? Env steps per second of packs, beside one process per run."""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

from sparse_rl.selftest import turns
from sparse_rl.selftest.child import Asked
from sparse_rl.selftest.lines import WRONG, Line, Lines, doing, not_run, row
from sparse_rl.selftest.tasks import TASKS, Task, config_of

MODULE = "sparse_rl.selftest.packs"
SIZES, SMALL_SIZES = (1, 8, 64), (1, 2)
BESIDE = 4
"""Processes of one run each, side by side on the device; where everything is small there are none."""
ROUNDS = 3


def pack(task: Task, quick: bool, size: int) -> Callable[[], float]:
    """A pack of so many runs, compiled; a call trains all of them for a chunk and returns its seconds.

    The layout and the number of threads are those with which packs are trained on this device.
    """
    import jax
    import numpy as np

    from sparse_rl.runs import compile_programs, default_layout, prepare_pack, stack, workers

    loop, runs = prepare_pack([config_of(task, quick, seed) for seed in range(size)])
    layout, inputs = default_layout(loop), [run.inputs for run in runs]
    programs = compile_programs(loop, inputs, layout)
    states = [programs.init(one) for one in (inputs if layout == "map" else [stack(inputs)])]
    first = 0

    def one(state: Any) -> Any:
        return jax.block_until_ready(programs.chunk(np.int32(first), state)[0])

    def chunk() -> float:
        nonlocal states, first
        begun = time.perf_counter()
        with ThreadPoolExecutor(workers(runs, layout)) as threads:
            states = list(threads.map(one, states))
        first += runs[0].config.log_every // runs[0].config.frames_per_interaction
        return time.perf_counter() - begun

    chunk()  # the first is of random actions, and learns less
    return chunk


def steps_per_second(runs: int, steps: int, seconds: float) -> float:
    """Env steps of all runs together. ``steps``: of each."""
    return runs * steps / seconds


def _row(task: Task, quick: bool, runs: int, processes: int, rate: float) -> Line:
    config = config_of(task, quick)
    found = {
        "what": task.name,
        "width": config.width,
        "runs": runs,
        "processes": processes,
        "env steps/s": rate,
        "per run": rate / runs,
    }
    return found | (
        {} if 0.0 < rate < float("inf") else {WRONG: f"{task.name}: {rate} env steps per second"}
    )


def _beside(number: int, quick: bool, how_many: int, steps: int) -> float:
    """Env steps per second of processes of one run each, side by side, all together."""
    with ExitStack() as stack:
        given = [TASKS[number].name, quick]
        every = [stack.enter_context(turns.worker(MODULE, given, {})) for _ in range(how_many)]
        for process in every:
            turns.ready(process)
        rounds = [turns.side_by_side(every) for _ in range(ROUNDS)]
    return statistics.median(
        sum(steps_per_second(1, steps, a["seconds"]) for a in each) for each in rounds
    )


def compared(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each row with its rate over the best that one process per run reaches, alone or side by side."""
    best = max(r["env steps/s"] for r in rows if r["runs"] == r["processes"])
    return [dict(r) | {"over one process per run": r["env steps/s"] / best} for r in rows]


def _of_task(number: int, asked: Asked) -> Lines:
    task = TASKS[number]
    config = config_of(task, asked.quick)
    rows: list[Line] = []
    for runs in SMALL_SIZES if asked.quick else SIZES:
        yield doing(f"{task.name}: {runs} runs in a process")
        chunk = pack(task, asked.quick, runs)
        seconds = statistics.median(chunk() for _ in range(ROUNDS))
        rows.append(_row(task, asked.quick, runs, 1, steps_per_second(runs, config.log_every, seconds)))
        del chunk
    if not asked.quick:
        yield doing(f"{task.name}: {BESIDE} processes of one run")
        rate = _beside(number, asked.quick, BESIDE, config.log_every)
        rows.append(_row(task, asked.quick, BESIDE, BESIDE, rate))
    yield from (row(**found) for found in compared(rows))


def lines_of(asked: Asked) -> Lines:
    """Rows per task: packs of growing size in one process, and processes of one run."""
    import jax

    for number, task in enumerate(TASKS):
        try:
            yield from _of_task(number, asked)
        except ModuleNotFoundError as error:
            yield not_run(task.name, str(error))
        jax.clear_caches()


def main() -> None:
    """A process of one run, measured when asked."""
    from sparse_rl.kernels.compilation import use_cache

    use_cache()
    name, quick = json.loads(sys.argv[1])
    chunk = pack(next(task for task in TASKS if task.name == name), quick, 1)
    turns.answer(lambda: {"seconds": chunk(), "process": os.getpid()})


if __name__ == "__main__":
    main()
