"""From a run's configuration to the loop that trains it."""

import dataclasses
from typing import Any, cast

from sparse_rl.agents import OFF_POLICY, ON_POLICY, RECALLING, STREAMING, RunInputs, azopg, compare
from sparse_rl.curricula import METHODS
from sparse_rl.envs import Env, HostEnv, Spec, TeamEnv, named, relabelled
from sparse_rl.loops import paired
from sparse_rl.loops.contract import Loop
from sparse_rl.loops.curriculum import CurriculumLoop
from sparse_rl.loops.hosted.off_policy import HostOffPolicyLoop
from sparse_rl.loops.hosted.on_policy import HostLoop
from sparse_rl.loops.hosted.streaming import HostStreamingLoop
from sparse_rl.loops.off_policy import OffPolicyLoop
from sparse_rl.loops.on_policy import OnPolicyLoop
from sparse_rl.loops.recalling import RecallingLoop
from sparse_rl.loops.replaying import schedule_of
from sparse_rl.loops.streaming import StreamingLoop
from sparse_rl.loops.zero_order import loop as zero_order
from sparse_rl.loops.zero_order.loop import ZeroOrderLoop
from sparse_rl.loops.zero_order.master import MasterLoop
from sparse_rl.networks import misread
from sparse_rl.settings.agents import AzopgConfig
from sparse_rl.settings.common import ExploringConfig, TeamAgentConfig
from sparse_rl.settings.curricula import NoCurriculum, PairedConfig
from sparse_rl.settings.envs import TeamConfig
from sparse_rl.settings.off_policy import DrqConfig, OffPolicyConfig
from sparse_rl.settings.run import RunConfig
from sparse_rl.settings.schema import ConfigError

TEAMS = "ippo, mappo, pqn_vdn, iql, vdn, qmix"
"""Agents of teams, in words."""


SYMMETRIC = "probe/levers, jaxmarl/spread, jaxmarl/hanabi, jaxmarl/hanabi_small"
"""Teams with symmetries, in words."""


def _check_levels(config: RunConfig, env: Spec) -> None:
    """Raise :class:`ConfigError` if there are no levels that the run's curriculum could choose."""
    levels = env.levels if isinstance(env, Env) else None
    if not isinstance(config.curriculum, NoCurriculum) and levels is None:
        raise ConfigError(
            f"curriculum.method={config.curriculum.method} chooses levels, and env={env.name} has none; "
            "choose maze/… or give curriculum=none"
        )
    if isinstance(config.curriculum, PairedConfig) and not (levels and levels.design):
        raise ConfigError(
            f"curriculum.method=paired has a teacher make levels, and those of env={env.name} cannot be "
            "made step by step; choose maze/… or another curriculum"
        )


def _check_team(config: RunConfig, env: Spec) -> None:
    """Raise :class:`ConfigError` if the agent is for teams and there is none, or the other way round."""
    agent, team = config.agent, isinstance(env, TeamEnv)
    if team != isinstance(agent, TeamAgentConfig):
        one, other = ("a team", TEAMS) if team else ("one agent", "ppo")
        raise ConfigError(
            f"agent={agent.name} is not for env={env.name}, which has {one}; choose one of {other}"
        )
    if isinstance(agent, TeamAgentConfig) and agent.identify and env.agents == 1:
        raise ConfigError(f"agent.identify=true tells nobody apart: env={env.name} has one agent")
    symmetries = env.symmetries if isinstance(env, TeamEnv) else None
    if isinstance(agent, TeamAgentConfig) and agent.other_play and symmetries is None:
        raise ConfigError(
            "agent.other_play=true names anew what is the same but for its name, and of env="
            f"{env.name} no such thing is told; choose one of {SYMMETRIC}, or give false"
        )
    groups = {"kind": len(set(env.kinds)), "none": env.agents, "masks": env.agents}
    if isinstance(agent, TeamAgentConfig) and agent.sharing != "all" and groups[agent.sharing] == 1:
        has = "one agent" if env.agents == 1 else "agents of one kind"
        raise ConfigError(
            f"agent.sharing={agent.sharing} shares with all: env={env.name} has {has}; give all"
        )
    asked = config.env
    shapes = isinstance(asked, TeamConfig) and (asked.shaping, asked.shaping_steps) != (1.0, None)
    if isinstance(env, TeamEnv) and shapes and not env.shapes:
        raise ConfigError(
            "env.shaping and env.shaping_steps are of rewards that are shaped, and nothing shapes those "
            f"of env={env.name}; leave both out"
        )


def _check_fit(config: RunConfig, env: Spec) -> None:
    """Raise :class:`ConfigError` if the agent cannot act in this environment, or not read it."""
    agent = config.agent
    _check_team(config, env)
    wrong = misread(agent.network, env.picture, env.beside)
    if wrong:
        raise ConfigError(f"agent.network={agent.network} {wrong.format(env=env.name)}")
    if agent.name == "azopg" and not env.name.startswith("lqr/"):
        raise ConfigError(
            f"agent=azopg controls linear plants, and env={env.name} is none; choose lqr/…"
        )
    _check_levels(config, env)
    repeats = config.env.options.get("sticky_actions")
    if agent.name == "azopg" and repeats:
        raise ConfigError(
            f"env.sticky_actions={repeats:g}: agent=azopg has no actions to repeat; give 0"
        )
    if isinstance(agent, OffPolicyConfig | DrqConfig) and env.discrete:
        raise ConfigError(
            f"agent={agent.name} needs continuous actions, and env={env.name} has {env.action_size} "
            "discrete ones; choose one of ppo, paac, dqn"
        )
    if isinstance(agent, OffPolicyConfig) and env.picture:
        raise ConfigError(
            f"agent={agent.name} reads numbers, and env={env.name} shows pictures; choose one of drq, "
            "ppo, paac"
        )
    if isinstance(agent, ExploringConfig) and not env.discrete:
        others = "ippo, mappo" if isinstance(env, TeamEnv) else "sac, ddpg, ppo, paac"
        raise ConfigError(
            f"agent={agent.name} needs discrete actions, and those of env={env.name} are continuous; "
            f"choose one of {others}"
        )


def _as_seen(config: RunConfig, env: Env | HostEnv) -> Env | HostEnv:
    """The environment as the run's agents and their critic see it."""
    agent = config.agent
    if not isinstance(env, TeamEnv):
        return env
    assert isinstance(agent, TeamAgentConfig)  # checked
    env = named(env) if agent.identify else env
    env = env if agent.CENTRAL else dataclasses.replace(env, state=None, critic_size=None)
    return relabelled(env) if agent.other_play else env


def agent_of(config: RunConfig, env: Spec) -> Any:
    """A run's agent, but for azopg.

    Args:
        config: of the run.
        env: as its agents and their critic see it: that of a :class:`Loop`.
    """
    name = config.agent.name
    if name in ON_POLICY:
        return ON_POLICY[name](config, env)
    if name in STREAMING:
        return STREAMING[name](config, env)
    updates = schedule_of(config).updates_by(config.interactions)
    if name in RECALLING:
        assert isinstance(env, TeamEnv)  # checked
        return RECALLING[name](config, env, updates)
    return compare(config, OFF_POLICY[name](config, env), updates)


def make_loop(config: RunConfig, env: Env | HostEnv) -> Loop:
    """The training loop of a run: its agent in its environment.

    Raises:
        ConfigError: they do not fit each other.
    """
    _check_fit(config, env)
    env = _as_seen(config, env)
    name = config.agent.name
    if isinstance(config.agent, AzopgConfig):
        zero_order_loop = MasterLoop if config.agent.clock == "real" else ZeroOrderLoop
        return zero_order_loop(config, cast(Env, env), azopg.make(config, zero_order.plant_of(config)))
    agent = agent_of(config, env)
    if name in ON_POLICY:
        if isinstance(env, HostEnv):
            return HostLoop(config, env, agent)
        if isinstance(config.curriculum, NoCurriculum):
            return OnPolicyLoop(config, env, agent)
        if isinstance(config.curriculum, PairedConfig):
            return paired.make(config, env, agent)
        assert env.levels is not None
        make_method = METHODS[config.curriculum.method]
        method = make_method(config.curriculum, env.levels, config.agent.num_envs)
        return CurriculumLoop(config, env, agent, method)
    if name in STREAMING:
        streaming_loop = HostStreamingLoop if isinstance(env, HostEnv) else StreamingLoop
        return streaming_loop(config, cast(Any, env), agent)
    if name in RECALLING:
        assert isinstance(env, TeamEnv)  # checked
        return RecallingLoop(config, env, agent)
    if isinstance(env, HostEnv):
        return HostOffPolicyLoop(config, env, agent)
    return OffPolicyLoop(config, env, agent)


def drawn(loop: Loop, config: RunConfig, inputs: RunInputs) -> Any:
    """What the host finds for a run before it begins: nothing for most agents."""
    if isinstance(loop, ZeroOrderLoop | MasterLoop):
        return zero_order.draw(config, loop.agent, inputs)
    return ()
