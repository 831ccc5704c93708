"""Env steps per second of PAAC by number of actors, and what the time goes to.

    make actors-speed

Breakout (MinAtar), 5 interactions a rollout, networks of MinAtar's own size. Three programs take turns
in one process: training; the same rollouts without learning; the same environments with random actions.
What the third takes is the environments' share of the first's time, what the second takes more is
inference, and the rest is learning. Compilation is apart; figures are medians of the rounds. The
floor is the share that the update's FLOPs take at the machine's measured matrix-product rate.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from sac_against_sbx import product_rate

from sparse_rl.kernels.machine import cores
from sparse_rl.loops.on_policy import OnPolicyLoop
from sparse_rl.loops.rollout import Behaviour, collect
from sparse_rl.runs.pack import compiler_options, prepare_pack
from sparse_rl.settings.run import run_config

ACTORS = (16, 32, 64, 128, 256, 512)
NUM_STEPS, WIDTH, ENV_STEPS = 5, 128, 81_920

HEADER = """\
{cores} cores, load {load:.1f} before; 2048×2048 product: {rate:.0f} GFLOP/s. Medians of {rounds} rounds.
actors | env steps/s: training rollouts environments | share: environments inference learning floor | \
compile"""


def repeated(function: Callable[[Any, Any], Any], times: int) -> Callable[[Any], Any]:
    """``state → state`` after so many calls of ``(state, i) → state``, as one program."""
    return lambda state: jax.lax.fori_loop(0, times, lambda i, state: function(state, i), state)


def programs(loop: OnPolicyLoop, times: int) -> dict[str, Callable[[Any], Any]]:
    """What takes turns."""

    def random(state: Any, i: Any) -> Any:
        def act(view: Any, memory: Any, key: Any) -> tuple[Any, Any, Any]:
            size = (len(view.observation),)
            return jax.random.randint(key, size, 0, loop.env.action_size), jnp.zeros(size), memory

        still = Behaviour(lambda view: view, act, lambda view, _: jnp.zeros(len(view.observation)))
        keys = jax.random.split(jax.random.fold_in(state.key, i), NUM_STEPS)
        return state._replace(envs=collect(loop.env, still, state.envs, (), keys, 1)[0])

    def rollouts(state: Any, i: Any) -> Any:
        return state._replace(envs=loop.collect(state, jax.random.fold_in(state.key, i))[0])

    made = {
        "training": lambda state, i: loop.iterate(state, i)[0],
        "rollouts": rollouts,
        "environments": random,
    }
    return {name: repeated(function, times) for name, function in made.items()}


def measure(num_envs: int, rounds: int, rate: float) -> None:
    """Print one row."""
    agent = {"name": "paac", "network": "minatar", "num_envs": num_envs, "num_steps": NUM_STEPS}
    env = {"source": "gymnax", "task": "Breakout-MinAtar"}
    budget = {"env_steps": 100 * ENV_STEPS, "log_every": ENV_STEPS, "eval_every": ENV_STEPS}
    loop, (run,) = prepare_pack([run_config({"agent": agent, "env": env, "width": WIDTH, **budget})])
    assert isinstance(loop, OnPolicyLoop)
    times = ENV_STEPS // (num_envs * NUM_STEPS)
    state, started = jax.jit(loop.init)(run.inputs), time.perf_counter()
    compiled = {
        name: jax.jit(function).lower(state).compile(compiler_options=compiler_options(loop))
        for name, function in programs(loop, times).items()
    }
    compilation = time.perf_counter() - started
    seconds: dict[str, list[float]] = {name: [] for name in compiled}
    for _ in range(rounds):
        for name, program in compiled.items():
            started = time.perf_counter()
            jax.block_until_ready(program(state))
            seconds[name].append(time.perf_counter() - started)
    took = {name: statistics.median(each) for name, each in seconds.items()}
    whole = took["training"]
    shares = [
        took["environments"] / whole,
        (took["rollouts"] - took["environments"]) / whole,
        (whole - took["rollouts"]) / whole,
        run.costs.flops_per_update * times / rate / whole,
    ]
    steps = times * num_envs * NUM_STEPS
    speeds = " ".join(f"{steps / took[name]:12,.0f}" for name in took)
    print(
        f"{num_envs:6} | {speeds} | {' '.join(f'{s:9.2f}' for s in shares)} | {compilation:7.1f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds, load, rate = parser.parse_args().rounds, os.getloadavg()[0], product_rate()
    print(HEADER.format(cores=cores(), load=load, rate=rate / 1e9, rounds=rounds))
    for num_envs in ACTORS:
        measure(num_envs, rounds, rate)


if __name__ == "__main__":
    main()
