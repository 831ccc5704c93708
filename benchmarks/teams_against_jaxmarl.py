"""IPPO, MAPPO, IQL, VDN and QMIX beside JaxMARL's scripts: env steps per second, and what is earned.

    git clone https://github.com/bold-lab-ai/JaxMARL ~/JaxMARL
    pip install flashbax                                  # of their Q-learning alone
    python benchmarks/teams_against_jaxmarl.py ~/JaxMARL

Same environments (of the installed jaxmarl), widths, batches, rates and budgets; float32. Their files
are read as they are; ``wandb`` and ``distrax`` are stood in for. Their one program trains a whole run;
eight seeds are their ``vmap`` beside our pack. Each measurement is a process of its own, and they take
turns; compilation is apart; figures are medians of the rounds. Ours measures the networks' health at ten
log points; theirs has no counterpart.

What differs: theirs has one recurrent network with two heads for IPPO, ours an actor and a critic, each
with a memory of its own. Their episodes of ``spread`` have 26 steps, ours 25. Their time limits end.

Returns are the team's (three times the mean of ``spread``'s agents), mean of the seeds [lowest,
highest]: of PPO those of training in the last tenth of the run, else of greedy episodes at its end. The
floor is the time that the updates' FLOPs take at the machine's measured matrix-product rate.
"""

import argparse
import json
import math
import sys
import time
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import numpy as np
from ppo_against_purejaxrl import SEEDS, SIDES, Categorical, in_a_process, tell
from sac_against_sbx import product_rate

from sparse_rl.kernels.machine import cores
from sparse_rl.runs.pack import compile_programs, one_blas_thread, prepare_pack
from sparse_rl.settings.run import run_config

CORES = cores()
LOG_POINTS = 10
LIMIT = 400
"""Seconds for one measurement, compilation included."""
SPREAD, KITCHEN = "MPE_simple_spread_v3", "overcooked"
TASKS = {SPREAD: "spread", KITCHEN: "overcooked_cramped_room"}
PPO = {
    "NUM_ENVS": 16, "NUM_STEPS": 128, "UPDATE_EPOCHS": 4, "NUM_MINIBATCHES": 4, "GAMMA": 0.99,
    "GAE_LAMBDA": 0.95, "CLIP_EPS": 0.2, "SCALE_CLIP_EPS": False, "ENT_COEF": 0.01, "VF_COEF": 0.5,
    "MAX_GRAD_NORM": 0.5, "ACTIVATION": "relu", "ANNEAL_LR": True,
}  # fmt: skip
VALUES = {
    "NUM_ENVS": 8, "NUM_STEPS": 26, "BUFFER_SIZE": 5000, "BUFFER_BATCH_SIZE": 32, "EPS_START": 1.0,
    "EPS_FINISH": 0.05, "EPS_DECAY": 0.1, "MAX_GRAD_NORM": 25, "TARGET_UPDATE_INTERVAL": 200, "TAU": 1.0,
    "NUM_EPOCHS": 1, "LR": 0.005, "LEARNING_STARTS": 10000, "LR_LINEAR_DECAY": True, "GAMMA": 0.9,
    "MIXER_INIT_SCALE": 0.001, "TEST_DURING_TRAINING": True, "TEST_INTERVAL": 0.1, "TEST_NUM_STEPS": 30,
    "TEST_NUM_ENVS": 128, "WANDB_MODE": "online",
}  # fmt: skip


class Row(NamedTuple):
    """What both sides train."""

    name: str
    """Ours, and whether it remembers."""
    agent: str
    file: str
    """Theirs."""
    task: str
    width: int
    rollouts: int
    learning_rate: float

    @property
    def by_values(self) -> bool:
        return self.agent in ("iql", "vdn", "qmix")

    @property
    def remembers(self) -> bool:
        return "rnn" in self.file

    @property
    def theirs(self) -> dict[str, Any]:
        """Its settings in their words."""
        base = VALUES if self.by_values else PPO
        mixer = {"MIXER_EMBEDDING_DIM": self.width // 2, "MIXER_HYPERNET_HIDDEN_DIM": 2 * self.width}
        sizes = {"FC_DIM_SIZE": self.width, "GRU_HIDDEN_DIM": self.width, "HIDDEN_SIZE": self.width}
        kitchen = {"ENV_KWARGS": {"layout": "cramped_room"}, "REW_SHAPING_HORIZON": 1e9}
        return {
            **base, **sizes, **mixer, "LR": self.learning_rate, "ENV_NAME": self.task,
            "TOTAL_TIMESTEPS": self.env_steps, "ENV_KWARGS": {},
            **(kitchen if self.task == KITCHEN else {}),
        }  # fmt: skip

    @property
    def env_steps(self) -> int:
        base: dict[str, Any] = VALUES if self.by_values else PPO
        return int(base["NUM_ENVS"] * base["NUM_STEPS"] * self.rollouts)


ROWS = (
    Row("IPPO, spread", "ippo", "IPPO/ippo_ff_mpe.py", SPREAD, 64, 200, 2.5e-4),
    Row("IPPO-GRU, spread", "ippo", "IPPO/ippo_rnn_mpe.py", SPREAD, 128, 60, 5e-4),
    Row("MAPPO-GRU, spread", "mappo", "MAPPO/mappo_rnn_mpe.py", SPREAD, 128, 60, 2e-3),
    Row("IQL-GRU, spread", "iql", "QLearning/iql_rnn.py", SPREAD, 64, 1000, 5e-3),
    Row("VDN-GRU, spread", "vdn", "QLearning/vdn_rnn.py", SPREAD, 64, 1000, 5e-3),
    Row("QMIX-GRU, spread", "qmix", "QLearning/qmix_rnn.py", SPREAD, 64, 1000, 5e-3),
    Row("IPPO, cramped room", "ippo", "IPPO/ippo_ff_overcooked.py", KITCHEN, 64, 100, 2.5e-4),
)


def load(copy: Path, file: str, told: list[dict[str, Any]]) -> types.ModuleType:
    """One of their files as a module; what it logs is appended to ``told``."""

    def stand_in(name: str, **held: Any) -> None:
        module = types.ModuleType(name)
        module.__dict__.update(held)
        sys.modules[name] = module

    stand_in("wandb", log=lambda line: told.append(jax.tree.map(np.asarray, line)))
    stand_in("distrax", Categorical=Categorical)
    text = (copy / "baselines" / file).read_text()
    module = types.ModuleType(Path(file).stem)
    sys.modules[module.__name__] = module
    exec(compile(text, file, "exec"), module.__dict__)
    return module


def their_program(copy: Path, row: Row, told: list[dict[str, Any]]) -> Callable[[Any], Any]:
    """Their whole training: ``key → anything``."""
    module, config = load(copy, row.file, told), row.theirs
    if row.by_values:
        env, _ = module.env_from_config(dict(config))
        return cast(Callable[[Any], Any], module.make_train(config, env))
    if row.task == KITCHEN:
        config["ENV_KWARGS"] = {"layout": module.overcooked_layouts["cramped_room"]}
    return cast(Callable[[Any], Any], module.make_train(config))


def their_returns(row: Row, told: list[dict[str, Any]], seeds: int) -> list[float]:
    """Of each seed, in the order in which they were logged; of seeds together their mean, for logs of
    them come in any order."""
    name = "test_returned_episode_returns" if row.by_values else "returned_episode_returns"
    lines = [line.get(name, line.get("returns")) for line in told]
    found = np.array([float(np.mean(x)) for x in lines if x is not None])
    per_run = len(found) // seeds
    last = max(1, per_run // LOG_POINTS) if not row.by_values else 1
    if not per_run:
        return [math.nan]
    return [float(np.nanmean(run[-last:])) for run in found[: per_run * seeds].reshape(seeds, per_run)]


def our_configs(row: Row) -> list[Any]:
    """Eight runs with their settings in our words."""
    theirs = row.theirs
    agent: dict[str, Any] = {
        "name": row.agent, "network": "mlp", "num_envs": theirs["NUM_ENVS"],
        "learning_rate": row.learning_rate, "discount": theirs["GAMMA"],
        "max_grad_norm": float(theirs["MAX_GRAD_NORM"]), "memory": "gru" if row.remembers else "none",
    }  # fmt: skip
    if row.by_values:
        agent |= {
            "updates_per_interaction": 1 / 26, "random_interactions": 1250, "batch_size": 32,
            "replay_size": 26 * 5000, "target_every": 200,
        }  # fmt: skip
    else:
        agent |= {
            "num_steps": theirs["NUM_STEPS"], "minibatches": theirs["NUM_MINIBATCHES"],
            "clip_ratio": theirs["CLIP_EPS"], "value_clip": theirs["CLIP_EPS"],
        }  # fmt: skip
    env = {"source": "jaxmarl", "task": TASKS[row.task], "eval_episodes": 128}
    budget = {"env_steps": row.env_steps, "log_every": row.env_steps // LOG_POINTS}
    return [
        run_config({"agent": agent, "env": env, "width": row.width, "seed": seed, **budget})
        for seed in range(SEEDS)
    ]


class Ours:
    """Our side of a row."""

    def __init__(self, row: Row) -> None:
        self.row = row
        loop, self.runs = prepare_pack(our_configs(row))
        self.programs = compile_programs(loop, [self.runs[0].inputs], "map")
        config = loop.config
        step = config.log_every // config.frames_per_interaction
        self.firsts = range(0, config.interactions, step)

    def train(self, run: Any) -> float:
        """One whole run; what it earns in the end."""
        state = self.programs.init(run.inputs)
        for first in self.firsts:
            state, line = self.programs.chunk(np.int32(first), state)
        if self.row.by_values:
            return float(self.programs.evaluate(np.int32(self.firsts.stop), state)["return_mean"])
        return float(line["train_return_mean"])

    def eight(self) -> list[float]:
        with ThreadPoolExecutor(CORES) as pool:
            return list(pool.map(self.train, self.runs))


def measure(copy: Path, row: Row, side: str) -> dict[str, Any]:
    """One side of a row: seconds of training a run (or all seeds together) and of compiling, and what
    is earned."""
    begun = time.perf_counter()
    call: Callable[[], list[float]]
    together = side.endswith("8")
    if side.startswith("ours"):
        ours = Ours(row)
        call = ours.eight if together else lambda: [ours.train(ours.runs[0])]
    else:
        told: list[dict[str, Any]] = []
        train = their_program(copy, row, told)
        keys = jax.random.split(jax.random.key(0, impl="threefry2x32"), SEEDS)
        keys = jax.random.key_data(keys)
        given = keys if together else keys[0]
        program = jax.jit(jax.vmap(train) if together else train).lower(given).compile()

        def call() -> list[float]:
            jax.block_until_ready(program(given))
            jax.effects_barrier()
            return their_returns(row, told, 1)

    compiled = time.perf_counter()
    with one_blas_thread():  # as our sweeps have it; theirs calls no BLAS
        returns = call()
    return {"seconds": time.perf_counter() - compiled, "compile": compiled - begun, "returns": returns}


def compare(copy: Path, index: int, rounds: int, rate: float) -> None:
    """Print a row's lines."""
    row = ROWS[index]
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for _ in range(rounds):
        for side in SIDES:
            one = in_a_process(__file__, copy, index, side, LIMIT)
            found[side] += [one] if one else []

    costs = prepare_pack(our_configs(row)).runs[0].costs
    floor = costs.flops_per_update * costs.updates / rate
    print(f"{row.name}, {row.env_steps:,} env steps, width {row.width}; floor {floor:.2f} s")
    tell(found, row.env_steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("copy", type=Path, help="a checkout of JaxMARL")
    parser.add_argument("--rounds", type=int, default=3)
    tasks = [row.name for row in ROWS]
    parser.add_argument("--tasks", nargs="*", choices=tasks, default=tasks)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not (options.copy / "baselines").is_dir():
        parser.error(f"{options.copy} has no baselines/")
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
