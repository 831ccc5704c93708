"""The control suite's pictures: what they cost, drawn by the library and by us.

    make rendering-benchmark

Each row is a process of its own that counts its processor time: on a quiet machine the wall's, on a
busy one less wrong than the wall's. With Mesa's renderers (no GPU) the processor draws.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

TASKS = (
    ("cartpole", "swingup", 0),
    ("cheetah", "run", 0),
    ("walker", "walk", 0),
    ("hopper", "hop", 0),
    ("quadruped", "run", 2),
    ("humanoid", "walk", 0),
)
PICTURES, FRAMES, ROUNDS, REPEAT, ENVIRONMENTS = 20, 100, 5, 2, 10
HEADER = """\
{renderer}, load {load:.1f} before. ms of processor time, medians of {rounds} rounds.
library: a picture by physics.render; full, fast: by env.quality; 84×84 rgb, but the last 48×48 grey.
frame: a frame of physics, reward included. frames/s: of an environment, fast, {repeat} frames a picture.
MB: of the process more for each of {environments} environments, fast.
task              | library   full   fast  48 grey |  frame frames/s |  MB"""


def cost(act: Callable[[], object], times: int) -> float:
    """Milliseconds of processor time of one call."""
    act()
    found = []
    for _ in range(ROUNDS):
        started = time.process_time()
        for _ in range(times):
            act()
        found.append((time.process_time() - started) / times * 1e3)
    return statistics.median(found)


def measure(domain: str, task: str, camera: int) -> None:
    """Print one row."""
    from dm_control import suite

    from sparse_rl import simulators
    from sparse_rl.kernels.machine import peak_bytes
    from sparse_rl.simulators import Simulator

    def make(quality: str, size: int = 84, colour: str = "rgb") -> Simulator:
        made = simulators.make(
            "dm_control_pixels", f"{domain}_{task}", size=size, colour=colour, frames=3, camera=camera,
            quality=quality,
        )  # fmt: skip
        made.seed(0)
        made.reset()
        return made

    theirs = suite.load(domain, task, task_kwargs={"random": 0})
    theirs.reset()
    library = cost(lambda: theirs.physics.render(84, 84, camera_id=camera), PICTURES)
    ours = [make("full"), make("fast"), make("fast", 48, "grey")]
    full, fast, small = (cost(simulator.observe, PICTURES) for simulator in ours)
    rng = np.random.default_rng(0)
    frame = cost(lambda: ours[1].frame(rng.uniform(-1, 1, ours[1].action_size)), FRAMES)
    before = peak_bytes()
    many = [make("fast") for _ in range(ENVIRONMENTS)]
    grown = (peak_bytes() - before) / 1e6 / len(many)
    rate = 1e3 * REPEAT / (fast + REPEAT * frame)
    name = f"{domain}_{task}"
    print(
        f"{name:17} | {library:7.2f} {full:6.2f} {fast:6.2f} {small:8.2f} | {frame:6.3f} {rate:8.0f} | "
        f"{grown:3.0f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    one = parser.parse_args().one
    if one:
        measure(one[0], one[1], int(one[2]))
        return
    from sparse_rl.simulators import renderers

    renderer = renderers.choose("the suite")
    load = os.getloadavg()[0]
    print(
        HEADER.format(
            renderer=f"{renderers.VARIABLE}={renderer}",
            load=load,
            rounds=ROUNDS,
            repeat=REPEAT,
            environments=ENVIRONMENTS,
        ),
        flush=True,
    )
    for row in TASKS:
        command = [sys.executable, __file__, "--one", *map(str, row)]
        subprocess.run(command, env=renderers.variables(renderer), check=True)


if __name__ == "__main__":
    main()
