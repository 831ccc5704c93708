"""A worker of AZOPG on the real clock: it is given a gain, rolls it out perturbed, sends an estimate.

Needs numpy alone, so that it starts in a fraction of a second. It ends when the master closes the
connection. The master's address and key come in an environment variable, never on a command line.
"""

import json
import os
import time
from multiprocessing.connection import Client, Connection
from typing import Any, NamedTuple

import numpy as np

ADDRESS = "SPARSE_RL_MASTER"
STREAM = 0x776F726B
"""Keeps a worker's draws apart from other draws with a run's seed."""
DOUBLINGS = (12, 40)
"""At least and at most, as of :data:`sparse_rl.envs.lqr.DOUBLINGS`; needs no jax."""
SIMULATED_SECONDS, SIMULATED_STEP = 30.0, 0.01
"""Of a rollout that is computed step by step: it goes on for so long again and again …"""
AT_REST, LOST, SIMULATED_MOST = 1e-4, 1e12, 400
"""… until |x|² has fallen to this share of what it was, or grown so much, and so often at most."""


class Address(NamedTuple):
    """Where the master listens, and the key with which both sides prove who they are."""

    host: str
    port: int
    key: str
    """Hexadecimal."""


class Job(NamedTuple):
    """What the master tells a worker once."""

    a: Any
    """float64 ``[n, n]``, of the plant."""
    b: Any
    """float64 ``[n, m]``."""
    step: float | None
    mask: Any
    """bool ``[m, n]``: the free entries."""
    radius: float
    two_point: bool
    work: str
    """``latency``: the worker waits as if for a machine; ``compute``: it simulates step by step."""
    durations: str
    seconds: float
    """Mean duration of an estimate (``latency``)."""
    seed: list[int]

    def to_bytes(self) -> bytes:
        """As JSON: nothing in it can execute code."""
        return json.dumps([np.asarray(x).tolist() for x in self]).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Job":
        a, b, step, mask, *rest = json.loads(data)
        return cls(np.array(a), np.array(b), step, np.array(mask, bool), *rest)


def exact_costs(job: Job, gain: np.ndarray, x0: np.ndarray) -> float:
    """x0ᵀPx0 as :func:`sparse_rl.envs.lqr.cost_matrix` finds P; infinite if not stabilising."""
    one = np.eye(len(job.a))
    power, total = job.a - job.b @ gain, (job.step or 1.0) * (one + gain.T @ gain)
    if job.step is None:
        inverse = np.linalg.inv(one - power)
        power, total = 2.0 * inverse - one, 2.0 * inverse.T @ total @ inverse
    with np.errstate(over="ignore", invalid="ignore"):
        for turn in range(DOUBLINGS[1]):
            left = np.sum(power * power)
            if turn >= DOUBLINGS[0] and not (np.isfinite(left) and left > np.finfo(float).eps):
                break
            power, total = power @ power, total + power.T @ total @ power
        settles = np.sum(power * power) <= np.finfo(float).eps
    return float(x0 @ total @ x0) if settles else np.inf


def simulated_cost(job: Job, gain: np.ndarray, x0: np.ndarray) -> float:
    """The same, step by step until the plant is at rest, by the trapezoidal rule."""
    closed, weight = job.a - job.b @ gain, np.eye(len(job.a)) + gain.T @ gain
    step = job.step or SIMULATED_STEP
    if job.step is None:  # (I − hA/2)⁻¹(I + hA/2)
        half = 0.5 * step * closed
        closed = np.linalg.solve(np.eye(len(half)) - half, np.eye(len(half)) + half)
    x, began = x0, float(x0 @ x0)
    total = 0.0 if job.step else -0.5 * step * float(x0 @ weight @ x0)
    for _ in range(SIMULATED_MOST):
        with np.errstate(over="ignore", invalid="ignore"):
            for _ in range(round(SIMULATED_SECONDS / step)):
                total += step * float(x @ weight @ x)
                x = closed @ x
            left = float(x @ x)
        if left < AT_REST * began:
            return total
        if not left < LOST * began:
            break
    return np.inf


def estimate(job: Job, gain: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """g, float64 ``[m · n]`` (:mod:`sparse_rl.agents.azopg`); NaN if a rollout failed."""
    u = np.where(job.mask, rng.standard_normal(job.mask.shape), 0.0)
    u /= np.linalg.norm(u)
    x0 = rng.standard_normal(len(job.a))
    signs = (1.0, -1.0) if job.two_point else (1.0,)
    rollout = simulated_cost if job.work == "compute" else exact_costs
    costs = [rollout(job, gain + sign * job.radius * u, x0) for sign in signs]
    if not np.isfinite(costs).all():
        return np.full(u.size, np.nan)
    slope = float(np.dot(signs, costs)) / (len(signs) * job.radius)
    return np.asarray(job.mask.sum() * slope * u).reshape(-1)


def duration(job: Job, rng: np.random.Generator) -> float:
    """Seconds that an estimate takes, with the mean ``job.seconds``."""
    if job.durations == "exponential":
        return job.seconds * rng.exponential()
    if job.durations == "lognormal":
        return job.seconds * rng.lognormal(-0.5, 1.0)
    return job.seconds


def serve(master: Connection) -> None:
    """Estimate until the master has closed the connection."""
    job = Job.from_bytes(master.recv_bytes())
    rng = np.random.default_rng([*job.seed, STREAM])
    while True:
        gain = np.frombuffer(master.recv_bytes()).reshape(job.mask.shape)
        began = time.monotonic()
        found = estimate(job, gain, rng)
        if job.work == "latency":
            time.sleep(max(0.0, began + duration(job, rng) - time.monotonic()))
        master.send_bytes(found.tobytes())


def work(address: Address) -> None:
    """Connect and serve; returns when the master has gone."""
    try:
        with Client((address.host, address.port), authkey=bytes.fromhex(address.key)) as master:
            serve(master)
    except (EOFError, OSError):
        return


if __name__ == "__main__":
    work(Address(*json.loads(os.environ[ADDRESS])))
