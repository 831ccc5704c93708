"""SAC with SimBa networks on humanoid-walk: our host loop beside the public SparseNetwork4DRL loop.

    make simba-benchmark COPY=/path/to/SparseNetwork4DRL PYTHON_OF_COPY=/path/to/its/venv/bin/python
    make simba-benchmark PRODUCTS=bfloat16 …    ours with rounded products (docs/products.md)

COPY is a checkout of that code (https://github.com, the authors' commit of static masks), run in an
environment with the versions that it pins; nothing of it is part of this repository. Both train at their
default size (actor 128, critic 512, batch 256, two updates per interaction, action repeat 2), dense and
with a tenth of the weights. Their ``run.py`` is imported as it is; only its progress bar is replaced, by
one that measures, and wandb, by nothing.

All four loops are processes that live through the whole measurement and take turns, one at a time, on
all cores: a rate is the median over rounds, a ratio the median of the ratios within a round. Evaluation,
compilation, the first random interactions and the networks' health (both measure it every 5,000
interactions) are outside of the measurement.
"""

import argparse
import functools
import os
import statistics
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

RANDOM, WARM = 200, 40
"""Random interactions first, and interactions with updates before the first turn."""
TURN = "turn took "

HEADER = """\
{cores} cores, load {load:.1f} before. SAC on humanoid-walk; interactions per second with their updates;
products of ours in {products}, of theirs in float32;
{turn} interactions a turn, {rounds} rounds, loops take turns.
cpu: processor time of the learner's process per interaction, ms; it says more where others keep the
cores busy.
sparsity |  theirs    ours  ratio | cpu: theirs  ours"""


def wait() -> bool:
    """Wait for the next turn; false when there is none."""
    return bool(sys.stdin.readline())


def now() -> tuple[float, float]:
    """Seconds, and seconds of processor time of this process."""
    return time.perf_counter(), time.process_time()


def say(started: tuple[float, float]) -> None:
    """How long the turn took that began then."""
    print(f"\n{TURN}" + " ".join(str(b - a) for a, b in zip(started, now(), strict=True)), flush=True)


def measured(interactions: Iterator[int], turn: int) -> Iterator[int]:
    """An iterator that lets its loop run a turn at a time, from the end of the warm-up on."""
    started = now()
    for i, interaction in enumerate(interactions):
        since = i - RANDOM - WARM
        if since >= 0 and since % turn == 0:
            say(started)
            if not wait():
                sys.exit()
            started = now()
        yield interaction


def theirs(sparsity: float, turn: int, copy: str) -> None:
    """Their loop, in a process of its own."""
    os.environ["MUJOCO_GL"] = "disabled"
    nothing = types.ModuleType("wandb")
    for name in ("init", "log", "Video", "Api"):
        setattr(nothing, name, lambda *_, **__: None)
    sys.modules["wandb"] = nothing
    import dm_control.suite  # noqa: F401  before their run.py asks for EGL
    import tqdm

    def bar(interactions: Iterator[int], **_: object) -> Iterator[int]:
        return measured(interactions, turn)

    tqdm.tqdm = bar
    os.chdir(copy)
    sys.path.insert(0, copy)
    run: Any = __import__("run")
    overrides = [
        "env_name=humanoid-walk",
        f"actor_sparsity={sparsity}",
        f"critic_sparsity={sparsity}",
        f"buffer.min_length={RANDOM}",
        "num_eval_episodes=1",
    ]
    run.run({"config_path": "./configs", "config_name": "base_sac", "overrides": overrides})


def our_turns(sparsity: float, turn: int, products: str) -> Iterator[Callable[[], Any]]:
    """Our loop: warm-up, then turns."""
    import jax
    import numpy as np

    from sparse_rl.runs.pack import compile_programs, prepare_pack
    from sparse_rl.settings.run import run_config

    def config(interactions: int) -> Any:
        return run_config(
            {
                "agent": {"random_interactions": RANDOM},
                "env": {"source": "dm_control", "task": "humanoid_walk", "action_repeat": 2},
                "pruning": {"pattern": "block" if sparsity else "unstructured"},
                "sparsity": sparsity,
                "products": products,
                "env_steps": 2 * 100 * RANDOM * interactions,
                "log_every": 2 * interactions,
                "eval_every": 2 * 100 * RANDOM * interactions,
            }
        )

    loop, (run,) = prepare_pack([config(turn)])
    programs = compile_programs(loop, [run.inputs], "map")
    # A turn is much shorter than the way between two log points: without these.
    driven = programs.chunk.args[0]._replace(row=lambda learner, totals, end: {})  # type: ignore[attr-defined]
    chunk = functools.partial(programs.chunk.func, driven)  # type: ignore[attr-defined]
    held = {"state": programs.init(run.inputs), "first": 0}

    def act() -> None:
        held["state"], _ = chunk(np.int32(held["first"]), held["state"])
        jax.block_until_ready(held["state"].agent)
        held["first"] += turn

    while held["first"] < RANDOM + WARM:
        act()
    while True:
        yield act


def ours(sparsity: float, turn: int, products: str) -> None:
    """Our loop, in a process of its own."""
    started = now()
    for act in our_turns(sparsity, turn, products):
        say(started)
        if not wait():
            return
        started = now()
        act()


class Loop:
    """A training loop in a process of its own, which runs when it is told to."""

    def __init__(self, python: str, *arguments: object) -> None:
        command = [python, __file__, *map(str, arguments)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
        )
        self._answer()

    def _answer(self) -> tuple[float, float]:
        assert self._process.stdout
        for line in self._process.stdout:
            if line.startswith(TURN):
                wall, processor = map(float, line.removeprefix(TURN).split())
                return wall, processor
        raise RuntimeError(f"{self._process.args!r} ended with {self._process.wait()}")

    def take_turn(self) -> tuple[float, float]:
        """Seconds that one took, and seconds of processor time."""
        assert self._process.stdin
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return self._answer()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--copy", type=Path, required=True, help="checkout of their code")
    parser.add_argument("--python", default=sys.executable, help="interpreter with their requirements")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--turn", type=int, default=40, help="interactions of a turn")
    parser.add_argument("--products", choices=["float32", "bfloat16"], default="float32")
    options = parser.parse_args()
    from sparse_rl.kernels.machine import cores  # the public code's interpreter has no sparse_rl

    load, shown = os.getloadavg()[0], {k: getattr(options, k) for k in ("turn", "rounds", "products")}
    print(HEADER.format(cores=cores(), load=load, **shown), flush=True)
    loops = {
        sparsity: (
            Loop(options.python, "theirs", sparsity, options.turn, options.copy.resolve()),
            Loop(sys.executable, "ours", sparsity, options.turn, options.products),
        )
        for sparsity in (0.0, 0.9)
    }
    taken: dict[float, list[list[tuple[float, float]]]] = {sparsity: [] for sparsity in loops}
    for _ in range(options.rounds):
        for sparsity, pair in loops.items():
            taken[sparsity].append([loop.take_turn() for loop in pair])
    for sparsity, rounds in taken.items():
        wall, cpu = ([[times[k] for times in pair] for pair in rounds] for k in (0, 1))
        rates = [options.turn / statistics.median(times) for times in zip(*wall, strict=True)]
        spent = [statistics.median(times) / options.turn * 1e3 for times in zip(*cpu, strict=True)]
        ratio = statistics.median(alone / mine for alone, mine in wall)
        print(
            f"{sparsity:8.1f} | {rates[0]:7.2f} {rates[1]:7.2f} {ratio:5.2f}x | "
            f"{spent[0]:11.0f} {spent[1]:5.0f}",
            flush=True,
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["theirs"]:
        theirs(float(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
    elif sys.argv[1:2] == ["ours"]:
        ours(float(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
    else:
        main()
