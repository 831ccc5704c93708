"""The simulated clock: when the estimates of parallel workers arrive, and which gain each was made with.

How long a worker takes does not depend on the gain, so all of it is known before training: the host
draws it once, and training is one compiled scan over it.
"""

import heapq
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from sparse_rl.settings.agents import AzopgConfig

STREAM = 0x636C6F63
"""Keeps draws of durations apart from other draws with a run's seed."""
SIGMA = 1.0
"""Of a lognormal duration's logarithm."""


class Arrivals(NamedTuple):
    """N estimates in the order in which they reach the master. A worker holds its gain in a slot."""

    reads: Any
    """int32 ``[N]``: the slot of the gain that the estimate was made with."""
    writes: Any
    """int32 ``[N]``: the slot that then gets the master's new gain; the last one is never read."""
    delay: Any
    """int32 ``[N]``: estimates that the master applied while this one was made."""
    time: Any
    """float32 ``[N]``: when it is applied, in mean durations of an estimate."""


def durations(kind: str, seed: int, count: int) -> np.ndarray:
    """Durations of mean 1, float64 ``[count]``; more of them begin with the same ones."""
    rng = np.random.default_rng([seed, STREAM])
    draw: dict[str, Callable[[], np.ndarray]] = {
        "constant": lambda: np.ones(count),
        "exponential": lambda: rng.exponential(size=count),
        "lognormal": lambda: rng.lognormal(-(SIGMA**2) / 2.0, SIGMA, size=count),
    }
    return draw[kind]()


def asynchronous(took: np.ndarray, workers: int, count: int) -> Arrivals:
    """Whoever has finished is answered at once, and begins the next estimate with the new gain.

    Args:
        took: float64 ``[workers + count]``: durations, in the order in which estimates begin.
        workers: M.
        count: N.
    """
    heap = [(float(took[worker]), worker) for worker in range(workers)]
    heapq.heapify(heap)
    given, who, delay = [0] * workers, [0] * count, [0] * count
    time = [0.0] * count
    for i, lasts in enumerate(took[workers : workers + count].tolist()):
        now, worker = heap[0]
        who[i], time[i], delay[i] = worker, now, i - given[worker]
        given[worker] = i + 1
        heapq.heapreplace(heap, (now + lasts, worker))
    slots = np.asarray(who, np.int32)
    return Arrivals(slots, slots, np.asarray(delay, np.int32), np.asarray(time, np.float32))


def synchronous(took: np.ndarray, workers: int, count: int, slots: int) -> Arrivals:
    """All workers estimate at the same gain, and the master waits for the last of them.

    Its step is the sum of the steps that the estimates would have made alone: so many estimates move
    the gain as far as without a barrier.
    """
    rounds = -(-count // workers)
    time = np.cumsum(took[: rounds * workers].reshape(rounds, workers).max(1))
    place = np.arange(count) % workers
    last = (place == workers - 1).astype(np.int32)
    return Arrivals(
        np.zeros(count, np.int32),
        np.where(last, 0, slots).astype(np.int32),
        place.astype(np.int32),
        np.repeat(time, workers)[:count].astype(np.float32),
    )


def arrivals(settings: AzopgConfig, seed: int, count: int) -> Arrivals:
    """Of a run: ``count`` estimates."""
    took = durations(settings.durations, seed, settings.workers + count)
    if settings.master == "asynchronous":
        return asynchronous(took, settings.workers, count)
    return synchronous(took, settings.workers, count, settings.slots)
