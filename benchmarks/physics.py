"""Threads against processes for DM Control, and what MuJoCo's own thread pool makes of bare physics.

    make physics-benchmark

Interactions per second (two frames each) of N environments with random actions, in all cases with the
actions of a step sent together and its results collected, as the training loop does: in this process one
after the other, on a thread each, in worker processes with shared memory, and, without observations,
rewards and Python, in ``mujoco.rollout`` with whole trajectories of actions given beforehand. They take
turns; medians over rounds.
"""

import argparse
import functools
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from sparse_rl.kernels.machine import cores

os.environ.setdefault("MUJOCO_GL", "disabled")
CORES = cores()
REPEAT = 2
ROWS = (("humanoid_walk", 1), ("humanoid_walk", 8), ("cheetah_run", 8), ("cartpole_swingup", 8))
"""(task, environments)"""
HEADER = """\
{cores} cores, load {load:.1f} before; {rounds} rounds. Interactions per second.
task              N |   loop threads processes | rollout (bare physics)"""


def threads(task: str, num_envs: int, workers: int) -> Callable[[np.ndarray], None]:
    """Environments in this process: one interaction of all."""
    from sparse_rl import simulators
    from sparse_rl.simulators import worker

    made = [simulators.make("dm_control", task) for _ in range(num_envs)]
    kind = worker.row(made[0].observation_size, made[0].observation_dtype, made[0].action_size)
    rows = np.zeros(num_envs, kind)
    for i, simulator in enumerate(made):
        simulator.seed(i)
        simulator.reset()
    pool = ThreadPoolExecutor(workers)

    def one(i: int) -> None:
        worker.act(made[i], rows[i], REPEAT)

    def step(action: np.ndarray) -> None:
        rows["action"] = action
        if workers == 1:
            for i in range(num_envs):
                one(i)
        else:
            list(pool.map(one, range(num_envs)))

    return step


def processes(task: str, num_envs: int) -> Callable[[np.ndarray], None]:
    """Environments in worker processes: one interaction of all."""
    from sparse_rl import envs
    from sparse_rl.settings.envs import EnvConfig

    env = envs.make("dm_control", task)
    actors = env.open(EnvConfig("dm_control", task, REPEAT), num_envs, CORES)
    actors.seed(np.arange(num_envs), np.ones(num_envs, bool))

    def step(action: np.ndarray) -> None:
        actors.send(action)
        actors.receive()

    return step


def bare(task: str, num_envs: int) -> Callable[[np.ndarray], None]:
    """Physics alone: whole trajectories, float32 ``[T, N, a]``, in one call."""
    import mujoco
    from dm_control import suite
    from mujoco import rollout

    from sparse_rl.simulators.dm_control import tasks

    env: Any = suite.load(*tasks()[task], task_kwargs={"random": 0})
    env.reset()
    model, data = env.physics.model.ptr, env.physics.data.ptr
    what = mujoco.mjtState.mjSTATE_FULLPHYSICS
    state = np.zeros(mujoco.mj_stateSize(model, what))
    mujoco.mj_getState(model, data, state, what)
    every = round(env.control_timestep() / env.physics.timestep()) * REPEAT
    scratch = [mujoco.MjData(model) for _ in range(CORES)]
    pool = rollout.Rollout(nthread=CORES)

    def steps(actions: np.ndarray) -> None:
        controls = np.repeat(actions.transpose(1, 0, 2), every, axis=1).astype(np.float64)
        pool.rollout(model, scratch, np.tile(state, (num_envs, 1)), controls)

    return steps


def rate(act: Callable[[], None], interactions: int) -> float:
    """Interactions per second."""
    started = time.perf_counter()
    act()
    return interactions / (time.perf_counter() - started)


def measure(task: str, num_envs: int, rounds: int) -> None:
    """Print one row."""
    from sparse_rl import envs

    steps = 400 // num_envs
    shape = (steps, num_envs, envs.make("dm_control", task).action_size)
    actions = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    ways = [threads(task, num_envs, 1), threads(task, num_envs, CORES), processes(task, num_envs)]
    rollout = bare(task, num_envs)

    def walk(step: Callable[[np.ndarray], None]) -> None:
        for action in actions:
            step(action)

    found: list[list[float]] = [[] for _ in range(4)]
    for _ in range(rounds):
        for way, rates in zip(ways, found, strict=False):
            rates.append(rate(functools.partial(walk, way), steps * num_envs))
        found[3].append(rate(lambda: rollout(actions), steps * num_envs))
    loop, threaded, apart, physics = map(statistics.median, found)
    print(
        f"{task:16} {num_envs:2d} | {loop:6.0f} {threaded:7.0f} {apart:9.0f} | {physics:7.0f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    print(HEADER.format(cores=CORES, load=os.getloadavg()[0], rounds=rounds), flush=True)
    for task, num_envs in ROWS:
        measure(task, num_envs, rounds)


if __name__ == "__main__":
    main()
