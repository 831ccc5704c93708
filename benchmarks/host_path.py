"""Training on Atari beside the bare vector environment stepped with random actions.

    make host-benchmark

Breakout, 32 environments, rollouts of five interactions, DQN's smaller network. The bare environments
and a training loop take turns in one process, on all cores: the ratio is the median over rounds of
interactions per second in training by those of the bare environments just before, which have as many
threads. Compile time is apart.

With a thread of environments on each core, learner and environments share the cores: no loop can do
better than the environments' share of the processor time, the ceiling (bare processor time per
interaction by that of training). With a thread less, a core is left to the learner while one group
steps, as a GPU would be: then the ratio says how much the two stall each other.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from sparse_rl.kernels.machine import cores

CORES = cores()
NUM_ENVS, NUM_STEPS, REPEAT = 32, 5, 4
INTERACTIONS = 10
"""Rollouts of a turn."""
FEW = max(1, CORES - 1)


class Row(NamedTuple):
    """What is timed."""

    agent: str
    width: int
    groups: int
    """Of actors, that take turns."""
    threads: int
    """Of the bare environments, and of each group's."""


ROWS = (
    Row("dqn", 16, 2, FEW),
    Row("paac", 16, 1, FEW),
    Row("paac", 16, 2, FEW),
    Row("paac", 64, 2, FEW),
    Row("dqn", 16, 2, CORES),
    Row("paac", 16, 1, CORES),
    Row("paac", 16, 2, CORES),
    Row("paac", 64, 2, CORES),
    Row("paac", 256, 2, CORES),
)

HEADER = """\
{cores} cores, load {load:.1f} before. Interactions per second, of {samples} in a turn; {rounds} rounds.
bare: the environments with random actions. Shares of the training thread's time: waiting for
environments, moving data, choosing actions, learning; the rest is Python's. Then ms of
processor time per interaction, and seconds of compilation.
agent width groups threads |  bare train ratio ceiling | environ transfer infer learn | bare train | s"""


class Turn(NamedTuple):
    """What one turn took."""

    rate: float
    """Interactions per second."""
    processor: float
    """Seconds of processor time per interaction."""
    shares: dict[str, float]


def timed(act: Callable[[], dict[str, Any]], interactions: int) -> Turn:
    """Measure one turn."""
    wall, processor = time.perf_counter(), time.process_time()
    shares = act()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return Turn(interactions / wall, processor / interactions, shares)


def bare(threads: int) -> Callable[[], dict[str, Any]]:
    """The vector environment, with random actions."""
    from ale_py.vector_env import AtariVectorEnv

    envs = AtariVectorEnv(
        "breakout",
        NUM_ENVS,
        num_threads=threads,
        repeat_action_probability=0.25,
        noop_max=0,
        use_fire_reset=False,
        max_num_frames_per_episode=18_000,
    )
    envs.reset(seed=0)
    rng = np.random.default_rng(0)

    def act() -> dict[str, Any]:
        for _ in range(INTERACTIONS * NUM_STEPS):
            envs.step(rng.integers(0, 4, NUM_ENVS))
        return {}

    return act


def training(row: Row) -> tuple[Callable[[], dict[str, Any]], float]:
    """A training loop without diagnostics in between, and the seconds it took to compile."""
    from sparse_rl.loops.hosted import hosting, parts
    from sparse_rl.records.results import TIME_SHARE
    from sparse_rl.runs.pack import compile_programs, prepare_pack
    from sparse_rl.settings.run import run_config

    frames = INTERACTIONS * NUM_STEPS * NUM_ENVS * REPEAT
    agent = {"name": row.agent, "network": "nips", "num_envs": NUM_ENVS, "num_steps": NUM_STEPS}
    env = {"source": "atari", "task": "breakout", "action_repeat": REPEAT}
    budget = {"env_steps": 1000 * frames, "log_every": frames, "eval_every": 1000 * frames}
    config = run_config({"agent": agent, "env": env, "width": row.width, **budget})
    parts.GROUPS, hosting.threads = row.groups, lambda: row.threads
    loop, (run,) = prepare_pack([config])
    programs = compile_programs(loop, [run.inputs], "map")
    held = {"state": programs.chunk(np.int32(0), programs.init(run.inputs))[0], "turn": 1}

    def act() -> dict[str, Any]:
        first = np.int32(held["turn"] * INTERACTIONS * NUM_STEPS)
        held["state"], row = programs.chunk(first, held["state"])
        held["turn"] += 1
        return {part: row[f"{TIME_SHARE}{part}"] for part in hosting.PARTS}

    return act, programs.seconds


def report(row: Row, pairs: Sequence[tuple[Turn, Turn]], seconds: float) -> None:
    """Print one row of the table: medians over rounds."""
    both = list(zip(*pairs, strict=True))
    ratio = statistics.median(mine.rate / alone.rate for alone, mine in pairs)
    rate = [statistics.median(turn.rate for turn in turns) for turns in both]
    cpu = [statistics.median(turn.processor for turn in turns) for turns in both]
    shares = [statistics.mean(turn.shares[part] for turn in both[1]) for part in both[1][0].shares]
    print(
        f"{row.agent:>5} {row.width:5d} {row.groups:6d} {row.threads:7d} | "
        f"{rate[0]:5.0f} {rate[1]:5.0f} {ratio:5.2f} {cpu[0] / cpu[1]:7.2f} | "
        f"{shares[0]:7.2f} {shares[1]:8.2f} {shares[2]:5.2f} {shares[3]:5.2f} | "
        f"{cpu[0] * 1e3:4.2f} {cpu[1] * 1e3:5.2f} | {seconds:7.1f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    load, samples = os.getloadavg()[0], INTERACTIONS * NUM_STEPS * NUM_ENVS
    print(HEADER.format(cores=CORES, load=load, samples=samples, rounds=rounds))
    alone = {threads: bare(threads) for threads in {FEW, CORES}}
    for row in ROWS:
        trains, seconds = training(row)
        pairs = [(timed(alone[row.threads], samples), timed(trains, samples)) for _ in range(rounds)]
        report(row, pairs, seconds)


if __name__ == "__main__":
    main()
