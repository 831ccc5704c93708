"""The environment contract: what every source gives, and nothing more."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from jax import Array

from sparse_rl.settings.envs import EnvConfig


class Step(NamedTuple):
    """What one simulated frame returns. No automatic reset has happened yet."""

    observation: Array
    """float32 ``[observation_size]``: the state after the action; anything where it is drawn."""
    reward: Array
    """float32 scalar."""
    terminated: Array
    """bool scalar: the task ended by itself (never because time ran out)."""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What an agent needs to know of an environment, wherever that runs.

    An action is float32 ``[action_size]`` in ``[-1, 1]``, or, where actions are ``discrete``, an int32
    scalar in ``[0, action_size)``. An observation is one vector, whatever it was made from.
    """

    name: str
    observation_size: int
    action_size: int
    episode_length: int
    """Frames before truncation."""
    discrete: bool = False
    """Whether an action is a choice among ``action_size``."""
    picture: tuple[int, int, int] | None = None
    """Height, width and channels, where the observation is a picture laid out as a vector."""
    beside: int = 0
    """Numbers that follow the picture in the observation."""
    frames: int = 1
    """What an observation stacks, the newest last: pictures, as channels, or vectors, one after the
    other. Each interaction adds one, and at first the first is there over and over."""
    kinds: tuple[int, ...] = (0,)
    """Of each agent that acts at once; agents of one kind see and do things of the same sizes. Those of
    the largest are the environment's: the rest of what others see is 0, of what they do not allowed."""
    critic_size: int | None = None
    """Numbers that a central critic sees; ``None``: what the agent sees."""
    names: int = 0
    """Last numbers of what agents and a central critic see that say whose they are: never scaled."""

    @property
    def agents(self) -> int:
        """Agents of a team, or the one."""
        return len(self.kinds)


class HeldOut(NamedTuple):
    """Levels that nobody trains on, all of one shape."""

    names: tuple[str, ...]
    """Of M levels; what is drawn at random is numbered."""
    levels: Any
    """Each leaf with a leading M."""
    horizons: tuple[int, ...]
    """Of each level, the frames within which it is to be solved, rising: one for each convention that
    results are published in."""


@dataclass(frozen=True, kw_only=True)
class Design:
    """How a teacher makes a level: one action after the other, on a blank one."""

    steps: int
    """Actions of a whole level."""
    action_size: int
    """Choices of each."""
    picture: tuple[int, int, int]
    """Of what the teacher sees, laid out as a vector; ``beside`` numbers follow."""
    beside: int
    noise: int
    """Numbers of ``beside`` that are drawn anew for each action, uniform in [0, 1): its last ones."""
    blank: Callable[[], Any]
    """``() → level``: what it starts with."""
    place: Callable[[Array, Any, Array, Array], Any]
    """``(key, level, t, action) → level``: action t of :attr:`steps`."""
    observe: Callable[[Any, Array, Array], Array]
    """``(level, t, noise) → float32 [observation_size]``: before action t; :attr:`noise` is given."""


@dataclass(frozen=True, kw_only=True)
class Levels:
    """What an environment can be begun from. A level is a pytree of arrays of fixed shapes.

    ``begin``, ``describe`` and ``best`` take levels of any size that :attr:`sets` has.
    """

    sample: Callable[[Array], Any]
    """``key → level``: domain randomisation's."""
    begin: Callable[[Any], tuple[Any, Array]]
    """``level → (state, observation)``; nothing is drawn."""
    mutate: Callable[[Array, Any], Any]
    """``(key, level) → level``: one small edit."""
    describe: Callable[[Any], dict[str, Array]]
    """``level → float32 scalars``: for tables and pictures; ``solvable`` (0 or 1) is among them."""
    best: Callable[[Any], Array]
    """``level → float32``: the largest return that can be had: exactly where the environment knows it
    (mazes), else a bound that no return exceeds; 0 in a level that cannot be solved."""
    solved: Callable[[Array], Array]
    """``return of an episode → bool``."""
    sets: Mapping[str, Callable[[], HeldOut]]
    """Made when asked for: some are drawn, from keys of their own."""
    watched: tuple[str, ...] = ()
    """Those of the sets that are tried at every evaluation."""
    design: Design | None = None
    draw: Callable[[Any], Array] | None = None
    """``state → uint8 [height, width, 3]``: a picture for people."""
    place: Callable[[Any], Array] | None = None
    """``state → int32 [2]``: column and row of the agent, for the picture of a whole episode."""


@dataclass(frozen=True, kw_only=True)
class Env(Spec):
    """One environment as pure functions that ``vmap``.

    Time limits are not the environment's business: :mod:`sparse_rl.envs.vector` truncates.
    """

    reset: Callable[[Array], tuple[Any, Array]]
    """``key → (state, float32 [observation_size])``; of what is stacked, the newest."""
    step: Callable[[Array, Any, Array], tuple[Any, Step]]
    """``(key, state, action) → (state, Step)``: one frame."""
    draw: Callable[[Any], Array] | None = None
    """``state → uint8 [height, width, channels]``: a picture of it, drawn once per interaction. What
    ``reset`` and ``step`` observe is then not looked at: an observation is the last ``frames`` pictures,
    uint8, at first the first one over and over."""
    physics: Callable[[Any], Array] | None = None
    """``state → float32 [n]``: numbers that show, beside what is seen, that a simulation broke."""
    legal_actions: Callable[[Any], Array] | None = None
    """``state → bool [action_size]``: the choices that are allowed now; ``None``: always all of them."""
    levels: Levels | None = None
    """What it can be begun from: ``reset = begin(sample(key))``, and ``step`` stays in the level."""


class Symmetries(NamedTuple):
    """Relabellings of what agents see and do under which an environment cannot tell the difference: the
    first changes nothing, and each undone and each after another is one of them (a group)."""

    observation: np.ndarray
    """int32 ``[S, observation_size]``: relabelled, entry i of an observation is what entry ``[s, i]``
    was."""
    action: np.ndarray
    """int32 ``[S, action_size]``: who says action i when things are relabelled does ``[s, i]``."""


class TeamStep(NamedTuple):
    """What one simulated frame returns to A agents. No automatic reset has happened yet."""

    observation: Array
    """float32 ``[A, observation_size]``."""
    reward: Array
    """float32 ``[A]``: the task's own, of each agent."""
    terminated: Array
    """bool scalar: the episode of all ended by itself (never because time ran out)."""
    shaping: Array
    """float32 ``[A]``: what may be learned from beside the reward, and is no part of a return."""
    outcome: Array
    """float32 scalar: 1 where the team has won, else 0; it is read where an episode ends."""


@dataclass(frozen=True, kw_only=True)
class TeamEnv(Env):
    """One environment of A agents with one end: functions as of :class:`Env`, whose observations,
    actions and legal actions have a leading A. What an agent that is dead does changes nothing."""

    step: Callable[[Array, Any, Array], tuple[Any, TeamStep]]  # type: ignore[assignment]
    """``(key, state, actions of A) → (state, TeamStep)``: one frame."""
    alive: Callable[[Any], Array] | None = None
    """``state → bool [A]``; ``None``: nobody dies."""
    turns: bool = False
    """Whether agents wait while others act: they have one legal action then."""
    state: Callable[[Any, Array], Array] | None = None
    """``(state, observation [A, o]) → float32 [A, critic_size]``: what a central critic sees when it is
    asked for the value of each agent."""
    shared_reward: bool = True
    """Whether all have one reward, which a team's return counts once; else it is the sum of theirs."""
    wins: bool = False
    """Whether there is something to win."""
    shapes: bool = False
    """Whether any shaping is not 0."""
    symmetries: Symmetries | None = None
    """The same for each agent, whoever else is relabelled; ``None``: none are told."""
    as_is: "TeamEnv | None" = None
    """Where agents train with relabelled views, what they are evaluated in; ``None``: this."""

    @property
    def some_idle(self) -> bool:
        """Whether an agent may be dead, or wait."""
        return self.alive is not None or self.turns


class HostStep(NamedTuple):
    """One interaction of N environments on the host; all arrays are new and nobody changes them."""

    observation: np.ndarray
    """``[N, observation_size]``: what comes next; of a new episode where one ended."""
    reward: np.ndarray
    """float32 ``[N]``: summed over the repeated action, as the task gives it."""
    terminated: np.ndarray
    """bool ``[N]``: the task ended by itself; do not bootstrap."""
    truncated: np.ndarray
    """bool ``[N]``: time ran out; bootstrap from ``final_observation``."""
    final_observation: np.ndarray
    """``[N, observation_size]``: the true successor where an episode ended; anything elsewhere."""


class ActorsLostError(RuntimeError):
    """The environments broke off: they are to be opened again and brought to where they were."""


class HostActors(Protocol):
    """N environments that step while the host does something else.

    What an environment does follows from its last seed and the actions since, whatever its neighbours
    do and however many threads there are. Episodes that end are followed by new ones at once.
    """

    def seed(self, seeds: np.ndarray, where: np.ndarray) -> np.ndarray:
        """Seed some environments and begin their first episodes.

        Args:
            seeds: int64 ``[N]`` in [0, 2³¹).
            where: bool ``[N]``; the others are left as they are.

        Returns:
            What all see, ``[N, observation_size]``.
        """

    def send(self, action: np.ndarray) -> None:
        """Have all environments begin to act: int32 ``[N]`` or float32 ``[N, action_size]``."""

    def receive(self) -> HostStep:
        """Wait until they have acted."""


@dataclass(frozen=True, kw_only=True)
class HostEnv(Spec):
    """An environment that runs on the host, action repeat and time limit included."""

    open: Callable[[EnvConfig, int, int], HostActors]
    """``(settings, N, threads) → N environments``, not seeded yet."""
    seed_every: int
    """An environment is seeded anew when its first episode ends after so many interactions: a resume
    repeats what it did since."""
    observation_dtype: type = np.float32
