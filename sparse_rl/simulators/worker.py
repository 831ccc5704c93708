"""A process that steps some environments in shared memory, when it is told to.

    python -m sparse_rl.simulators.worker SOURCE TASK OPTIONS ACTION_REPEAT N FIRST LAST FD

OPTIONS are the source's own, in JSON. The file FD is N rows (:func:`row`), of which this process
changes those from FIRST to before LAST. It reads one letter at a time, :data:`SEED` or :data:`ACT`, and
answers :data:`DONE`; it ends with its input.
"""

import json
import mmap
import os
import sys

import numpy as np

from sparse_rl.simulators.contract import BOUND, Frame, Simulator
from sparse_rl.simulators.registry import make

SEED, ACT, DONE = b"s", b"a", b"."


def row(observation_size: int, observation_dtype: type, action_size: int) -> np.dtype:
    """What the processes share of one environment."""
    return np.dtype(
        [
            ("action", np.float32, (action_size,)),
            ("observation", observation_dtype, (observation_size,)),
            ("final_observation", observation_dtype, (observation_size,)),
            ("reward", np.float32),
            ("terminated", np.bool_),
            ("truncated", np.bool_),
            ("seed", np.int64),
            ("to_seed", np.bool_),
        ],
        align=True,
    )


def shared(fd: int, num_envs: int, kind: np.dtype) -> np.ndarray:
    """The rows in a file of their size."""
    return np.ndarray(num_envs, kind, mmap.mmap(fd, num_envs * kind.itemsize))


def _sound(reward: float, shown: np.ndarray) -> bool:
    """Whether these are numbers of a simulation that holds; NaN is on neither side of a bound."""
    return bool(abs(reward) <= BOUND and (np.abs(shown) <= BOUND).all())


def act(simulator: Simulator, now: np.void, action_repeat: int) -> None:
    """One interaction: so many frames, fewer if the episode ends, and the next episode's start.

    A frame whose reward or observation is not finite, or beyond :data:`~.contract.BOUND`, is a
    termination without a reward, and the last observation that was sound stands.
    """
    drawn = simulator.picture is not None
    reward, good = 0.0, now["observation"].copy()
    for _ in range(action_repeat):
        seen = simulator.frame(now["action"])
        shown = good if drawn else simulator.observe()
        if _sound(seen.reward, shown):
            good = shown
        else:
            seen = Frame(0.0, True, False)
        reward += seen.reward
        if seen.terminated or seen.truncated:
            break
    now["reward"], now["terminated"], now["truncated"] = reward, seen.terminated, seen.truncated
    ended = seen.terminated or seen.truncated
    now["final_observation"] = simulator.observe() if drawn else good
    now["observation"] = simulator.reset() if ended else now["final_observation"]


def begin(simulator: Simulator, now: np.void) -> None:
    """Seed an environment and start its first episode, if that is wanted."""
    if now["to_seed"]:
        simulator.seed(int(now["seed"]))
        now["observation"] = simulator.reset()


def main() -> None:
    source, task, options, *numbers = sys.argv[1:]
    repeat, num_envs, first, last, fd = map(int, numbers)
    simulators = [make(source, task, **json.loads(options)) for _ in range(first, last)]
    one = simulators[0]
    kind = row(one.observation_size, one.observation_dtype, one.action_size)
    rows = list(zip(simulators, shared(fd, num_envs, kind)[first:last], strict=True))
    # The answers have a channel of their own: libraries print.
    answers = os.dup(1)
    os.dup2(2, 1)
    os.write(answers, DONE)
    while command := os.read(0, 1):
        for simulator, now in rows:
            if command == SEED:
                begin(simulator, now)
            else:
                act(simulator, now, repeat)
        os.write(answers, DONE)


if __name__ == "__main__":
    main()
