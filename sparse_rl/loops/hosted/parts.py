"""Groups of actors on the host, and the part of each in a rollout."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from sparse_rl.agents import View
from sparse_rl.envs import HostEnv, HostStep
from sparse_rl.loops.hosted import sessions as hosted
from sparse_rl.loops.hosted.sessions import Group
from sparse_rl.loops.rollout import most_truncations
from sparse_rl.networks import Memory
from sparse_rl.settings.on_policy import OnPolicyConfig
from sparse_rl.settings.run import RunConfig, agent_settings

GROUPS = 2
"""Groups of actors that take turns; their draws depend on it. One group makes a small learner's training
a quarter slower (benchmarks/host_path.py)."""


def groups_of(config: RunConfig) -> int:
    """Into how many groups a run's actors are divided."""
    return min(GROUPS, config.agent.num_envs)


def sizes_of(config: RunConfig) -> list[int]:
    """Of these groups."""
    return hosted.sizes(config.agent.num_envs, groups_of(config))


def most_finals(config: RunConfig, env: HostEnv) -> int:
    """How often time can run out in a rollout, at most."""
    settings = agent_settings(config, OnPolicyConfig)
    return most_truncations(settings.num_steps, env.episode_length, config.env.action_repeat)


class Answer(NamedTuple):
    """What the device holds of an interaction of a group of n."""

    observation: Array
    """``[n, observation_size]``, as the environment gave it."""
    action: Array
    log_prob: Array
    memory: Memory = ()
    """``[n, M]``: what acted remembered before."""


class Told(NamedTuple):
    """What the host was told of it; of a rollout, ``[T, N]``. Fields as in :class:`Rollout`."""

    reward: Any
    terminated: Any
    truncated: Any
    episode_return: Any
    final_value: Any
    final_view: View | None = None
    """Of a rollout, for a network that remembers."""


class Finals(NamedTuple):
    """What a group of n saw where time ran out in a rollout, to be valued when it is over; changed in
    place."""

    observation: np.ndarray
    """``[K, n, observation_size]``: of the k-th time."""
    times: np.ndarray
    """int ``[n]``: how often so far."""


@dataclass
class Part:
    """A group's part in a rollout, so far."""

    group: Group
    memory: Memory
    """``[n, M]``: of what acts, after its last answer, whether that ended an episode or not."""
    finals: Finals | None
    """``None`` for a network that remembers nothing: it values at once."""
    answers: list[Answer] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)

    @property
    def ended(self) -> np.ndarray:
        """bool ``[n]``: whether its last interaction ended an episode; at first nothing has."""
        if not self.told:
            return np.zeros(len(self.group.observation), bool)
        terminated: np.ndarray = self.told[-1].terminated
        return terminated | self.told[-1].truncated


def parts_of(
    config: RunConfig, env: HostEnv, groups: Sequence[Group], memories: Sequence[Memory]
) -> list[Part]:
    """The parts of a rollout before its first interaction.

    Args:
        config: of the run.
        env: the environment.
        groups: its actors.
        memories: of what acts, one for each group.
    """
    slots = most_finals(config, env)

    def finals(n: int) -> Finals | None:
        if agent_settings(config, OnPolicyConfig).memory == "none":
            return None
        shape = (slots, n, env.observation_size)
        return Finals(np.zeros(shape, env.observation_dtype), np.zeros(n, int))

    return [
        Part(group, memory, finals(len(group.observation)))
        for group, memory in zip(groups, memories, strict=True)
    ]


def keep(finals: Finals, step: HostStep) -> None:
    """Keep what was seen where time ran out."""
    where = np.flatnonzero(step.truncated)
    finals.observation[finals.times[where], where] = step.final_observation[where]
    finals.times[where] += 1


def together(parts: Sequence[Part]) -> Told:
    """What all groups were told in a rollout, ``[T, N]``."""
    told = []
    for part in parts:
        by_time: Told = jax.tree.map(lambda *x: np.stack(x), *part.told)
        finals = None if part.finals is None else View(part.finals.observation)  # type: ignore[arg-type]
        told.append(by_time._replace(final_view=finals))
    whole: Told = jax.tree.map(lambda *x: np.concatenate(x, axis=1), *told)
    return whole
