"""Agents: one file per algorithm, and the loops that drive them."""

from typing import Any, cast

from sparse_rl.agent_configs import AzopgConfig, OffPolicyConfig, ReplayConfig
from sparse_rl.agents import azopg, ddpg, dqn, drq, paac, ppo, sac, zero_order
from sparse_rl.agents.comparators import compare
from sparse_rl.agents.contract import (
    HostedLoop,
    Loop,
    OffPolicyAgent,
    OnPolicyAgent,
    PureLoop,
    RunInputs,
)
from sparse_rl.agents.host import HostLoop
from sparse_rl.agents.host_off_policy import HostOffPolicyLoop
from sparse_rl.agents.master import MasterLoop
from sparse_rl.agents.off_policy import OffPolicyLoop, RunState
from sparse_rl.agents.on_policy import OnPolicyLoop, OnPolicyState
from sparse_rl.agents.zero_order import ZeroOrderLoop, ZeroOrderState
from sparse_rl.config import RunConfig
from sparse_rl.envs import Env, HostEnv, Spec
from sparse_rl.networks import misread
from sparse_rl.schema import ConfigError

OFF_POLICY = {"sac": sac.make, "ddpg": ddpg.make, "drq": drq.make}
ON_POLICY = {"ppo": ppo.make, "paac": paac.make, "dqn": dqn.make}

__all__ = [
    "OFF_POLICY",
    "ON_POLICY",
    "HostLoop",
    "HostOffPolicyLoop",
    "HostedLoop",
    "Loop",
    "MasterLoop",
    "OffPolicyAgent",
    "OffPolicyLoop",
    "OnPolicyAgent",
    "OnPolicyLoop",
    "OnPolicyState",
    "PureLoop",
    "RunInputs",
    "RunState",
    "ZeroOrderLoop",
    "ZeroOrderState",
    "drawn",
    "make_loop",
]


def _check_fit(config: RunConfig, env: Spec) -> None:
    """Raise :class:`ConfigError` if the agent cannot act in this environment, or not read it."""
    agent = config.agent
    wrong = misread(agent.network, env.picture)
    if wrong:
        raise ConfigError(f"agent.network={agent.network} {wrong.format(env=env.name)}")
    if agent.name == "azopg" and not env.name.startswith("lqr/"):
        raise ConfigError(
            f"agent=azopg controls linear plants, and env={env.name} is none; choose lqr/…"
        )
    if isinstance(agent, ReplayConfig) and env.discrete:
        raise ConfigError(
            f"agent={agent.name} needs continuous actions, and env={env.name} has {env.action_size} "
            "discrete ones; choose one of ppo, paac, dqn"
        )
    if isinstance(agent, OffPolicyConfig) and env.picture:
        raise ConfigError(
            f"agent={agent.name} reads numbers, and env={env.name} shows pictures; choose one of drq, "
            "ppo, paac"
        )
    if agent.name == "dqn" and not env.discrete:
        raise ConfigError(
            f"agent=dqn needs discrete actions, and those of env={env.name} are continuous; "
            "choose one of sac, ddpg, ppo, paac"
        )


def make_loop(config: RunConfig, env: Env | HostEnv) -> Loop:
    """The training loop of a run: its agent in its environment.

    Raises:
        ConfigError: they do not fit each other.
    """
    _check_fit(config, env)
    name = config.agent.name
    if isinstance(config.agent, AzopgConfig):
        zero_order_loop = MasterLoop if config.agent.clock == "real" else ZeroOrderLoop
        return zero_order_loop(config, cast(Env, env), azopg.make(config, zero_order.plant_of(config)))
    if name in ON_POLICY:
        actors = ON_POLICY[name](config, env)
        if isinstance(env, HostEnv):
            return HostLoop(config, env, actors)
        return OnPolicyLoop(config, env, actors)
    plain = OffPolicyLoop(config, cast(Env, env), OFF_POLICY[name](config, env))
    agent = compare(config, plain.agent, plain.updates_by(config.interactions))
    if isinstance(env, HostEnv):
        return HostOffPolicyLoop(config, env, agent)
    return plain._replace(agent=agent)


def drawn(loop: Loop, config: RunConfig, inputs: RunInputs) -> Any:
    """What the host finds for a run before it begins: nothing for most agents."""
    if isinstance(loop, ZeroOrderLoop | MasterLoop):
        return zero_order.draw(config, loop.agent, inputs)
    return ()
