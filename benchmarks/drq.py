"""DrQ-v2 on pixels: frames per second, milliseconds per update and memory, beside the public update.

    make drq-benchmark
    python benchmarks/drq.py --public DIRECTORY     # with drqv2.py and utils.py of the public repository

Every measurement has a process of its own that is bound to one core, because runs of a pack train one
per core, and counts that process's processor time: on a quiet machine the wall's, on a busy one less
wrong than the wall's. With ``--public``, the public agent's ``update`` is measured too, on one thread of
PyTorch, at the published picture (84×84, nine channels) and the row's width and batch, on batches that
lie ready: neither its replay loader nor an environment is in its time; ours samples from its replay and
acts.
"""

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from sparse_rl.kernels.machine import core_numbers, cores, keep_to

REPETITIONS = 3
HEADER = """\
One core of {cores}, load {load:.1f} before; processor time.
env: frames/s of the environment alone, drawing included.
train: frames/s with updates. floor: the update's FLOPs at the rate of a 1024×1024 product
({rate:.0f} GFLOP/s). replay: bytes kept per interaction; stacks: those of both observations, stacked.
run: memory of a run of 100,000 frames, health on 256 samples, MB; compile in s.
preset    width batch picture    |   env/s train/s | ms/update floor public |   replay    stacks | \
   run compile"""


class Row(NamedTuple):
    """One line of the table."""

    preset: str
    size: int
    colour: str
    width: int
    batch: int
    updates: int
    """Per repetition."""


FEW = 8
"""Samples for a log point's health while updates are timed: it comes once in thousands of them."""
USUAL = 256
ROWS = (
    Row("drq_small", 48, "grey", 64, 128, 100),
    Row("drq_small", 48, "grey", 128, 128, 100),
    Row("drq_small", 48, "grey", 256, 128, 50),
    Row("drq", 84, "rgb", 1024, 32, 10),  # the published sizes, but for the batch
)


def preset(name: str) -> dict[str, Any]:
    """An agent's settings from the package's configuration."""
    import yaml

    import sparse_rl

    folder = Path(sparse_rl.__file__).parent / "conf" / "agent"
    settings: dict[str, Any] = yaml.safe_load((folder / f"{name}.yaml").read_text())
    defaults = settings.pop("defaults", [])
    return (preset(defaults[0]) if defaults else {}) | settings


def our_config(row: Row, samples: int) -> Any:
    """A run whose chunks hold the row's updates, and whose health takes so many samples at most."""
    from sparse_rl.settings.run import run_config

    agent = preset(row.preset) | {"batch_size": row.batch}
    env = {"source": "pixels", "task": "cartpole_swingup", "size": row.size, "colour": row.colour}
    interactions = int(row.updates / agent["updates_per_interaction"])
    agent["random_interactions"], chunk = interactions, 2 * interactions
    budget = {"env_steps": 100_000 // chunk * chunk, "log_every": chunk, "eval_every": chunk}
    env |= {"action_repeat": 2, "frames": 3}
    diagnostics = {"max_samples": samples}
    return run_config(
        {"agent": agent, "env": env, "width": row.width, "diagnostics": diagnostics, **budget}
    )


def time_env(loop: Any) -> float:
    """Frames per second of one environment that is acted on at random."""
    import jax

    from sparse_rl.envs import vector

    def roll(state: Any, key: Any) -> Any:
        def one(i: Any, state: Any) -> Any:
            now = jax.random.fold_in(key, i)
            action = jax.random.uniform(now, (1, 1), minval=-1.0)
            return vector.step(loop.env, now, state, action, 2)[0]

        return jax.lax.fori_loop(0, 2000, one, state)

    run, state = jax.jit(roll), vector.reset(loop.env, jax.random.key(0), 1)
    times = []
    for i in range(REPETITIONS + 1):
        started = time.process_time()
        state = jax.block_until_ready(run(state, jax.random.key(i)))
        times.append(time.process_time() - started)
    return 4000 / statistics.median(times[1:])


def time_ours(row: Row) -> dict[str, float]:
    """Rates and memory of one run."""
    import jax
    import numpy as np

    from sparse_rl.runs.pack import compile_programs, prepare_pack

    _, (usual,) = prepare_pack([our_config(row, USUAL)])
    config = our_config(row, FEW)
    loop, (run,) = prepare_pack([config])
    started = time.process_time()
    programs = compile_programs(loop, [run.inputs], "map")
    compiled = time.process_time() - started
    state, interactions = programs.init(run.inputs), config.log_every // 2
    times: list[float] = []
    k = 0
    while len(times) < REPETITIONS:
        started = time.process_time()
        state, numbers = programs.chunk(np.int32(k * interactions), state)
        jax.block_until_ready(state)
        if k:  # the first chunk acts at random
            times.append((time.process_time() - started) / float(numbers["updates_in_chunk"]))
        k += 1
    update = statistics.median(times)
    pictures = loop.config.interactions
    return {
        "env": time_env(loop),
        "train": config.log_every / row.updates / update,
        "update": update,
        "flops": run.costs.flops_per_update,
        "replay": run.costs.replay_bytes / pictures,
        "stacks": 2 * loop.env.observation_size,
        "memory": usual.costs.memory_bytes,
        "compile": compiled,
    }


def time_public(row: Row, directory: str) -> dict[str, float]:
    """Seconds per update of the public agent, on one thread."""
    import numpy as np
    import torch

    sys.path.insert(0, directory)
    torch.set_num_threads(1)
    settings = preset(row.preset)
    features = max(1, round(settings["feature_width_ratio"] * row.width))
    agent = importlib.import_module("drqv2").DrQV2Agent(
        (9, 84, 84), (1,), "cpu", 1e-4, features, row.width, 0.01, 0, 1, "linear(1.0,0.1,100000)", 0.3,
        False,
    )  # fmt: skip
    rng = np.random.default_rng(0)

    def batches() -> Any:
        pictures = rng.integers(0, 256, (2, row.batch, 9, 84, 84), dtype=np.uint8)
        one = np.ones((row.batch, 1), np.float32)
        while True:
            yield pictures[0], 0.1 * one, one, 0.97 * one, pictures[1]

    source, times = batches(), []
    for i in range(row.updates + 1):
        started = time.process_time()
        agent.update(source, i)
        times.append(time.process_time() - started)
    return {"update": statistics.median(times[1:])}


def product_rate() -> dict[str, float]:
    """FLOP/s of a float32 matrix product in XLA, on this core."""
    import jax
    import jax.numpy as jnp

    x = jnp.ones((1024, 1024))
    product, times = jax.jit(lambda x: x @ x), []
    for _ in range(6):
        started = time.process_time()
        jax.block_until_ready(product(x))
        times.append(time.process_time() - started)
    return {"rate": 2 * 1024**3 / statistics.median(times[1:])}


def measure(*arguments: object) -> dict[str, float]:
    """One measurement in a process of its own, bound to one core."""
    core = min(core_numbers())
    command = [sys.executable, __file__, "--worker", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=lambda: keep_to([core]))
    if done.returncode:
        raise RuntimeError(f"{command!r} ended with {done.returncode}:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(place: int, rate: float, public: str | None) -> None:
    """Print one row of the table."""
    row, ours = ROWS[place], measure("ours", place)
    at_hand = public is not None and row.preset == "drq"  # its picture and channels are fixed
    theirs = f"{measure('public', place, public)['update'] * 1e3:6.0f}" if at_hand else "     –"
    picture = f"{row.size}×{row.size} {row.colour}"
    print(
        f"{row.preset:9s} {row.width:5d} {row.batch:5d} {picture:10s} | "
        f"{ours['env']:7.0f} {ours['train']:7.1f} | {ours['update'] * 1e3:9.1f} "
        f"{ours['flops'] / rate * 1e3:5.1f} {theirs} | {ours['replay']:8.0f} "
        f"{ours['stacks']:9.0f} | {ours['memory'] / 1e6:6.0f} {ours['compile']:7.1f}",
        flush=True,
    )


def worker(kind: str, arguments: list[str]) -> dict[str, float]:
    """What a process of its own measures."""
    if kind == "rate":
        return product_rate()
    row = ROWS[int(arguments[0])]
    return time_public(row, arguments[1]) if kind == "public" else time_ours(row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--public", help="folder with drqv2.py and utils.py")
    parser.add_argument("--worker", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        kind, *arguments = options.worker
        print(json.dumps(worker(kind, arguments)))
        return
    load, rate = os.getloadavg()[0], measure("rate")["rate"]
    print(HEADER.format(cores=cores(), load=load, rate=rate / 1e9))
    for place in range(len(ROWS)):
        compare(place, rate, options.public)


if __name__ == "__main__":
    main()
