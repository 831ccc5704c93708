"""PPO beside purejaxrl's, which is one compiled program too: env steps per second at equal learning.

    git clone https://github.com/luchris429/purejaxrl ~/purejaxrl
    python benchmarks/ppo_against_purejaxrl.py ~/purejaxrl

Same environments (gymnax), networks, hyperparameters and budgets; float32; their files are read as
they are but for what they need to run with today's gymnax (``CHANGES``). Eight seeds one after the
other, and together: their ``vmap`` beside our pack. Each measurement is a process of its own, and they
take turns; compilation is apart; figures are medians of the rounds. Ours measures the networks' health
at ten log points; theirs has no counterpart. What has not ended after ``LIMIT`` seconds is nan, and is
not tried again.

Returns are those of training episodes in the last tenth of the run, mean of the seeds
[lowest, highest]. The floor is the time that the updates' FLOPs take at the machine's measured
matrix-product rate.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
import types
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
from sac_against_sbx import product_rate

from sparse_rl.kernels.machine import cores
from sparse_rl.runs.pack import compile_programs, one_blas_thread, prepare_pack
from sparse_rl.settings.run import run_config

CORES = cores()
SEEDS, LOG_POINTS = 8, 10
SIDES = ("theirs", "ours", "theirs, 8", "ours, 8")
LIMIT = 240
"""Seconds for one measurement, compilation included."""


class Row(NamedTuple):
    """What both sides train."""

    task: str
    width: int
    num_envs: int
    num_steps: int
    rollouts: int
    minibatches: int
    learning_rate: float
    discount: float = 0.99
    entropy_coefficient: float = 0.01
    continuous: bool = False
    normalised: bool = False
    recurrent: bool = False
    """With a GRU. Theirs has one for both, and a hidden layer of each behind it; ours has two
    networks, each with its own: at equal width half as much arithmetic again."""

    @property
    def name(self) -> str:
        return f"{self.task}-GRU" if self.recurrent else self.task

    @property
    def file(self) -> str:
        """Theirs."""
        if self.recurrent:
            return "ppo_rnn.py"
        return "ppo_continuous_action.py" if self.continuous else "ppo.py"

    @property
    def env_steps(self) -> int:
        return self.num_envs * self.num_steps * self.rollouts


ROWS = (
    Row("CartPole-v1", 64, 4, 128, 1000, 4, 2.5e-4),
    Row("Breakout-MinAtar", 64, 64, 128, 120, 8, 5e-3),
    Row("Pendulum-v1", 256, 16, 128, 300, 8, 1e-3, 0.95, 0.0, continuous=True, normalised=True),
    Row("CartPole-v1", 128, 16, 128, 100, 4, 1e-3, recurrent=True),  # 128: the only width it has
)

CHANGES = {
    "wrappers.py": (
        ("import chex\n", "from jax import Array\nimport types\nchex = types.SimpleNamespace("
         "PRNGKey=Array, Array=Array)\n"),
        ("from brax import envs\n", ""),
        ("from brax.envs.wrappers.training import EpisodeWrapper, AutoResetWrapper\n", ""),
        ("import navix as nx\n", ""),
        # gymnax 1.0 tells terminations from truncations
        ("        obs, state, reward, done, info = self._env.step(key, state, action, params)\n"
         "        obs = jnp.reshape(obs, (-1,))",
         "        obs, state, reward, ended, cut, info = self._env.step(key, state, action, params)\n"
         "        done = ended | cut\n"
         "        obs = jnp.reshape(obs, (-1,))"),
    ),
    "ppo.py": (),
    # flax's cells have their size as a field today
    "ppo_rnn.py": (
        ("nn.GRUCell()(rnn_state, ins)", "nn.GRUCell(features=ins.shape[1])(rnn_state, ins)"),
        ("nn.GRUCell.initialize_carry(\n"
         "            jax.random.PRNGKey(0), (batch_size,), hidden_size\n"
         "        )", "jnp.zeros((batch_size, hidden_size))"),
        ('"metric": metric', '"metrics": metric'),  # as its other files call it
    ),
    # brax's tasks take minutes to compile; ours and theirs both know gymnax
    "ppo_continuous_action.py": (
        ('BraxGymnaxWrapper(config["ENV_NAME"])', 'ScaledGymnax(config["ENV_NAME"])'),
        ("import distrax\n", "import distrax\nfrom distrax import ScaledGymnax\n"),
    ),
}  # fmt: skip


class Categorical:
    """The part of distrax that their discrete policy uses."""

    def __init__(self, logits: Any) -> None:
        self.log_probs = jax.nn.log_softmax(logits)

    def sample(self, seed: Any) -> Any:
        return jax.random.categorical(seed, self.log_probs)

    def log_prob(self, action: Any) -> Any:
        return jnp.take_along_axis(self.log_probs, action[..., None], -1)[..., 0]

    def entropy(self) -> Any:
        return -jnp.sum(jnp.exp(self.log_probs) * self.log_probs, -1)


class MultivariateNormalDiag:
    """The part of distrax that their continuous policy uses."""

    def __init__(self, mean: Any, deviation: Any) -> None:
        self.mean, self.deviation = mean, deviation

    def sample(self, seed: Any) -> Any:
        return self.mean + self.deviation * jax.random.normal(seed, self.mean.shape)

    def log_prob(self, action: Any) -> Any:
        scaled = (action - self.mean) / self.deviation
        return jnp.sum(-0.5 * scaled**2 - jnp.log(self.deviation) - 0.5 * jnp.log(2 * jnp.pi), -1)

    def entropy(self) -> Any:
        each = jnp.log(self.deviation) + 0.5 * jnp.log(2 * jnp.pi * jnp.e)
        return jnp.sum(jnp.broadcast_to(each, self.mean.shape), -1)


class ScaledGymnax:
    """A gymnax task with actions in [−1, 1], as their wrappers expect one."""

    def __init__(self, name: str) -> None:
        self._env, self._params = gymnax.make(name)

    def reset(self, key: Any, params: Any = None) -> Any:
        return self._env.reset(key, self._params)

    def step(self, key: Any, state: Any, action: Any, params: Any = None) -> Any:
        high = self._env.action_space(self._params).high
        seen = self._env.step(key, state, jnp.reshape(action * high, (-1,)), self._params)
        observation, state, reward, ended, cut, info = seen
        return observation, state, jnp.reshape(reward, ()), ended | cut, info

    def observation_space(self, params: Any) -> Any:
        return self._env.observation_space(self._params)

    def action_space(self, params: Any) -> Any:
        return self._env.action_space(self._params)


def load(copy: Path, file: str) -> types.ModuleType:
    """One of their files as a module, changed as ``CHANGES`` says."""
    text = (copy / "purejaxrl" / file).read_text()
    for old, new in CHANGES[file]:
        text = text.replace(old, new)
    module = types.ModuleType(file.removesuffix(".py"))
    sys.modules[module.__name__] = module
    exec(compile(text, file, "exec"), module.__dict__)
    return module


def their_program(copy: Path, row: Row) -> Callable[[Any], Any]:
    """Their whole training: ``key → {"metrics": …}``."""
    stand_in = types.ModuleType("distrax")
    stand_in.__dict__.update(
        Categorical=Categorical,
        MultivariateNormalDiag=MultivariateNormalDiag,
        ScaledGymnax=ScaledGymnax,
    )
    sys.modules["distrax"] = stand_in
    load(copy, "wrappers.py")
    module = load(copy, row.file)
    config = {
        "LR": row.learning_rate,
        "NUM_ENVS": row.num_envs,
        "NUM_STEPS": row.num_steps,
        "TOTAL_TIMESTEPS": row.env_steps,
        "UPDATE_EPOCHS": 4,
        "NUM_MINIBATCHES": row.minibatches,
        "GAMMA": row.discount,
        "GAE_LAMBDA": 0.95,
        "CLIP_EPS": 0.2,
        "ENT_COEF": row.entropy_coefficient,
        "VF_COEF": 0.5,
        "MAX_GRAD_NORM": 0.5,
        "ACTIVATION": "relu",
        "ENV_NAME": row.task,
        "ANNEAL_LR": True,
        "NORMALIZE_ENV": row.normalised,
    }
    train: Callable[[Any], Any] = module.make_train(config)
    return train


def their_returns(out: Any) -> list[float]:
    """Mean return of the training episodes that ended in the last tenth, by seed."""
    metrics = out["metrics"]
    names = ("returned_episode", "returned_episode_returns")  # of one run, or of all seeds
    ended, returns = (np.asarray(metrics[name]) for name in names)
    ended, returns = (x.reshape(-1, *x.shape[-3:]) for x in (ended, returns))
    last = slice(-max(1, ended.shape[1] // LOG_POINTS), None)
    return [float(r[last][e[last]].mean()) for r, e in zip(returns, ended, strict=True)]


def our_configs(row: Row) -> list[Any]:
    """Eight runs with their settings in our words."""
    agent = {
        "name": "ppo",
        "network": "mlp",
        "num_envs": row.num_envs,
        "num_steps": row.num_steps,
        "minibatches": row.minibatches,
        "learning_rate": row.learning_rate,
        "discount": row.discount,
        "entropy_coefficient": row.entropy_coefficient,
        "value_clip": 0.2,
        "normalise_observations": row.normalised,
        "normalise_rewards": row.normalised,
        "memory": "gru" if row.recurrent else "none",
    }
    budget = {"env_steps": row.env_steps, "log_every": row.env_steps // LOG_POINTS}
    env = {"source": "gymnax", "task": row.task}
    return [
        run_config({"agent": agent, "env": env, "width": row.width, "seed": seed, **budget})
        for seed in range(SEEDS)
    ]


class Ours:
    """Our side of a row."""

    def __init__(self, row: Row) -> None:
        loop, self.runs = prepare_pack(our_configs(row))
        self.programs = compile_programs(loop, [self.runs[0].inputs], "map")
        self.firsts = range(0, row.num_steps * row.rollouts, row.num_steps * row.rollouts // LOG_POINTS)

    def train(self, run: Any) -> float:
        """One whole run; the return of its last tenth."""
        state = self.programs.init(run.inputs)
        for first in self.firsts:
            state, line = self.programs.chunk(np.int32(first), state)
        return float(line["train_return_mean"])

    def eight(self) -> list[float]:
        with ThreadPoolExecutor(CORES) as pool:
            return list(pool.map(self.train, self.runs))


def measure(copy: Path, row: Row, side: str) -> dict[str, Any]:
    """One side of a row: seconds of training all seeds and of compiling, and their returns."""
    begun = time.perf_counter()
    call: Callable[[], list[float]]
    together = side.endswith("8")
    if side.startswith("ours"):
        ours = Ours(row)
        call = ours.eight if together else lambda: [ours.train(run) for run in ours.runs]
    else:
        train, keys = their_program(copy, row), jax.random.split(jax.random.key(0), SEEDS)
        if together:
            program = jax.jit(jax.vmap(train)).lower(keys).compile()
            call = lambda: their_returns(program(keys))  # noqa: E731
        else:
            program = jax.jit(train).lower(keys[0]).compile()
            call = lambda: [their_returns(program(key))[0] for key in keys]  # noqa: E731
    compiled = time.perf_counter()
    with one_blas_thread():  # as our sweeps have it; theirs calls no BLAS
        returns = call()
    return {"seconds": time.perf_counter() - compiled, "compile": compiled - begun, "returns": returns}


def in_a_process(
    script: str, copy: Path, row: int | str, side: str, limit: int = LIMIT
) -> dict[str, Any] | None:
    """What ``measure`` of a script finds, apart; ``None``: it did not end within so many seconds."""
    command = [sys.executable, script, str(copy), "--measure", str(row), side]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=True)
    except subprocess.TimeoutExpired:
        return None
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"row {row}, {side}: {error.stderr.splitlines()[-1]}") from None
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def compare(copy: Path, index: int, rounds: int, rate: float) -> None:
    """Print a row's lines."""
    row = ROWS[index]
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    endless: set[str] = set()
    for _ in range(rounds):
        for side in SIDES:
            one = None if side in endless else in_a_process(__file__, copy, index, side)
            found[side] += [one] if one else []
            endless |= set() if one else {side}

    costs = prepare_pack(our_configs(row)).runs[0].costs
    floor = costs.flops_per_update * costs.updates / rate
    print(f"{row.name}, {row.env_steps:,} env steps, width {row.width}; floor {floor:.2f} s")
    tell(found, SEEDS * row.env_steps)


def tell(found: Mapping[str, Sequence[Mapping[str, Any]]], env_steps: int) -> None:
    """Print what was measured of a row.

    Args:
        found: side → its measurements, as of :func:`measure`.
        env_steps: of a measurement of one run after the other.
    """

    def median(side: str, what: str = "seconds") -> float:
        measured = [one[what] for one in found[side]]
        return statistics.median(measured) if measured else math.nan

    speeds = ", ".join(f"{side} {env_steps / median(side):,.0f}" for side in SIDES[:2])
    print(
        f"  one run: {speeds} env steps/s ({median('theirs') / median('ours'):.2f} times); "
        f"compile {median('theirs', 'compile'):.1f} and {median('ours', 'compile'):.1f} s"
    )
    each = [median(side) / SEEDS for side in SIDES[2:]]
    print(f"  eight: theirs {each[0]:.2f}, ours {each[1]:.2f} s a run ({each[0] / each[1]:.2f} times)")
    for side in SIDES:
        for returns in [one["returns"] for one in found[side]][:1]:
            span = f" [{min(returns):.1f}, {max(returns):.1f}]" if len(returns) > 1 else ""
            print(f"  return, {side}: {statistics.mean(returns):.1f}{span}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("copy", type=Path, help="a checkout of purejaxrl")
    parser.add_argument("--rounds", type=int, default=3)
    tasks = [row.name for row in ROWS]
    parser.add_argument("--tasks", nargs="*", choices=tasks, default=tasks)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not (options.copy / "purejaxrl" / "ppo.py").is_file():
        parser.error(f"{options.copy} has no purejaxrl/ppo.py")
    if options.measure:
        row, side = options.measure
        print(json.dumps(measure(options.copy, ROWS[int(row)], side)))
        return
    rate = product_rate()
    print(f"{CORES} cores; 2048×2048 product: {rate / 1e9:.0f} GFLOP/s", flush=True)
    for task in options.tasks:
        compare(options.copy, tasks.index(task), options.rounds, rate)


if __name__ == "__main__":
    main()
