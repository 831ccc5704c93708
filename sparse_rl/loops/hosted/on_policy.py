"""The on-policy loop on environments of the host: actors step on worker threads, in two groups that take
turns, so that one steps while the other's observations are answered.

All of a rollout is made with the same weights, and the update sees all of it: there is no staleness
(Clemente et al. 2017, §4). So actors wait while the learner learns, and only then.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from sparse_rl.agents import Memories, Metrics, OnPolicyAgent, RunInputs, View, actions_of
from sparse_rl.envs import HostEnv
from sparse_rl.experience import normaliser as norm
from sparse_rl.kernels.compilation import compile_all
from sparse_rl.loops.contract import Workload
from sparse_rl.loops.hosted import hosting
from sparse_rl.loops.hosted import sessions as hosted
from sparse_rl.loops.hosted.hosting import Clock, HostState
from sparse_rl.loops.hosted.sessions import Group
from sparse_rl.loops.learning import Learning, RewardScale, Seen, Totals, iteration_keys
from sparse_rl.loops.rollout import Rollout
from sparse_rl.records.checkpoints import Arrays, from_arrays, to_arrays
from sparse_rl.settings.run import RunConfig

GROUPS = 2
"""Groups of actors that take turns; their draws depend on it. One group makes a small learner's training
a quarter slower (benchmarks/host_path.py)."""


class LearnerState(NamedTuple):
    """What is on the device."""

    agent: Any
    normaliser: norm.Normaliser
    reward_scale: RewardScale
    memory: Memories
    """Empty: networks that remember are for compiled environments."""
    key: Array
    """The run's key: never drawn from; its children are named in :class:`Streams`."""


class Answer(NamedTuple):
    """What the device holds of an interaction of a group of n."""

    observation: Array
    """``[n, observation_size]``, as the environment gave it."""
    action: Array
    log_prob: Array


class Told(NamedTuple):
    """What the host was told of it; of a rollout, ``[T, N]``. Fields as in :class:`Rollout`."""

    reward: Any
    terminated: Any
    truncated: Any
    episode_return: Any
    final_value: Any


def groups_of(config: RunConfig) -> int:
    """Into how many groups a run's actors are divided."""
    return min(GROUPS, config.agent.num_envs)


def key_of(key: Array, t: Any, group: Any) -> Array:
    """The key of a group's answer to its interaction t, from its rollout's."""
    return jax.random.fold_in(jax.random.fold_in(key, t), group)


class HostLoop(NamedTuple):
    """A run's static parts. A chunk gives up the state it starts from: its environments go on."""

    config: RunConfig
    env: HostEnv
    agent: OnPolicyAgent

    @property
    def learning(self) -> Learning:
        """What is done with a rollout."""
        return Learning(self.config, self.agent)

    def init(self, inputs: RunInputs) -> HostState:
        """The state before the first interaction; pure."""
        learner = LearnerState(**self.learning.init(inputs, self.env.observation_size))
        return hosting.begin(self.config, self.env, learner, inputs.seed)

    def to_disk(self, state: HostState) -> Arrays:
        """Everything the run needs to go on, named, on the host."""
        return to_arrays(state._replace(living=None))

    def from_disk(self, arrays: Arrays, inputs: RunInputs) -> HostState:
        """The state that :meth:`to_disk` wrote; its environments are rebuilt when it is used.

        Raises:
            CheckpointError: it is not the state of such a run.
        """
        return from_arrays(jax.eval_shape(self.init, inputs), arrays)

    def trained(self, state: HostState) -> Arrays:
        """What acting and evaluating needs: parameters as stored, supports, the normaliser."""
        return self.learning.trained(state.learner)

    def workload(self, state: HostState) -> Workload:
        """Counted from shapes."""
        steps, num_envs = self.learning.settings.num_steps, self.config.agent.num_envs
        seen = jax.ShapeDtypeStruct(
            (steps + 1, num_envs, self.env.observation_size), self.env.observation_dtype
        )
        return self.learning.workload(seen)

    def describe(self) -> str:
        """The shape of rollouts, and what is made of each."""
        groups = groups_of(self.config)
        return f"{self.learning.describe()}; environments on the host, in {groups} group(s)"

    def compile(self, inputs: RunInputs, options: Mapping[str, Any]) -> tuple[Any, Any, Any]:
        """``init``, ``chunk`` and ``evaluate``: the last two drive compiled programs."""
        learner = jax.eval_shape(self.init, inputs).learner
        lowered = {
            **OnDevice(self.learning, self.env).lowered(learner),
            ("init", 0): jax.jit(self.init).lower(inputs),
        }
        made = compile_all(lowered, options)
        of_groups: dict[str, Any] = {
            name: {n: program for (other, n), program in made.items() if other == name}
            for name in ("act", "value")
        }
        alone: dict[str, Any] = {name: made[name, 0] for name in ("learn", "add", "row", "greedily")}
        driver = Driver(self.learning, self.env, Compiled(**of_groups, **alone))
        return made["init", 0], driver.chunk, driver.evaluate


class OnDevice(NamedTuple):
    """What is compiled. All methods are pure."""

    learning: Learning
    env: HostEnv

    def act(
        self, learner: LearnerState, iteration: Array, t: Array, group: Array, observation: Array
    ) -> tuple[Array, Array, Array]:
        """Answer what a group sees: what the environment is given, the action, its log-probability."""
        key = key_of(iteration_keys(learner.key, iteration)[0], t, group)
        view = self.learning.see(learner, View(observation))
        action, log_prob, _ = self.learning.agent.act(learner.agent)(view, (), key)
        return actions_of(self.env).to_env(action), action, log_prob

    def value(self, learner: LearnerState, observation: Array) -> Array:
        """float32 ``[n]``: values of what is seen."""
        value = self.learning.agent.value(learner.agent)
        return value(self.learning.see(learner, View(observation)), ())

    def greedily(self, learner: LearnerState, observation: Array) -> Array:
        """What the environment is given by the deterministic policy."""
        view = self.learning.see(learner, View(observation))
        action, _ = self.learning.agent.act_greedily(learner.agent)(view, ())
        return actions_of(self.env).to_env(action)

    def learn(
        self,
        learner: LearnerState,
        answers: Sequence[Sequence[Answer]],
        told: Told,
        last: Sequence[Array],
        iteration: Array,
    ) -> tuple[LearnerState, Totals, Array]:
        """Learn from T answers of each group, what came of them, and what is seen after them."""
        by_time = [answer for moment in zip(*answers, strict=True) for answer in moment]
        steps = len(answers[0])
        held = jax.tree.map(lambda *x: jnp.concatenate(x).reshape(steps, -1, *x[0].shape[1:]), *by_time)
        rollout = Rollout(View(held.observation), held.action, held.log_prob, *told)
        key, after = iteration_keys(learner.key, iteration)[1], View(jnp.concatenate(last))
        learner, totals, seen = self.learning.learn(learner, after, rollout, iteration, key)
        return learner, totals, seen.view.observation

    def row(self, learner: LearnerState, totals: Totals, probe: Sequence[Array], end: Array) -> Metrics:
        """A chunk's row."""
        seen = Seen(View(jnp.concatenate(probe)), Memories())
        return self.learning.row(learner, totals, seen, end)

    def lowered(self, learner: LearnerState) -> dict[tuple[str, int], Any]:
        """The programs before compilation, by name and size of a group (0: of no group).

        Args:
            learner: its shapes.
        """
        settings, of = self.learning.settings, jax.ShapeDtypeStruct

        def seen(*shape: int) -> Any:
            return of((*shape, self.env.observation_size), self.env.observation_dtype)

        i = of((), jnp.int32)
        episodes = self.learning.config.env.eval_episodes
        sizes = hosted.sizes(settings.num_envs, groups_of(self.learning.config))
        acts = {n: (learner, i, i, i, seen(n)) for n in sizes}
        made = {n: jax.eval_shape(self.act, *acts[n]) for n in sizes}
        answers = [[Answer(seen(n), *made[n][1:])] * settings.num_steps for n in sizes]
        real, flag = (
            of((settings.num_steps, settings.num_envs), kind) for kind in (jnp.float32, jnp.bool_)
        )
        told = Told(real, flag, flag, real, real)
        learn = (learner, answers, told, [seen(n) for n in sizes], i)
        totals = jax.eval_shape(self.learn, *learn)[1]
        probe = [seen(self.learning.samples_per_rollout)] * self.learning.probed
        return {
            **{("act", n): jax.jit(self.act).lower(*acts[n]) for n in sizes},
            **{("value", n): jax.jit(self.value).lower(learner, seen(n)) for n in sizes},
            ("learn", 0): jax.jit(self.learn, donate_argnums=0).lower(*learn),
            ("add", 0): jax.jit(functools.partial(jax.tree.map, jnp.add)).lower(totals, totals),
            ("row", 0): jax.jit(self.row).lower(learner, totals, probe, i),
            ("greedily", 0): jax.jit(self.greedily).lower(learner, seen(episodes)),
        }


class Compiled(NamedTuple):
    """A run's programs. ``n`` is the size of a group."""

    act: Mapping[int, Callable[..., tuple[Array, Array, Array]]]
    """n → ``(learner, iteration, t, group, observation) → (given, action, log_prob)``; the first is what
    the environment is given."""
    value: Mapping[int, Callable[..., Array]]
    """n → ``(learner, observation) → float32 [n]``."""
    learn: Callable[..., tuple[LearnerState, Totals, Array]]
    """``(learner, answers, told, last, iteration) → (learner, totals, what was seen)``."""
    add: Callable[..., Totals]
    """Sums of totals."""
    row: Callable[..., Metrics]
    """``(learner, totals, probe, iteration) → row``."""
    greedily: Callable[..., Array]
    """``(learner, observation) → given``, for evaluation."""


def _fields(told: Sequence[Sequence[Told]]) -> Iterator[list[list[np.ndarray]]]:
    """field → group → T arrays."""
    return ([[moment[k] for moment in group] for group in told] for k in range(len(Told._fields)))


class Driver(NamedTuple):
    """What the host does: groups of actors take turns, then the learner learns."""

    learning: Learning
    env: HostEnv
    programs: Compiled

    def _answer(self, clock: Clock, learner: LearnerState, group: Group, at: tuple[int, ...]) -> Answer:
        """Answer a group's observations, and have it act; ``at``: iteration, interaction and group."""
        with clock.on("transfer"):
            observation = jax.device_put(group.observation)
        with clock.on("inference"):
            act = self.programs.act[len(group.observation)]
            given, action, log_prob = act(learner, *map(np.int32, at), observation)
            jax.block_until_ready(given)
        with clock.on("transfer"):
            on_host = np.asarray(given)
        group.send(on_host)
        return Answer(observation, action, log_prob)

    def _receive(self, clock: Clock, learner: LearnerState, group: Group) -> Told:
        """Wait for a group, and value the observations at which time ran out."""
        with clock.on("environment"):
            step, episode_return = group.receive()
        final_value = np.zeros_like(step.reward)
        if step.truncated.any():
            value = self.programs.value[len(step.reward)](learner, step.final_observation)
            final_value = np.where(step.truncated, np.asarray(value), final_value)
        return Told(step.reward, step.terminated, step.truncated, episode_return, final_value)

    def _collect(
        self, clock: Clock, learner: LearnerState, groups: Sequence[Group], i: int
    ) -> tuple[list[list[Answer]], Told]:
        """T interactions of all groups, taking turns."""
        answers: list[list[Answer]] = [[] for _ in groups]
        told: list[list[Told]] = [[] for _ in groups]
        for t in range(self.learning.settings.num_steps):
            for g, group in enumerate(groups):
                if t:
                    told[g].append(self._receive(clock, learner, group))
                answers[g].append(self._answer(clock, learner, group, (i, t, g)))
        for g, group in enumerate(groups):
            told[g].append(self._receive(clock, learner, group))
        by_time = [np.concatenate([np.stack(x) for x in field], axis=1) for field in _fields(told)]
        return answers, Told(*by_time)

    def chunk(self, first: Any, state: HostState) -> tuple[HostState, dict[str, Any]]:
        """Interact and learn from interaction ``first`` to the next log point.

        Returns:
            The new state, and a row (:meth:`Learning.row`) with the shares of time.
        """
        config = self.learning.config
        state = hosting.opened(config, self.env, state, groups_of(config))
        living: Any = state.living
        groups = living.groups
        start = int(first) // self.learning.settings.num_steps
        end, kept = start + self.learning.iterations_per_chunk, self.learning.probed
        learner, clock = state.learner, Clock()
        totals: Totals | None = None
        probe: list[Any] = [None] * kept
        for i in range(start, end):
            answers, told = self._collect(clock, learner, groups, i)
            with clock.on("transfer"):
                last = [jax.device_put(group.observation) for group in groups]
            with clock.on("learning"):
                learner, new, seen = self.programs.learn(learner, answers, told, last, np.int32(i))
                probe[i % kept] = seen
                totals = new if totals is None else self.programs.add(totals, new)
                jax.block_until_ready(learner)
        row = self.programs.row(learner, totals, probe, np.int32(end))
        return state._replace(learner=learner), row | clock.shares() | living.restarts()

    def evaluate(self, interactions: Any, state: HostState) -> dict[str, Any]:
        """Whole episodes with the deterministic policy, in environments of their own."""
        if state.living is None:
            raise ValueError("a state is evaluated after it was trained")
        act = functools.partial(self.programs.greedily, state.learner)
        return state.living.evaluate(int(interactions), act)
