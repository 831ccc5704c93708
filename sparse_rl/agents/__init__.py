"""Agents: one file per algorithm, and the loops that drive them."""

from typing import Any

from sparse_rl.agent_configs import AzopgConfig
from sparse_rl.agents import azopg, dqn, paac, ppo, sac, zero_order
from sparse_rl.agents.contract import Loop, OffPolicyAgent, OnPolicyAgent, PureLoop, RunInputs
from sparse_rl.agents.host import HostLoop
from sparse_rl.agents.master import MasterLoop
from sparse_rl.agents.off_policy import OffPolicyLoop, RunState
from sparse_rl.agents.on_policy import OnPolicyLoop, OnPolicyState
from sparse_rl.agents.zero_order import ZeroOrderLoop, ZeroOrderState
from sparse_rl.config import RunConfig
from sparse_rl.envs import Env, HostEnv, Spec
from sparse_rl.networks import misread
from sparse_rl.schema import ConfigError

OFF_POLICY = {"sac": sac.make}
ON_POLICY = {"ppo": ppo.make, "paac": paac.make, "dqn": dqn.make}

__all__ = [
    "OFF_POLICY",
    "ON_POLICY",
    "HostLoop",
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
    if agent.name == "sac" and env.discrete:
        raise ConfigError(
            f"agent=sac needs continuous actions, and env={env.name} has {env.action_size} discrete "
            "ones; choose one of ppo, paac, dqn"
        )
    if agent.name == "dqn" and not env.discrete:
        raise ConfigError(
            f"agent=dqn needs discrete actions, and those of env={env.name} are continuous; "
            "choose one of sac, ppo, paac"
        )


def make_loop(config: RunConfig, env: Env | HostEnv) -> Loop:
    """The training loop of a run: its agent in its environment.

    Raises:
        ConfigError: they do not fit each other.
    """
    _check_fit(config, env)
    name = config.agent.name
    if isinstance(env, HostEnv):
        if name not in ON_POLICY:
            raise ConfigError(f"agent={name} does not learn in env={env.name}, which runs on the host")
        return HostLoop(config, env, ON_POLICY[name](config, env))
    if isinstance(config.agent, AzopgConfig):
        zero_order_loop = MasterLoop if config.agent.clock == "real" else ZeroOrderLoop
        return zero_order_loop(config, env, azopg.make(config, zero_order.plant_of(config)))
    if name in ON_POLICY:
        return OnPolicyLoop(config, env, ON_POLICY[name](config, env))
    return OffPolicyLoop(config, env, OFF_POLICY[name](config, env))


def drawn(loop: Loop, config: RunConfig, inputs: RunInputs) -> Any:
    """What the host finds for a run before it begins: nothing for most agents."""
    if isinstance(loop, ZeroOrderLoop | MasterLoop):
        return zero_order.draw(config, loop.agent, inputs)
    return ()
