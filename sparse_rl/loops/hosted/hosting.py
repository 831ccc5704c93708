"""What loops on environments of the host share: their state, the environments while they live, and the
clock."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sparse_rl.agents import Streams
from sparse_rl.envs import ActorsLostError, HostActors, HostEnv
from sparse_rl.kernels.machine import cores
from sparse_rl.loops.evaluation import alike, distinct_episodes
from sparse_rl.loops.hosted import sessions as hosted
from sparse_rl.loops.hosted.sessions import TRIES, Group, Sessions
from sparse_rl.records.results import EPISODES_DISTINCT, RESTARTS, TIME_SHARE
from sparse_rl.settings.run import RunConfig

PARTS = ("environment", "transfer", "inference", "learning")
"""What a chunk's time is spent on; Python's own share is the rest."""


class Clock:
    """Where the driving thread's time goes."""

    def __init__(self) -> None:
        self._spent = dict.fromkeys(PARTS, 0.0)
        self._started = time.perf_counter()

    @contextmanager
    def on(self, part: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._spent[part] += time.perf_counter() - started

    def shares(self) -> dict[str, float]:
        """``time_share/<part>`` in [0, 1]."""
        total = time.perf_counter() - self._started
        return {f"{TIME_SHARE}{part}": spent / total for part, spent in self._spent.items()}


def threads() -> int:
    """On how many threads, or in how many processes, the environments of a run step: one per core."""
    return cores()


Greedily = Callable[[np.ndarray], Any]
"""``observations → what the environments are given`` by the deterministic policy; it may remember."""


class Living:
    """A run's environments in groups, those of its evaluations, and how often any were opened again.

    Args:
        config: of the run.
        env: the environment.
        seed: the run's.
        sessions: of the training environments; they go on from there, and it is changed in place.
        groups: how many.
    """

    def __init__(
        self, config: RunConfig, env: HostEnv, seed: int, sessions: Sessions, groups: int
    ) -> None:
        self._config, self._env, self._seed = config, env, seed
        self._threads = threads()
        self._evaluating: HostActors | None = None
        self._restarts = 0
        self.groups: list[Group] = hosted.open_groups(
            env, config.env, seed, sessions, groups, self._threads
        )

    def restarts(self) -> dict[str, float]:
        """How often environments were opened again since the last call, for a row."""
        so_far = self._restarts + sum(group.restarts for group in self.groups)
        for group in self.groups:
            group.restarts = 0
        self._restarts = 0
        return {RESTARTS: float(so_far)}

    def evaluate(self, interactions: int, begins: Callable[[], Greedily]) -> dict[str, Any]:
        """Whole episodes with the deterministic policy, in environments that train nobody.

        Args:
            interactions: before this evaluation; its seeds follow from the run's and this.
            begins: makes what acts; called anew where an evaluation that broke off begins again.

        Raises:
            ActorsLostError: the environments broke off :data:`~.sessions.TRIES` times.
        """
        for tried in range(1, TRIES + 1):
            try:
                return self._episodes(interactions, begins())
            except ActorsLostError:
                self._evaluating = None
                self._restarts += 1
                if tried == TRIES:
                    raise
        raise AssertionError("unreachable")

    def _episodes(self, interactions: int, greedily: Greedily) -> dict[str, Any]:
        settings, episodes = self._config.env, self._config.env.eval_episodes
        if self._evaluating is None:
            self._evaluating = self._env.open(settings, episodes, self._threads)
        actors, places = self._evaluating, [(interactions, i) for i in range(episodes)]
        seeds = hosted.seeds_of(self._seed, Streams.EVALUATION, places)
        alive, returns, lengths = np.ones(episodes, bool), np.zeros(episodes), np.zeros(episodes)
        same = np.ones((episodes, episodes), bool)
        observation = actors.seed(seeds, alive)
        while alive.any():
            same &= alike(observation) | ~(alive[:, None] & alive[None])
            actors.send(np.asarray(greedily(observation)))
            step = actors.receive()
            returns += np.where(alive, step.reward, 0.0)
            played = np.minimum(lengths + settings.action_repeat, self._env.episode_length)
            lengths = np.where(alive, played, lengths)
            alive = alive & ~(step.terminated | step.truncated)
            observation = step.observation
        return {
            "return_mean": returns.mean(),
            "return_std": returns.std(),
            "episode_length_mean": lengths.mean(),
            EPISODES_DISTINCT: distinct_episodes(same, returns, lengths),
        }


class HostState(NamedTuple):
    """Everything one run needs to go on, and the environments while they live."""

    learner: Any
    """What is on the device."""
    sessions: Sessions
    seed: Any
    """uint32: the run's; environments draw from it."""
    living: Living | None = None
    """The environments; ``None``: to be rebuilt from their sessions. Never on disk."""

    @property
    def agent(self) -> Any:
        return self.learner.agent


def begin(config: RunConfig, env: HostEnv, learner: Any, seed: Any) -> HostState:
    """The state before the first interaction; pure."""
    sessions = hosted.begin(env, config.env, config.agent.num_envs)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), sessions)
    return HostState(learner, zeros, jnp.asarray(seed, jnp.uint32))


def opened(config: RunConfig, env: HostEnv, state: HostState, groups: int) -> HostState:
    """The state with living environments, in so many groups, that go on from its sessions."""
    if state.living is not None:
        return state
    sessions = Sessions(*(np.array(field) for field in state.sessions))  # writable
    living = Living(config, env, int(state.seed), sessions, groups)
    return state._replace(sessions=sessions, living=living)
