"""What an agent is, a handful of pure functions over one state pytree, and what drives it."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from jax import Array

from sparse_rl.envs import Spec
from sparse_rl.experience import Buffer, transition_buffer
from sparse_rl.networks import Memory, Wiring

Metrics = dict[str, Array]

ADAM_TRAFFIC = 8
"""Reads and writes of each weight per optimiser step, without the passes through the network: parameter,
gradient and two moments are each written and read."""
RMSPROP_TRAFFIC = 6
"""The same with one moment."""
TRACE_TRAFFIC = 5
"""Of a step along an eligibility trace: the trace is written and read twice, the parameter written and
read once. The gradient of one sample is made where it is added to the trace."""
TARGET_TRAFFIC = 3
"""More for a moving average of the weights: both are read and one is written."""


class Streams:
    """Names of the run key's children: every random draw of a run comes from one of these."""

    AGENT, ENV, INTERACTION, EVALUATION, PROBE, RESET, AFTERWARDS, LEVELS = range(8)


class RunInputs(NamedTuple):
    """What may differ among the runs of a pack: arrays, never part of the compiled program."""

    seed: Any
    """uint32: everything random about training."""
    mask_seed: Any
    """uint32: everything random about the masks."""
    learning_rate: Any
    """float32."""
    budgets: Mapping[str, Mapping[str, Any]]
    """network → path → what the tensor keeps (:func:`sparse_rl.pruning.plan_budget`); empty for a dense
    network. Numbers of survivors are int32 arrays, but where they decide shapes they are static."""
    scales: Any = ()
    """network → path → :class:`~sparse_rl.networks.Scale` of float32 scalars; ``()`` where all is as the
    standard parametrisation has it."""
    drawn: Any = ()
    """What the host found before the run began (a pytree of arrays): nothing for most agents."""


class Occasional(NamedTuple):
    """Something that happens to an agent between two updates, now and then."""

    every: int
    """Updates."""
    total: int
    """Updates of the whole run: nothing happens after the last one, for nothing would be learned from
    it."""
    change: Callable[[Any, Any, Array], Any]
    """``(state, batch, updates so far) → state``; never under a batched condition."""
    said: str
    """What happens when, for the plan."""


class OffPolicyAgent(NamedTuple):
    """The functions that the off-policy loop drives. Observations arrive normalised, pictures as bytes.

    A batch is what the agent's ``buffer`` samples.
    """

    init: Callable[[Array, RunInputs], Any]
    """``(key, inputs) → state``: parameters (pruned), their supports, optimiser, targets."""
    act: Callable[[Any, Array, Array], Array]
    """``(state, [n, o], key) → [n, a]`` in [−1, 1]: exploring."""
    act_greedily: Callable[[Any, Array], Array]
    """``(state, [n, o]) → [n, a]``: for evaluation."""
    update: Callable[[Any, Any, Array], tuple[Any, Metrics]]
    """``(state, batch, key) → (state, metrics)``: one optimiser step of the critic and the actor."""
    diagnose: Callable[[Any, Any], Metrics]
    """``(state, probe batch) → health``."""
    parameters: Callable[[Any], Mapping[str, Any]]
    """``state → network → parameters`` of what is trained and pruned."""
    supports: Callable[[Any], Mapping[str, Any]]
    """``state → network → supports`` of those parameters."""
    passes: Mapping[str, int]
    """network → products with its weights that an update makes: forward passes, gradients with respect
    to weights, and gradients with respect to inputs, one each."""
    traffic: Mapping[str, int]
    """network → reads and writes of each of its weights that an update makes beside the products."""
    wiring: Mapping[str, Wiring]
    """network → what each of its layers reads."""
    buffer: Callable[[Spec, int], Buffer] = transition_buffer
    """``(environment, how many) → replay buffer``."""
    occasional: Occasional | None = None


class View(NamedTuple):
    """What n actors see."""

    observation: Array
    """float32 ``[n, observation_size]``."""
    critic_observation: Array | None = None
    """float32 ``[n, …]``: what the critic sees beside or instead of that; ``None``: the same."""
    legal: Array | None = None
    """bool ``[n, action_size]``: actions that are allowed; ``None``: all of them."""
    weight: Array | None = None
    """float32 ``[n]``: 1 for an actor that acts, 0 for one of a team that is dead or waits, which counts
    in no mean; ``None``: all act."""

    def for_critic(self) -> Array:
        return self.observation if self.critic_observation is None else self.critic_observation


class Memories(NamedTuple):
    """What n actors carry from step to step; ``()`` of networks that carry nothing.

    It is zero where an episode begins, and nowhere else is it made so."""

    acting: Memory = ()
    """Of the network that acts."""
    valuing: Memory = ()
    """Of the network that values."""


class Experience(NamedTuple):
    """What actors did and what came of it: the samples of a rollout, in any order, ``[n, …]``.

    For networks that remember n pieces of C steps in a row, ``[n, C, …]``, and what was remembered
    where each begins."""

    view: View
    """As the networks saw it when they acted."""
    action: Array
    """float32 ``[n, action_size]`` or int32 ``[n]``."""
    log_prob: Array
    """float32 ``[n]``: of the action, when it was drawn."""
    value: Array
    """float32 ``[n]``: V(s) before the update."""
    advantage: Array
    """float32 ``[n]``."""
    value_target: Array
    """float32 ``[n]``: advantage + value."""
    first: Array | None = None
    """bool ``[n, C]``: where an episode begins; ``None`` for samples."""
    memory: Memories = Memories()
    """``[n, M]``: with which each piece begins."""


class Learned(NamedTuple):
    """What an update on one rollout brought."""

    metrics: Metrics
    """Sums over the optimiser steps that were made."""
    updates: Array
    """int32: optimiser steps that were made."""


class OnPolicyAgent(NamedTuple):
    """The functions that the on-policy loop drives. Observations arrive normalised.

    Those that a rollout calls at every step take the state first, so that the weights are made ready
    for use once.
    """

    init: Callable[[Array, RunInputs], Any]
    """``(key, inputs) → state``: parameters (pruned), their supports, optimiser."""
    act: Callable[[Any], Callable[[View, Memory, Array], tuple[Array, Array, Memory]]]
    """``state → (view, memory, key) → (n actions, log_prob [n], memory)``: drawn from the policy."""
    act_greedily: Callable[[Any], Callable[[View, Memory], tuple[Array, Memory]]]
    """``state → (view, memory) → (n actions, memory)``: the most likely ones, for evaluation."""
    value: Callable[[Any], Callable[[View, Memory], Array]]
    """``state → (view, memory) → [n]``."""
    values: Callable[[Any], Callable[[View, Array, Memory], tuple[Array, Memory]]]
    """``state → (view of T·n, first [T, n], memory) → (values [T, n], memory after each step)``."""
    begin: Callable[[int], Memories]
    """``n → memories of n episodes that begin``."""
    update: Callable[[Any, Experience, Array, Array], tuple[Any, Learned]]
    """``(state, experience, progress, key) → (state, what was learned)``; progress is the share of the
    run that is over, float32 in [0, 1)."""
    updates_per_rollout: int
    """Optimiser steps of an update, if none is left out."""
    batch_size: int
    """Samples of an optimiser step."""
    actors: int
    """Streams of experience that a rollout has: environments, times the agents of a team."""
    names: int
    """As of :class:`~sparse_rl.envs.Spec`."""
    diagnose: Callable[[Any, View, Memories], Metrics]
    """``(state, probe batch, what was remembered before it) → health``."""
    parameters: Callable[[Any], Mapping[str, Any]]
    supports: Callable[[Any], Mapping[str, Any]]
    passes: Mapping[str, int]
    traffic: Mapping[str, int]
    wiring: Mapping[str, Wiring]
    """As of :class:`OffPolicyAgent`."""
    samples: Mapping[str, int] = MappingProxyType({})
    """``network/label`` → samples of an optimiser step, where agents do not share their networks."""
    together: int = 1
    """Samples in a row that must stay so: those of a team whose agents do not share."""
    summed: int = 1
    """Actors in a row whose values are summed to one, that of what a team does together."""
    share: float = 1.0
    """Of its reward, what an actor learns from: where values are summed, its part of one of all."""


class RecallingAgent(NamedTuple):
    """The functions that drive teams which learn from a replay buffer of steps in a row.

    Views arrive as the environment gave them. A batch is what the agent's ``buffer`` samples.
    """

    init: Callable[[Array, RunInputs], Any]
    act: Callable[[Any], Callable[[View, Memory, Array], tuple[Array, Array, Memory]]]
    act_greedily: Callable[[Any], Callable[[View, Memory], tuple[Array, Memory]]]
    begin: Callable[[int], Memories]
    """As of :class:`OnPolicyAgent`."""
    update: Callable[[Any, Any, Array], tuple[Any, Metrics]]
    """``(state, batch, key) → (state, metrics)``: one optimiser step."""
    diagnose: Callable[[Any, Any], Metrics]
    parameters: Callable[[Any], Mapping[str, Any]]
    supports: Callable[[Any], Mapping[str, Any]]
    passes: Mapping[str, int]
    traffic: Mapping[str, int]
    wiring: Mapping[str, Wiring]
    buffer: Callable[[Spec, int], Buffer]
    occasional: Occasional | None
    """As of :class:`OffPolicyAgent`."""
    samples: Mapping[str, int]
    """network, or ``network/label`` where agents do not share it → samples of an optimiser step."""


class Happened(NamedTuple):
    """One transition of a stream, as an agent learns from it: once, where it happens."""

    observation: Array
    """float32 ``[1, o]``: as the networks saw it when they acted."""
    action: Array
    """float32 ``[1, a]`` or int32 ``[1]``: as it was drawn."""
    reward: Array
    """float32 ``[1]``: as it is learned from."""
    next_observation: Array
    """float32 ``[1, o]``: the true successor."""
    terminated: Array
    """bool ``[1]``: the task ended by itself; the successor is worth nothing."""
    ended: Array
    """bool ``[1]``: the episode ended, by itself or because time ran out."""


class StreamingAgent(NamedTuple):
    """The functions that drive an agent which learns from each transition once. Observations arrive
    normalised."""

    init: Callable[[Array, RunInputs], Any]
    """As of :class:`OffPolicyAgent`."""
    act: Callable[[Any, Array, Array, Array], Array]
    """``(state, [1, o], progress, key) → one action``: drawn; progress is the share of the run that is
    over."""
    act_greedily: Callable[[Any, Array], Array]
    """``(state, [n, o]) → n actions``: for evaluation."""
    update: Callable[[Any, Happened, Array], tuple[Any, Metrics, Metrics]]
    """``(state, transition, whether it is measured) → (state, metrics, measured)``: one step of each
    network; what is measured, at the price of a forward pass, is 0 where it is not."""
    diagnose: Callable[[Any, Array], Metrics]
    """``(state, [n, o]) → health``."""
    parameters: Callable[[Any], Mapping[str, Any]]
    supports: Callable[[Any], Mapping[str, Any]]
    passes: Mapping[str, int]
    traffic: Mapping[str, int]
    wiring: Mapping[str, Wiring]
    """As of :class:`OffPolicyAgent`."""


class ActingAgent(Protocol):
    """What agents that remember tell of how they act; :class:`OnPolicyAgent` says what each means."""

    @property
    def act(self) -> Callable[[Any], Callable[[View, Memory, Array], tuple[Array, Array, Memory]]]: ...
    @property
    def act_greedily(self) -> Callable[[Any], Callable[[View, Memory], tuple[Array, Memory]]]: ...
    @property
    def begin(self) -> Callable[[int], Memories]: ...


class Learner(Protocol):
    """What every agent tells, whatever drives it; :class:`OffPolicyAgent` says what each means."""

    @property
    def parameters(self) -> Callable[[Any], Mapping[str, Any]]: ...
    @property
    def supports(self) -> Callable[[Any], Mapping[str, Any]]: ...
    @property
    def passes(self) -> Mapping[str, int]: ...
    @property
    def traffic(self) -> Mapping[str, int]: ...
    @property
    def wiring(self) -> Mapping[str, Wiring]: ...
