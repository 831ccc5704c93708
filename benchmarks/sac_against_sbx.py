"""SAC on Pendulum-v1: our compiled packs beside sbx's Python loop (Stable-Baselines3 in JAX).

    make benchmark

Same task, networks (two-layer MLPs of width W, two critics), batch, learning rate and one update per
env step; float32; one row per width and batch. Both are measured twice: one run alone on the machine,
and as many runs as there are cores side by side (ours as one pack, theirs as one process per run).
Compile time is measured apart. Every figure is the median of three repetitions in one process.

The floor is the time that the update's FLOPs take at the machine's measured matrix-product rate.
"""

import argparse
import functools
import json
import statistics
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sparse_rl.kernels.machine import cores

CORES = cores()
ROWS = ((64, 64), (128, 64), (64, 256), (128, 256), (256, 256), (1024, 256))
"""(width, batch size)"""
FIRST = 256
"""Env steps before the first update, in both."""
REPETITIONS = 3

HEADER = """\
{cores} cores; 2048×2048 product: {rate:.0f} GFLOP/s.
Times in ms per env step with its update; compile in s.
one run: alone on the machine. full: one run per core and more; wall time per step and run.
by pack: sbx's one run against a run of our pack. loop: share of sbx's time that is no update.
            |        one run         |      machine full      | by pack |  loop |   floor | compile
width batch |     sbx     ours ratio |     sbx     pack ratio |   ratio |       |         |  sbx ours"""


def steps_for(width: int) -> int:
    """Env steps per repetition: about a second for the smaller networks, some for the largest."""
    return {64: 2000, 128: 1000, 256: 500}.get(width, 100)


def time_sbx(width: int, batch: int) -> dict[str, float]:
    """Seconds per env step (with its update) of sbx's SAC, and seconds to compile."""
    warnings.filterwarnings("ignore")
    import gymnasium
    from sbx import SAC

    started = time.perf_counter()
    model = SAC(
        "MlpPolicy",
        gymnasium.make("Pendulum-v1"),
        policy_kwargs={"net_arch": [width, width]},
        learning_rate=3e-4,
        batch_size=batch,
        learning_starts=FIRST,
        train_freq=1,
        gradient_steps=1,
        seed=0,
    )
    model.learn(FIRST + 20)
    compiled = time.perf_counter() - started
    steps, times = steps_for(width), []
    for _ in range(REPETITIONS):
        begun = time.perf_counter()
        model.learn(steps, reset_num_timesteps=False)
        times.append((time.perf_counter() - begun) / steps)
    return {"step": statistics.median(times), "compile": compiled}


def our_config(width: int, batch: int, steps: int) -> Any:
    """sbx's settings in our words; log points every ``steps``."""
    from sparse_rl.settings.run import run_config

    agent = {
        "network": "mlp",
        "actor_width_ratio": 1.0,
        "clipped_double_q": True,
        "learning_rate": 3e-4,
        "weight_decay": 0.0,
        "batch_size": batch,
        "updates_per_interaction": 1,
        "random_interactions": min(FIRST, steps // 2),
    }
    env = {"source": "gymnax", "task": "Pendulum-v1"}
    # sbx measures no network health; ours is kept to a small batch, for log points come thick here.
    diagnostics = {"max_samples": 256}
    total = 10 * steps
    return run_config(
        {
            "agent": agent,
            "env": env,
            "width": width,
            "env_steps": total,
            "log_every": steps,
            "diagnostics": diagnostics,
        }
    )


def time_ours(width: int, batch: int) -> dict[str, float]:
    """Seconds per env step (with its update): of one run, and per run of a pack on all cores."""
    import jax
    import numpy as np

    from sparse_rl.runs.pack import compile_programs, prepare_pack

    steps = steps_for(width)
    config = our_config(width, batch, steps)
    loop, (run,) = prepare_pack([config])
    programs = compile_programs(loop, [run.inputs], "map")

    def chunk(k: int, state: Any) -> Any:
        state, row = programs.chunk(np.int32(k * steps), state)
        jax.block_until_ready(row)
        return state

    states = [chunk(0, programs.init(run.inputs)) for _ in range(CORES)]
    alone, together = [], []
    for k in range(1, REPETITIONS + 1):
        begun = time.perf_counter()
        states[0] = chunk(k, states[0])
        alone.append((time.perf_counter() - begun) / steps)
        begun = time.perf_counter()
        with ThreadPoolExecutor(CORES) as pool:
            states = list(pool.map(functools.partial(chunk, k + 1), states))
        together.append((time.perf_counter() - begun) / steps / len(states))
    return {
        "step": statistics.median(alone),
        "pack": statistics.median(together),
        "compile": programs.seconds,
        "flops": run.costs.flops_per_update,
    }


def product_rate() -> float:
    """FLOP/s of a large float32 matrix product on all cores, in XLA."""
    import jax
    import jax.numpy as jnp

    x = jnp.ones((2048, 2048))
    product = jax.jit(lambda x: x @ x)
    jax.block_until_ready(product(x))
    times = []
    for _ in range(5):
        started = time.perf_counter()
        jax.block_until_ready(product(x))
        times.append(time.perf_counter() - started)
    return 2 * 2048**3 / statistics.median(times)


def measure(*arguments: object) -> subprocess.Popen[str]:
    """Start one measurement in a process of its own."""
    command = [sys.executable, __file__, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def result(process: subprocess.Popen[str]) -> dict[str, float]:
    output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
    found: dict[str, float] = json.loads(output.splitlines()[-1])
    return found


def compare(width: int, batch: int, rate: float) -> None:
    """Print one row of the table."""
    theirs = result(measure("sbx", width, batch))
    ours = result(measure("ours", width, batch))
    side = [measure("sbx", width, batch) for _ in range(CORES)]
    full = statistics.mean([result(process)["step"] for process in side]) / CORES
    print(
        f"{width:5d} {batch:5d} | {theirs['step'] * 1e3:7.3f} {ours['step'] * 1e3:8.3f} "
        f"{theirs['step'] / ours['step']:4.1f}x | {full * 1e3:7.3f} {ours['pack'] * 1e3:8.3f} "
        f"{full / ours['pack']:4.1f}x | {theirs['step'] / ours['pack']:6.1f}x | "
        f"{1 - ours['step'] / theirs['step']:5.0%} | {ours['flops'] / rate * 1e3:7.3f} | "
        f"{theirs['compile']:4.1f} {ours['compile']:4.1f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("worker", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        kind, *numbers = options.worker
        width, batch = (int(number) for number in numbers)
        print(json.dumps(time_sbx(width, batch) if kind == "sbx" else time_ours(width, batch)))
        return
    rate = product_rate()
    print(HEADER.format(cores=CORES, rate=rate / 1e9))
    for width, batch in ROWS:
        compare(width, batch, rate)


if __name__ == "__main__":
    main()
