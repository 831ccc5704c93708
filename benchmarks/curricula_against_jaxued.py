"""DR, robust PLR and ACCEL beside JaxUED's scripts: env steps per second at equal settings.

    git clone https://github.com/DramaCow/jaxued ~/jaxued
    python benchmarks/curricula_against_jaxued.py ~/jaxued

Mazes of 13×13 with 25 walls, 32 levels × 256 frames, five epochs of one minibatch, LSTM of 256, a buffer
of 4,000: their defaults, float32. Their files are read as they are; ``wandb``, ``orbax`` and ``distrax``
are stood in for, and ``main`` hands out its ``train_step`` before it trains (``CHANGES``). Both sides
replay from the second cycle on (``minimum_fill``), so that what is timed is a run's steady state: with
theirs of half a buffer the first 63 cycles would have new levels alone. Cycles that learn are drawn by
each side's own keys: their share is told, and theirs compute their updates in all others too and throw
them away.

What differs: theirs has one trunk with a head of 32 units each, ours an actor and a critic, each with a
trunk of its own and a linear head: about twice the arithmetic a frame. DR of theirs goes on in its
episodes and draws new levels at every step; ours begins anew in every cycle. Ours measures the networks'
health at the end.

Each measurement is a process of its own, and they take turns; compilation is apart; figures are medians
of the rounds. Seconds of the processors (of all threads) are told too: they hardly depend on what else
the machine does. The floor is the time that our updates' FLOPs take at the machine's measured
matrix-product rate.
"""

import argparse
import json
import math
import statistics
import sys
import time
import types
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ppo_against_purejaxrl import Categorical, in_a_process
from sac_against_sbx import product_rate

from sparse_rl.kernels.machine import cores
from sparse_rl.runs.pack import compile_programs, one_blas_thread, prepare_pack
from sparse_rl.settings.run import run_config

CORES = cores()
CYCLES = 4
"""That are timed at once."""
LIMIT = 500
"""Seconds for one measurement, compilation included."""
FRAMES = 32 * 256
"""Of a cycle."""
METHODS = {"dr": "maze_dr.py", "plr_robust": "maze_plr.py", "accel": "maze_plr.py"}
"""Ours → their file."""
FILL = 32 / 4000
THEIRS = {
    "run_name": "speed", "group_name": "speed", "seed": 0, "mode": "train",
    "checkpoint_save_interval": 0, "eval_freq": 250, "eval_num_attempts": 10,
    "eval_levels": ["SixteenRooms"], "lr": 1e-4,
    "max_grad_norm": 0.5, "num_updates": 30000, "num_steps": 256, "num_train_envs": 32,
    "num_minibatches": 1, "gamma": 0.995, "epoch_ppo": 5, "clip_eps": 0.2, "gae_lambda": 0.98,
    "entropy_coeff": 1e-3, "critic_coeff": 0.5, "score_function": "MaxMC",
    "exploratory_grad_updates": False, "level_buffer_capacity": 4000, "replay_prob": 0.8,
    "staleness_coeff": 0.3, "temperature": 0.3, "topk_k": 4, "minimum_fill_ratio": FILL,
    "prioritization": "rank", "buffer_duplicate_check": True, "num_edits": 5, "agent_view_size": 5,
    "n_walls": 25,
}  # fmt: skip
"""Defaults of their command line, but for how full the buffer must be."""
CHANGES = (
    (
        "    # Set up the train states\n",
        "    return train_step, create_train_state\n    # Set up the train states\n",
    ),
)
"""Of both files: ``main`` returns what it would train with."""


def load(copy: Path, file: str) -> types.ModuleType:
    """One of their scripts as a module, changed as ``CHANGES`` says."""

    def stand_in(name: str, **held: Any) -> types.ModuleType:
        module = types.ModuleType(name)
        module.__dict__.update(held)
        sys.modules[name] = module
        return module

    silent = {"init": lambda **_: None, "define_metric": lambda *_, **__: None}
    stand_in("wandb", **silent, config=None)
    stand_in("distrax", Categorical=lambda logits: Categorical(logits))
    checkpoint = stand_in("orbax.checkpoint", CheckpointManager=None)
    stand_in("orbax", checkpoint=checkpoint)
    sys.path.insert(0, str(copy / "src"))
    text = (copy / "examples" / file).read_text()
    for old, new in CHANGES:
        if text.count(old) != 1:
            raise SystemExit(f"{copy / 'examples' / file}: {old.strip()!r} is not there once")
        text = text.replace(old, new)
    module = types.ModuleType(Path(file).stem)
    sys.modules[module.__name__] = module
    exec(compile(text, file, "exec"), module.__dict__)
    return module


class Theirs:
    """Their side of a method."""

    def __init__(self, copy: Path, method: str) -> None:
        module = load(copy, METHODS[method])
        config = THEIRS | {"use_accel": method == "accel"}
        sys.modules["wandb"].config = config  # type: ignore[attr-defined]
        step, create = module.main(config)
        first, second = jax.random.split(jax.random.PRNGKey(0))
        self.state = (second, create(first))

        def run(state: Any) -> Any:
            return jax.lax.scan(step, state, None, CYCLES)[0]

        self.program = jax.jit(run).lower(self.state).compile()

    def cycles(self) -> float:
        """Train some; the share of them that learned."""
        before = self.replays
        self.state = jax.block_until_ready(self.program(self.state))
        return (self.replays - before) / CYCLES

    @property
    def replays(self) -> int:
        """Cycles so far that learned."""
        train = self.state[1]
        every = not hasattr(train, "num_replay_updates")
        return int(train.update_count if every else train.num_replay_updates)


def our_config(method: str) -> Any:
    """A run with their settings in our words; it is never trained to its end."""
    agent = {
        "name": "ppo", "network": "minigrid", "memory": "lstm", "memory_width_ratio": 2.0,
        "num_envs": 32, "num_steps": 256, "epochs": 5, "minibatches": 1, "discount": 0.995,
        "gae_lambda": 0.98, "clip_ratio": 0.2, "value_clip": 0.2, "entropy_coefficient": 1e-3,
        "max_grad_norm": 0.5, "learning_rate": 1e-4, "learning_rate_schedule": "linear",
    }  # fmt: skip
    replays = {
        "buffer_size": 4000, "minimum_fill": FILL, "replay_probability": 0.8, "staleness": 0.3,
        "temperature": 0.3, "score": "max_mc",
    }  # fmt: skip
    own = {"dr": {}, "plr_robust": replays, "accel": replays | {"edits": 5}}[method]
    env = {"source": "maze", "task": "13", "walls": 25}
    budget = {"env_steps": 100 * CYCLES * FRAMES, "log_every": CYCLES * FRAMES}
    return run_config(
        {"agent": agent, "env": env, "curriculum": {"method": method} | own, "width": 128, **budget}
    )


class Ours:
    """Our side of a method."""

    def __init__(self, method: str) -> None:
        loop, (run,) = prepare_pack([our_config(method)])
        self.programs = compile_programs(loop, [run.inputs], "map")
        self.state, self.first, self.every = self.programs.init(run.inputs), 0, CYCLES * 256

    def cycles(self) -> float:
        """Train some; the share of them that learned."""
        self.state, line = self.programs.chunk(np.int32(self.first), self.state)
        self.first += self.every
        return float(line["steps_in_chunk/trained"]) / (CYCLES * FRAMES)


def measure(copy: Path, method: str, side: str) -> dict[str, Any]:
    """Seconds of so many cycles after as many others, and of compiling; the share that learned."""
    begun = time.perf_counter()
    made = Ours(method) if side == "ours" else Theirs(copy, method)
    compiled = time.perf_counter()
    with one_blas_thread():  # as our sweeps have it; theirs calls no BLAS
        made.cycles()
        started, used = time.perf_counter(), time.process_time()
        share = made.cycles()
    seconds, processor = time.perf_counter() - started, time.process_time() - used
    return {
        "seconds": seconds, "processor": processor, "compile": compiled - begun, "learned": share,
    }  # fmt: skip


def compare(copy: Path, method: str, rounds: int, rate: float) -> None:
    """Print a method's lines."""
    found: dict[str, list[dict[str, Any]]] = {"theirs": [], "ours": []}
    for _ in range(rounds):
        for side, measured in found.items():
            one = in_a_process(__file__, copy, method, side, LIMIT)
            measured += [one] if one else []

    def median(side: str, what: str) -> float:
        return statistics.median([x[what] for x in found[side]]) if found[side] else math.nan

    costs = prepare_pack([our_config(method)]).runs[0].costs
    floor = costs.flops_per_update * 5 / rate  # of a cycle that learns
    print(f"{method}, {CYCLES} cycles of {FRAMES:,} frames")
    speeds = {side: CYCLES * FRAMES / median(side, "seconds") for side in found}
    for side, speed in speeds.items():
        each = f"{median(side, 'processor') / CYCLES:.2f} processor seconds a cycle"
        rest = (
            f"compile {median(side, 'compile'):.0f} s; {median(side, 'learned'):.0%} of cycles learned"
        )
        print(f"  {side}: {speed:,.0f} env steps/s; {each}; {rest}")
    times, most = speeds["ours"] / speeds["theirs"], FRAMES / floor
    less = median("theirs", "processor") / median("ours", "processor")
    told = f"floor of our updates if all learn: {most:,.0f} env steps/s"
    print(f"  {times:.2f} times, {less:.2f} by processor time; {told}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("copy", type=Path, help="a checkout of JaxUED")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--methods", nargs="*", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not (options.copy / "examples" / "maze_plr.py").is_file():
        parser.error(f"{options.copy} has no examples/maze_plr.py")
    if options.measure:
        method, side = options.measure
        print(json.dumps(measure(options.copy, method, side)))
        return
    rate = product_rate()
    print(f"{CORES} cores; 2048×2048 product: {rate / 1e9:.0f} GFLOP/s", flush=True)
    for method in options.methods:
        compare(options.copy, method, options.rounds, rate)


if __name__ == "__main__":
    main()
