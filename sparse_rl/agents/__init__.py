"""Agents: one file per algorithm, and the loops that drive them."""

from sparse_rl.agents import paac, ppo, sac
from sparse_rl.agents.contract import Loop, OffPolicyAgent, OnPolicyAgent, RunInputs
from sparse_rl.agents.off_policy import OffPolicyLoop, RunState
from sparse_rl.agents.on_policy import OnPolicyLoop, OnPolicyState
from sparse_rl.config import ConfigError, RunConfig
from sparse_rl.envs import Env

OFF_POLICY = {"sac": sac.make}
ON_POLICY = {"ppo": ppo.make, "paac": paac.make}

__all__ = [
    "OFF_POLICY",
    "ON_POLICY",
    "Loop",
    "OffPolicyAgent",
    "OffPolicyLoop",
    "OnPolicyAgent",
    "OnPolicyLoop",
    "OnPolicyState",
    "RunInputs",
    "RunState",
    "make_loop",
]


def make_loop(config: RunConfig, env: Env) -> Loop:
    """The training loop of a run: its agent in its environment.

    Raises:
        ConfigError: the agent cannot act in, or its network cannot read, this environment.
    """
    name, network = config.agent.name, config.agent.network
    if network == "minatar" and env.picture is None:
        raise ConfigError(
            f"agent.network=minatar reads pictures, and env={env.name} shows none; choose mlp or simba"
        )
    if name in ON_POLICY:
        return OnPolicyLoop(config, env, ON_POLICY[name](config, env))
    if env.discrete:
        raise ConfigError(
            f"agent={name} needs continuous actions, and env={env.name} has {env.action_size} discrete "
            f"ones; choose one of {', '.join(ON_POLICY)}"
        )
    return OffPolicyLoop(config, env, OFF_POLICY[name](config, env))
