"""Stream AC(λ) beside its public PyTorch code, and one update by width and sparsity beside its floor.

    COPY=path/to/streaming-drl python benchmarks/stream.py

COPY is a checkout of github.com/mohmdelsayed/streaming-drl (CC BY-NC 4.0: for the measurement only);
without it the second table is made alone. Both learn on the same task of Gymnasium, at the same width,
from the same settings, one thread each; they take turns, and each figure is the median over rounds.
Compile time is apart. On a busy machine processor time says more than wall time; ours counts the
environment's process.

An update is V(s), V(s') and π(·|s), their gradients, both traces and both steps, without an environment.
Its floor is the time that its FLOPs take at the rate of a product of 2048×2048 matrices, or its bytes at
the rate of a copy of as many, whichever is longer.
"""

import argparse
import functools
import importlib
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

TASKS = {
    "walker2d": "Walker2d-v5",
    "half_cheetah": "HalfCheetah-v5",
    "ant": "Ant-v5",
    "hopper": "Hopper-v5",
}
CELLS = (0.0, 0.9)
TICKS = os.sysconf("SC_CLK_TCK")


class Turn(NamedTuple):
    """Seconds per env step, or per update."""

    wall: float
    processor: float


def children_seconds() -> float:
    """Processor time of this process's children so far."""
    found, own = 0.0, str(os.getpid())
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if fields[1] == own:
            found += (int(fields[11]) + int(fields[12])) / TICKS
    return found


def timed(act: Callable[[], Any], steps: int) -> Turn:
    """Measure one turn of so many steps."""
    wall, processor = time.perf_counter(), time.process_time() + children_seconds()
    act()
    wall, processor = (
        time.perf_counter() - wall,
        time.process_time() + children_seconds() - processor,
    )
    return Turn(wall / steps, processor / steps)


def median(turns: Sequence[Turn]) -> Turn:
    return Turn(*(statistics.median(each) for each in zip(*turns, strict=True)))


def public(copy: str, task: str, width: int, steps: int) -> Callable[[], None]:
    """The public code's loop, as its script has it."""
    sys.path.insert(0, copy)
    import gymnasium
    import torch

    stats, clock = (importlib.import_module(name) for name in ("normalization_wrappers", "time_wrapper"))
    agents = importlib.import_module("stream_ac_continuous")

    torch.set_num_threads(1)
    torch.manual_seed(0)
    env: Any = gymnasium.make(TASKS[task])
    for wrapper in (
        gymnasium.wrappers.FlattenObservation, gymnasium.wrappers.RecordEpisodeStatistics,
        gymnasium.wrappers.ClipAction, stats.ScaleReward, stats.NormalizeObservation,
    ):  # fmt: skip
        env = wrapper(env)
    env.num_envs = 1  # which wrappers of this version no longer say
    env = clock.AddTimeInfo(env)
    sizes = (env.observation_space.shape[0], env.action_space.shape[0])
    agent = agents.StreamAC(n_obs=sizes[0], n_actions=sizes[1], hidden_size=width)
    held = {"seen": env.reset(seed=0)[0]}

    def act() -> None:
        seen = held["seen"]
        for _ in range(steps):
            action = agent.sample_action(seen)
            following, reward, terminated, truncated, _ = env.step(action)
            agent.update_params(seen, action, reward, following, terminated or truncated, 0.01)
            seen = env.reset()[0] if terminated or truncated else following
        held["seen"] = seen

    return act


def config_of(width: int, sparsity: float, steps: int, env: dict[str, Any], rule: str) -> Any:
    from sparse_rl.settings.run import run_config

    return run_config({
        "agent": {"name": "stream_ac", "step_rule": rule}, "env": env,
        "width": width, "sparsity": sparsity,
        "env_steps": 1000 * steps, "log_every": steps, "eval_every": 1000 * steps,
        "diagnostics": {"max_samples": 2},
    })  # fmt: skip


def ours(task: str, width: int, sparsity: float, steps: int) -> tuple[Callable[[], None], float]:
    """Our loop on the host, and seconds to compile."""
    from sparse_rl.runs.pack import compile_programs, prepare_pack

    config = config_of(width, sparsity, steps, {"source": "gymnasium", "task": task}, "obgd")
    loop, (run,) = prepare_pack([config])
    programs = compile_programs(loop, [run.inputs], "map")
    held = {"state": programs.init(run.inputs), "turn": 0}

    def act() -> None:
        held["state"], _ = programs.chunk(np.int32(held["turn"] * steps), held["state"])
        held["turn"] += 1

    act()
    return act, programs.seconds


def update(width: int, sparsity: float, updates: int, rule: str) -> tuple[Callable[[], None], Any]:
    """So many updates on transitions drawn beforehand, and the run's costs; sizes are Walker2d's."""
    import jax
    import jax.numpy as jnp

    from sparse_rl.agents import STREAMING, Happened
    from sparse_rl.envs import Spec
    from sparse_rl.runs.pack import prepare_pack

    config = config_of(width, sparsity, 1000, {"source": "gymnasium", "task": "walker2d"}, rule)
    _, (run,) = prepare_pack([config])
    spec = Spec(name="drawn", observation_size=17, action_size=6, episode_length=1000)
    agent, rng = STREAMING["stream_ac"](config, spec), np.random.default_rng(0)
    seen, action, reward = (rng.normal(size=(64, n)) for n in (18, 6, 1))
    given = [jnp.asarray(x, jnp.float32) for x in (seen, action, reward)]

    def one(i: Any, state: Any, given: Any) -> Any:
        seen, action, reward = (jax.lax.dynamic_slice_in_dim(x, i % 63, 1) for x in given)
        following = jax.lax.dynamic_slice_in_dim(given[0], i % 63 + 1, 1)
        ended = jnp.full(1, i % 200 == 199)
        happened = Happened(seen, action, reward[0], following, ended, ended)
        return agent.update(state, happened, jnp.bool_(False))[0]

    @functools.partial(jax.jit, donate_argnums=0)
    def many(state: Any, given: Any) -> Any:
        return jax.lax.fori_loop(0, updates, lambda i, state: one(i, state, given), state)

    quickly: Any = {"xla_backend_optimization_level": 0}  # it runs once
    begin = jax.jit(agent.init).lower(jax.random.key(0), run.inputs).compile(compiler_options=quickly)
    held = {"state": begin(jax.random.key(0), run.inputs)}

    def act() -> None:
        held["state"] = jax.block_until_ready(many(held["state"], given))

    act()
    return act, run.costs


def rates() -> tuple[float, float]:
    """FLOP/s of a product of large matrices, and bytes/s of a copy of some megabytes, by one thread."""
    from threadpoolctl import threadpool_limits

    a = np.ones((2048, 2048), np.float32)
    b, copies = np.ones(1 << 19, np.float32), 200
    c = b.copy()

    def copying() -> None:
        for _ in range(copies):
            np.copyto(c, b)

    with threadpool_limits(1):
        product = min(timed(lambda: a @ a, 1).processor for _ in range(3))
    return 2 * 2048**3 / product, 2 * b.nbytes * copies / timed(copying, 1).processor


def beside_public(copy: str, arguments: argparse.Namespace) -> None:
    """The first table."""
    print("µs per env step, wall and (processor); steps/s by wall; × the public code's.")
    print("task width | public | ours dense, × | ours 0.9 sparse, × | s to compile")
    task, steps = arguments.task, arguments.steps
    for width in arguments.widths[:2]:
        theirs = public(copy, task, width, steps)
        mine = [ours(task, width, sparsity, steps) for sparsity in CELLS]
        turns: list[list[Turn]] = [[] for _ in range(3)]
        for _ in range(arguments.rounds):
            for kept, act in zip(turns, [theirs, *(act for act, _ in mine)], strict=True):
                kept.append(timed(act, steps))
        them, *us = map(median, turns)
        told = " | ".join(
            f"{1e6 * t.wall:6.0f} ({1e6 * t.processor:5.0f}) {1 / t.wall:6.0f}/s, "
            f"{them.wall / t.wall:4.1f} ({them.processor / t.processor:4.1f})"
            for t in us
        )
        print(
            f"{task} {width:5d} | {1e6 * them.wall:6.0f} ({1e6 * them.processor:5.0f}) | {told} | "
            f"{mine[0][1]:.0f} {mine[1][1]:.0f}",
            flush=True,
        )


def updates_alone(arguments: argparse.Namespace) -> None:
    """The second table."""
    flops, bandwidth = rates()
    print(
        f"one update, µs, wall (processor); one thread: {flops / 1e9:.0f} GFLOP/s, "
        f"{bandwidth / 1e9:.0f} GB/s"
    )
    print("width sparsity |  update | floor | FLOPs  bytes | of dense")
    for width in arguments.widths:
        updates = max(20, min(2000, 2_000_000 // width))
        cells = [update(width, sparsity, updates, arguments.rule) for sparsity in CELLS]
        turns: list[list[Turn]] = [[] for _ in CELLS]
        for _ in range(arguments.rounds):
            for kept, (act, _) in zip(turns, cells, strict=True):
                kept.append(timed(act, updates))
        dense = median(turns[0])
        for sparsity, kept, (_, costs) in zip(CELLS, turns, cells, strict=True):
            now = median(kept)
            floor = max(costs.flops_per_update / flops, costs.bytes_per_update / bandwidth)
            print(
                f"{width:5d} {sparsity:8g} | {1e6 * now.wall:6.1f} ({1e6 * now.processor:6.1f}) | "
                f"{1e6 * floor:5.1f} | {costs.flops_per_update:.3g} {costs.bytes_per_update:.3g} | "
                f"{now.wall / dense.wall:.2f} ({now.processor / dense.processor:.2f})",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--task", choices=TASKS, default="walker2d")
    parser.add_argument("--widths", type=lambda text: [int(w) for w in text.split(",")], default=[])
    parser.add_argument("--rule", choices=("obgd", "intentional"), default="obgd")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    arguments.widths = arguments.widths or [128, 512, 1024, 2048]
    print(f"load {os.getloadavg()[0]:.1f} before")
    if copy := os.environ.get("COPY"):
        beside_public(copy, arguments)
    updates_alone(arguments)


if __name__ == "__main__":
    main()
