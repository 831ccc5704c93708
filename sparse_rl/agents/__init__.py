"""Agents: one file per algorithm, and the loops that drive them."""

from sparse_rl.agents.contract import Loop, OffPolicyAgent, RunInputs
from sparse_rl.agents.off_policy import OffPolicyLoop, RunState
from sparse_rl.agents.sac import make as make_sac
from sparse_rl.config import RunConfig
from sparse_rl.envs import Env

AGENTS = {"sac": make_sac}

__all__ = ["AGENTS", "Loop", "OffPolicyAgent", "OffPolicyLoop", "RunInputs", "RunState", "make_loop"]


def make_loop(config: RunConfig, env: Env) -> Loop:
    """The training loop of a run: its agent in its environment."""
    return OffPolicyLoop(config, env, AGENTS[config.agent.name](config, env))
