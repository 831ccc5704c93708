"""Runs that parts train: an agent in an environment that users train in, at a size for its device."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from sparse_rl.settings.run import RunConfig, run_config


class Task(NamedTuple):
    """An agent and its environment."""

    name: str
    agent: Mapping[str, Any]
    env: Mapping[str, Any]
    width: int
    steps: int
    """Env steps of a chunk."""
    small: Mapping[str, Any] = {}
    """Settings of the agent where everything is small."""
    small_steps: int = 64
    small_env: Mapping[str, Any] = {}
    """Of its environment there: physics of a humanoid take minutes to compile on a CPU."""


CART_POLE = {"task": "CartpoleBalance"}
TASKS = (
    Task(
        "SAC on Playground",
        {"name": "sac", "random_interactions": 16, "updates_per_interaction": 2},
        {"source": "playground", "task": "CheetahRun", "action_repeat": 2},
        256,
        500,
        {"batch_size": 32},
        40,
        CART_POLE,
    ),
    Task(
        "PPO on MinAtar",
        {"name": "ppo", "network": "minatar", "num_envs": 64, "minibatches": 8},
        {"source": "gymnax", "task": "Breakout-MinAtar", "sticky_actions": 0.1},
        128,
        64 * 128 * 2,
        {"num_envs": 8, "num_steps": 16, "minibatches": 2, "epochs": 1},
        8 * 16,
    ),
    Task(
        "PPO in mazes",
        {
            "name": "ppo", "network": "minigrid", "memory": "gru", "num_envs": 32, "num_steps": 256,
            "epochs": 5, "minibatches": 4,
        },
        {"source": "maze", "task": "13"},
        128,
        32 * 256 * 2,
        {"num_envs": 8, "num_steps": 16, "minibatches": 2, "epochs": 1},
        8 * 16,
    ),
    Task(
        "IPPO in a team",
        {"name": "ippo", "num_envs": 16},
        {"source": "jaxmarl", "task": "spread"},
        128,
        16 * 128 * 4,
        {"num_envs": 4, "num_steps": 8, "minibatches": 2, "epochs": 1},
        4 * 8,
    ),
)  # fmt: skip
HUMANOID = Task(
    "SAC on a humanoid",
    {"name": "sac", "random_interactions": 500},
    {"source": "playground", "task": "HumanoidWalk", "action_repeat": 2},
    512,
    1000,
    {"random_interactions": 16, "batch_size": 32},
    64,
    CART_POLE,
)


def config_of(task: Task, quick: bool, seed: int = 0, **more: Any) -> RunConfig:
    """One run; ``more`` is of the run: ``width``, ``sparsity``, ``env_steps`` …"""
    agent = {**task.agent, **(task.small if quick else {})}
    steps = task.small_steps if quick else task.steps
    settings = {
        "agent": agent,
        "env": {**task.env, **(task.small_env if quick else {}), "eval_episodes": 2},
        "width": 16 if quick else task.width,
        "seed": seed,
        "env_steps": 100 * steps,
        "log_every": steps,
        "eval_every": 100 * steps,
    }
    return run_config(settings | more)
