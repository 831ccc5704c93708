"""Environments of the host, and what rebuilds them after an interruption or a crash.

Emulators and simulators cannot save all of their state, but what an environment does follows from its
last seed and the actions since: its *session*. That is what a checkpoint holds, and a resume repeats it.
When environments break off while they run, they are opened again and repeat their sessions too.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from sparse_rl.agents import Streams
from sparse_rl.envs import ActorsLostError, HostActors, HostEnv, HostStep
from sparse_rl.settings.envs import EnvConfig

Answer = TypeVar("Answer")

TRIES = 3
"""How often environments that break off at one interaction are opened again."""


class Sessions(NamedTuple):
    """What N environments did since each was seeded."""

    number: np.ndarray
    """int32 ``[N]``: sessions before this one."""
    length: np.ndarray
    """int32 ``[N]``: interactions so far."""
    actions: np.ndarray
    """``[N, most(, action_size)]``: what the environment was given, as far as ``length`` goes."""
    episode_return: np.ndarray
    """float32 ``[N]``: rewards of the episode so far."""


def begin(env: HostEnv, settings: EnvConfig, num_envs: int) -> Sessions:
    """Sessions of environments that have done nothing yet."""
    most = env.seed_every + -(-env.episode_length // settings.action_repeat)
    kind = np.min_scalar_type(env.action_size - 1) if env.discrete else np.float32
    shape = (num_envs, most) if env.discrete else (num_envs, most, env.action_size)
    zeros = np.zeros(num_envs, np.int32)
    return Sessions(zeros, zeros.copy(), np.zeros(shape, kind), np.zeros(num_envs, np.float32))


def seeds_of(seed: int, stream: int, which: Sequence[tuple[int, ...]]) -> np.ndarray:
    """Seeds of environments, int64 in [0, 2³¹), from the run's: one per path below the stream."""
    paths = [np.random.SeedSequence(seed, spawn_key=(stream, *path)) for path in which]
    return np.array([path.generate_state(1)[0] >> 1 for path in paths], np.int64)


class Outcome(NamedTuple):
    """What an interaction of N actors brought."""

    step: HostStep
    episode_return: np.ndarray
    """float32 ``[N]``: of the episode so far, this reward included."""


class Group:
    """Some of a run's environments, which step together. Not thread-safe.

    Args:
        env: the environments.
        opens: opens them.
        seed: the run's.
        first: place of the first of them among all of the run's.
        sessions: what they did; changed in place.
    """

    def __init__(
        self,
        env: HostEnv,
        opens: Callable[[], HostActors],
        seed: int,
        first: int,
        sessions: Sessions,
    ) -> None:
        self._env, self._opens, self._actors, self._sessions = env, opens, opens(), sessions
        self._seed, self._first = seed, first
        self.restarts = 0
        """How often they were opened again."""
        self.observation = self._rebuild()
        """``[n, observation_size]``: what they see now."""

    def _seeds(self) -> np.ndarray:
        paths = [(self._first + i, int(number)) for i, number in enumerate(self._sessions.number)]
        return seeds_of(self._seed, Streams.ENV, paths)

    def _rebuild(self) -> np.ndarray:
        """Repeat what was done, so that all come to their ends together; what they see then."""
        seeds, length = self._seeds(), self._sessions.length
        longest = int(length.max())
        waits = longest - length
        # Everything is seeded at the start, and what was seeded late waits with any action until then.
        observation = self._actors.seed(seeds, np.ones(len(length), bool))
        for t in range(longest):
            late = (waits == t) & (t > 0)
            if late.any():
                self._actors.seed(seeds, late)
            observation = self._repeat(np.maximum(t - waits, 0)).observation
        fresh = length == 0
        return self._actors.seed(seeds, fresh) if longest and fresh.any() else observation

    def _repeat(self, at: np.ndarray) -> HostStep:
        """Have each environment act as it did at this place of its session, int32 ``[n]``."""
        action = self._sessions.actions[np.arange(len(at)), at]
        self._actors.send(action.astype(np.int32) if self._env.discrete else action)
        return self._actors.receive()

    def _again(self, lost: ActorsLostError, goes_on: Callable[[np.ndarray], Answer]) -> Answer:
        """Open the environments again, have them repeat what they did, and go on from what they see.

        Raises:
            ActorsLostError: they broke off again, :data:`TRIES` times.
        """
        for _ in range(TRIES):
            self.restarts += 1
            try:
                self._actors = self._opens()
                return goes_on(self._rebuild())
            except ActorsLostError as error:
                lost = error
        raise lost

    def send(self, action: np.ndarray) -> None:
        """Have them begin to act: int32 ``[n]`` or float32 ``[n, action_size]``."""
        self._sessions.actions[np.arange(len(action)), self._sessions.length] = action
        try:
            self._actors.send(action)
        except ActorsLostError as lost:
            self._again(lost, lambda _: self._actors.send(action))

    def receive(self) -> Outcome:
        """Wait until they have acted. Sessions that are long enough end with an episode."""
        now = self._sessions
        try:
            step = self._actors.receive()
        except ActorsLostError as lost:
            step = self._again(lost, lambda _: self._repeat(now.length))
        now.length[:] += 1
        now.episode_return[:] += step.reward
        outcome = Outcome(step, now.episode_return.copy())
        ended = step.terminated | step.truncated
        now.episode_return[ended] = 0.0
        self.observation = step.observation
        over = ended & (now.length >= self._env.seed_every)
        if over.any():
            now.number[over] += 1
            now.length[over] = 0
            try:
                self.observation = self._actors.seed(self._seeds(), over)
            except ActorsLostError as lost:
                self.observation = self._again(lost, lambda seen: seen)
        return outcome


def sizes(num_envs: int, groups: int) -> list[int]:
    """A batch in so many groups of nearly the same size."""
    return [(num_envs + i) // groups for i in range(groups)]


def open_groups(
    env: HostEnv, settings: EnvConfig, seed: int, sessions: Sessions, groups: int, threads: int
) -> list[Group]:
    """All environments of a run in groups.

    Args:
        sessions: of all; they go on from there, and it is changed in place.
        groups: how many.
        threads: on which each group's environments step.
    """
    made: list[Group] = []
    first = 0
    for size in sizes(len(sessions.length), groups):
        part = Sessions(*(field[first : first + size] for field in sessions))
        opens = functools.partial(env.open, settings, size, threads)
        made.append(Group(env, opens, seed, first, part))
        first += size
    return made
