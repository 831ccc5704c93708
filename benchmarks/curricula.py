"""What choosing levels costs: the buffer's part of a cycle, beside the cycle.

    make curricula-benchmark
    python benchmarks/curricula.py --buffer 4000 16000

A cycle is 32 levels × 256 frames of 13×13 mazes and, where it learns, five epochs; PPO with the network
of ``study=mazes`` (GRU) and with the published one (LSTM of 256). Beside it, alone: what ``propose`` and
``absorb`` compute with a buffer that is full, and what those of ``curriculum=dr`` do, which keeps
nothing and draws new levels as well. The difference is what the buffer costs (with ACCEL its edits too).
Everything is compiled, one after the other in one process on one thread of control, and takes turns:
figures are medians of the rounds. A cycle that learns is counted, for others would make the share larger
by what they leave out; it is told, too.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sparse_rl.curricula import NEW, Outcome, hashes
from sparse_rl.kernels.keys import key_of
from sparse_rl.loops import CurriculumLoop
from sparse_rl.runs.pack import one_blas_thread, prepare_pack
from sparse_rl.settings.run import run_config

AGENT = {
    "name": "ppo", "network": "minigrid", "num_envs": 32, "num_steps": 256, "epochs": 5,
    "discount": 0.995, "gae_lambda": 0.98, "value_clip": 0.2, "entropy_coefficient": 1e-3,
}  # fmt: skip
NETWORKS = {
    "GRU 64": (64, {"memory": "gru", "minibatches": 4}),
    "LSTM 256": (128, {"memory": "lstm", "memory_width_ratio": 2.0, "minibatches": 1}),
}
"""Name → width, and what is its own."""
METHODS = ("plr_robust", "accel", "plr_parallel", "accel_parallel")
INNER = 20
"""Calls of the short programs in one timing."""


def loop_of(network: str, method: str, buffer: int) -> tuple[CurriculumLoop, Any]:
    """A run's static parts, and its inputs."""
    width, own = NETWORKS[network]
    curriculum = {"method": method} | ({} if method == "dr" else {"buffer_size": buffer})
    frames = 8192 * {"plr_parallel": 2, "accel_parallel": 3}.get(method, 1)
    given = {
        "agent": AGENT | own, "env": {"source": "maze", "task": "13"}, "curriculum": curriculum,
        "width": width, "env_steps": 100 * frames, "log_every": frames, "eval_every": 100 * frames,
    }  # fmt: skip
    loop, (run,) = prepare_pack([run_config(given)])
    assert isinstance(loop, CurriculumLoop)
    return loop, run.inputs


def filled(loop: CurriculumLoop, state: Any, buffer: int) -> Any:
    """A state whose buffer is full of random levels with random scores."""
    if loop.method.kept is None:
        return state
    levels = jax.vmap(loop.levels.sample)(jax.random.split(key_of(1), buffer))
    score = jax.random.uniform(key_of(2), (buffer,))
    seen = jax.random.randint(key_of(3), (buffer,), 0, 1000)

    def full(leaf: Any) -> Any:
        if not hasattr(leaf, "highest") or not hasattr(leaf, "parent"):
            return leaf
        return leaf._replace(
            levels=levels, hash=hashes(levels), score=score, highest=score, seen=seen.astype(jnp.int32)
        )

    kept = jax.tree.map(full, state.curriculum, is_leaf=lambda x: hasattr(x, "highest"))
    return state._replace(curriculum=kept)


def programs(network: str, method: str, buffer: int) -> dict[str, Callable[[], None]]:
    """Compiled: a cycle that learns, and choosing alone; each with a state that is ready."""
    loop, inputs = loop_of(network, method, buffer)
    state = filled(loop, jax.jit(loop.init)(inputs), buffer)

    def choose(state: Any, iteration: Any, score: Any) -> Any:
        proposal = loop.propose(state, iteration)
        kept = loop.method.absorb(state.curriculum, proposal, Outcome(score, score, score))
        return proposal, kept

    propose = jax.jit(loop.propose)
    learning = next(i for i in range(1000) if bool(propose(state, np.int32(i)).learns))
    cycle = jax.jit(lambda state, i: loop.iterate(state, i)[:2]).lower(state, np.int32(0)).compile()
    scores = jax.random.uniform(key_of(4), (loop.method.actors,))
    alone = jax.jit(choose).lower(state, np.int32(0), scores).compile()
    new = next((i for i in range(1000) if int(propose(state, np.int32(i)).kind[0]) == NEW), learning)

    def choosing() -> None:
        for i in range(INNER):  # new levels are taken in, which costs most; the kind changes nothing
            jax.block_until_ready(alone(state, np.int32(new if i % 2 else learning), scores))

    return {
        "cycle": lambda: jax.block_until_ready(cycle(state, np.int32(learning))),
        "no learning": lambda: jax.block_until_ready(cycle(state, np.int32(new))),
        "choose": choosing,
    }


def milliseconds(call: Callable[[], None], times: int) -> float:
    begun = time.perf_counter()
    call()
    return (time.perf_counter() - begun) / times * 1e3


def compare(network: str, methods: Sequence[str], buffer: int, rounds: int) -> None:
    """Print the lines of a network and a size of buffer."""
    made = {method: programs(network, method, buffer) for method in ("dr", *methods)}
    found: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds + 1):
        for method, calls in made.items():
            for name, call in calls.items():
                one = milliseconds(call, INNER if name == "choose" else 1)
                found.setdefault((method, name), []).append(one)
    middle = {key: statistics.median(times[1:]) for key, times in found.items()}  # the first warms up
    print(f"{network}, buffer of {buffer:,}: ms of a cycle that learns (that does not); choosing")
    for method in made:
        cycle, idle, choose = (middle[method, name] for name in ("cycle", "no learning", "choose"))
        cost = choose - middle["dr", "choose"]
        shares = f"{cost / cycle:.2%} of the cycle, {cost / idle:.2%} of one without learning"
        told = "" if method == "dr" else f": {cost:.2f} more than dr, {shares}"
        print(f"  {method:14} {cycle:8.0f} ({idle:.0f}) {choose:7.2f}{told}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--buffer", type=int, nargs="+", default=[4000], help="levels (default: 4000)")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS[:2])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with one_blas_thread():  # as our sweeps have it
        for network in options.networks:
            for buffer in options.buffer:
                compare(network, options.methods, buffer, options.rounds)


if __name__ == "__main__":
    main()
