"""What drives an agent in an environment, and what it says of the work that this is."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from jax import Array

from sparse_rl.agents import ActingAgent, Learner, Metrics, RunInputs, View
from sparse_rl.envs import Env, HostEnv
from sparse_rl.records.checkpoints import Arrays
from sparse_rl.settings.run import RunConfig


class Beside(NamedTuple):
    """Somebody who learns beside a run's agent, as often as it does, and is not pruned."""

    agent: Learner
    state: Any
    """Shapes of its agent's state."""
    batch_size: int
    """Samples of an optimiser step."""
    picture: tuple[int, int, int] | None
    """What it sees, as of :class:`~sparse_rl.envs.Spec`."""


class Workload(NamedTuple):
    """What a run does, counted: what its costs follow from."""

    updates: int
    """Optimiser steps in the whole run."""
    batch_size: int
    """Samples of an optimiser step."""
    samples_at_once: int
    """Samples of the largest batch that a network is applied to."""
    replay: Any
    """Shapes of the replay buffer."""
    rollout: Any
    """Shapes of what is collected between updates and then let go."""
    samples: Mapping[str, int] = MappingProxyType({})
    """network → samples of an optimiser step, of those of which not all have ``batch_size``."""
    copies: int = 1
    """Agents like this one that learn as much, itself among them."""
    beside: tuple[Beside, ...] = ()
    """Others that learn."""


class Playing(Protocol):
    """What it takes to act as a learner does, whatever it learns from."""

    @property
    def config(self) -> RunConfig: ...
    @property
    def agent(self) -> ActingAgent: ...

    def see(self, state: Any, view: View) -> View:
        """A view as the learner's networks see it."""


class Loop(Protocol):
    """An agent in its environment. A run's state has its agent's as ``agent``."""

    @property
    def config(self) -> RunConfig: ...
    @property
    def env(self) -> Env | HostEnv: ...
    @property
    def agent(self) -> Learner: ...

    def init(self, inputs: RunInputs) -> Any:
        """The state before the first interaction; pure."""

    def to_disk(self, state: Any) -> Arrays:
        """Everything the run needs to go on, named, on the host."""

    def from_disk(self, arrays: Arrays, inputs: RunInputs) -> Any:
        """The state that :meth:`to_disk` wrote; raises ``CheckpointError`` if it is of another run."""

    def trained(self, state: Any) -> Arrays:
        """What acting and evaluating needs: parameters as stored, supports, the normaliser."""

    def workload(self, state: Any) -> Workload:
        """Counted from the state's shapes."""

    def describe(self) -> str:
        """How it interacts and learns, for the plan."""


class HostedLoop(Loop, Protocol):
    """A loop on environments of the host."""

    def compile(self, inputs: RunInputs, options: Mapping[str, Any]) -> tuple[Any, Any, Any]:
        """``init``, ``chunk`` and ``evaluate`` as of :class:`PureLoop`: compiled, and driven."""


class PureLoop(Loop, Protocol):
    """A loop in tensorised environments: all methods are pure, so each is one program."""

    def chunk(self, first: Array, state: Any) -> tuple[Any, Metrics]:
        """Interact and learn from interaction ``first`` to the next log point: state and row."""

    def evaluate(self, interactions: Array, state: Any) -> Metrics:
        """Whole episodes with the deterministic policy, in fresh environments."""
