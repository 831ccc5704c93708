"""The on-policy loop on environments of the host: actors step on worker threads, in two groups that take
turns, so that one steps while the other's observations are answered.

All of a rollout is made with the same weights, and the update sees all of it: there is no staleness
(Clemente et al. 2017, §4). So actors wait while the learner learns, and only then.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from sparse_rl.agents import Metrics, OnPolicyAgent, RunInputs, View, actions_of
from sparse_rl.envs import HostEnv, HostStep
from sparse_rl.kernels.compilation import compile_all
from sparse_rl.loops.contract import Workload
from sparse_rl.loops.hosted import hosting
from sparse_rl.loops.hosted.hosting import Clock, Greedily, HostState
from sparse_rl.loops.hosted.parts import (
    Answer,
    Part,
    Told,
    groups_of,
    keep,
    most_finals,
    parts_of,
    sizes_of,
    together,
)
from sparse_rl.loops.hosted.sessions import Group
from sparse_rl.loops.learning import LearnerState, Learning, Seen, Totals, iteration_keys
from sparse_rl.loops.rollout import Rollout, ended
from sparse_rl.networks import Memory, forget
from sparse_rl.records.checkpoints import Arrays, from_arrays, to_arrays
from sparse_rl.settings.run import RunConfig


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
        learner = LearnerState(**self.learning.init(inputs, self.env))
        acting = tuple(self.agent.begin(n).acting for n in sizes_of(self.config))
        learner = learner._replace(memory=learner.memory._replace(acting=acting))
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
        finals = most_finals(self.config, self.env) if self.learning.remembers else 0
        seen = jax.ShapeDtypeStruct(
            (steps + 1 + finals, num_envs, self.env.observation_size), self.env.observation_dtype
        )
        memory = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((steps, *x.shape), x.dtype), state.learner.memory.acting
        )
        return self.learning.workload((seen, memory))

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
        empty = jax.eval_shape(lambda: self.agent.begin(self.config.env.eval_episodes).acting)
        nothing = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), empty)
        driver = Driver(self.learning, self.env, Compiled(**of_groups, **alone, nothing=nothing))
        return made["init", 0], driver.chunk, driver.evaluate


class OnDevice(NamedTuple):
    """What is compiled. All methods are pure."""

    learning: Learning
    env: HostEnv

    def act(
        self,
        learner: LearnerState,
        iteration: Array,
        t: Array,
        group: Array,
        observation: Array,
        memory: Memory,
        ended: Array,
    ) -> tuple[Array, Array, Array, Memory, Memory]:
        """Answer what a group sees: what the environment is given, the action, its log-probability, and
        the memory before and after it.

        Args:
            learner: what acts.
            iteration, t, group: which answer of the run it is.
            observation: ``[n, observation_size]``.
            memory: ``[n, M]``: after the answer before.
            ended: bool ``[n]``: whether that ended an episode.
        """
        key = key_of(iteration_keys(learner.key, iteration)[0], t, group)
        view, before = self.learning.see(learner, View(observation)), forget(memory, ended)
        action, log_prob, after = self.learning.agent.act(learner.agent)(view, before, key)
        return actions_of(self.env).to_env(action), action, log_prob, before, after

    def value(self, learner: LearnerState, observation: Array) -> Array:
        """float32 ``[n]``: values of what is seen, of a network that remembers nothing."""
        value = self.learning.agent.value(learner.agent)
        return value(self.learning.see(learner, View(observation)), ())

    def greedily(
        self, learner: LearnerState, observation: Array, memory: Memory
    ) -> tuple[Array, Memory]:
        """What the environment is given by the deterministic policy, and its memory after that."""
        view = self.learning.see(learner, View(observation))
        action, memory = self.learning.agent.act_greedily(learner.agent)(view, memory)
        return actions_of(self.env).to_env(action), memory

    def learn(
        self,
        learner: LearnerState,
        answers: Sequence[Sequence[Answer]],
        told: Told,
        last: Sequence[Array],
        memory: Sequence[Memory],
        iteration: Array,
    ) -> tuple[LearnerState, Totals, Seen]:
        """Learn from T answers of each group, what came of them, and what is seen and remembered after
        them."""
        by_time = [answer for moment in zip(*answers, strict=True) for answer in moment]
        steps = len(answers[0])
        held = jax.tree.map(lambda *x: jnp.concatenate(x).reshape(steps, -1, *x[0].shape[1:]), *by_time)
        rollout = Rollout(View(held.observation), held.action, held.log_prob, *told, memory=held.memory)
        key, after = iteration_keys(learner.key, iteration)[1], View(jnp.concatenate(last))
        learner, totals, seen = self.learning.learn(learner, after, rollout, iteration, key)
        over = jnp.split(ended(rollout)[-1], np.cumsum([len(x) for x in last])[:-1])
        acting = tuple(map(forget, memory, over))
        return learner._replace(memory=learner.memory._replace(acting=acting)), totals, seen

    def row(self, learner: LearnerState, totals: Totals, probe: Sequence[Seen], end: Array) -> Metrics:
        """A chunk's row."""
        seen = jax.tree.map(lambda *x: jnp.concatenate(x), *probe)
        return self.learning.row(learner, totals, seen, end)

    def lowered(self, learner: LearnerState) -> dict[tuple[str, int], Any]:
        """The programs before compilation, by name and size of a group (0: of no group).

        Args:
            learner: its shapes.
        """
        settings, of = self.learning.settings, jax.ShapeDtypeStruct

        def seen(*shape: int) -> Any:
            return of((*shape, self.env.observation_size), self.env.observation_dtype)

        i, config = of((), jnp.int32), self.learning.config
        sizes, episodes = sizes_of(config), config.env.eval_episodes
        memory = {
            n: jax.eval_shape(lambda n=n: self.learning.agent.begin(n).acting)
            for n in (*sizes, episodes)
        }
        acts = {n: (learner, i, i, i, seen(n), memory[n], of((n,), jnp.bool_)) for n in sizes}
        made = {n: jax.eval_shape(self.act, *acts[n]) for n in sizes}
        answers = [[Answer(seen(n), *made[n][1:-1])] * settings.num_steps for n in sizes]
        real, flag = (
            of((settings.num_steps, settings.num_envs), kind) for kind in (jnp.float32, jnp.bool_)
        )
        told, values = Told(real, flag, flag, real, real), sizes
        if self.learning.remembers:
            finals = seen(most_finals(config, self.env), settings.num_envs)
            told, values = told._replace(final_value=None, final_view=View(finals)), []
        learn = (learner, answers, told, [seen(n) for n in sizes], [memory[n] for n in sizes], i)
        _, totals, looked = jax.eval_shape(self.learn, *learn)
        probe = [looked] * self.learning.probed
        return {
            **{("act", n): jax.jit(self.act).lower(*acts[n]) for n in sizes},
            **{("value", n): jax.jit(self.value).lower(learner, seen(n)) for n in values},
            ("learn", 0): jax.jit(self.learn, donate_argnums=0).lower(*learn),
            ("add", 0): jax.jit(functools.partial(jax.tree.map, jnp.add)).lower(totals, totals),
            ("row", 0): jax.jit(self.row).lower(learner, totals, probe, i),
            ("greedily", 0): jax.jit(self.greedily).lower(learner, seen(episodes), memory[episodes]),
        }


class Compiled(NamedTuple):
    """A run's programs. ``n`` is the size of a group."""

    act: Mapping[int, Callable[..., tuple[Array, Array, Array, Memory, Memory]]]
    """n → ``(learner, iteration, t, group, observation, memory, ended) → (given, action, log_prob,
    memory before, memory after)``; the first is what the environment is given."""
    value: Mapping[int, Callable[..., Array]]
    """n → ``(learner, observation) → float32 [n]``; none for a network that remembers."""
    learn: Callable[..., tuple[LearnerState, Totals, Seen]]
    """``(learner, answers, told, last, memory, iteration) → (learner, totals, what was seen)``."""
    add: Callable[..., Totals]
    """Sums of totals."""
    row: Callable[..., Metrics]
    """``(learner, totals, probe, iteration) → row``."""
    greedily: Callable[..., tuple[Array, Memory]]
    """``(learner, observation, memory) → (given, memory)``, for evaluation."""
    nothing: Memory
    """What an evaluation remembers when it begins, on the host."""


class Driver(NamedTuple):
    """What the host does: groups of actors take turns, then the learner learns."""

    learning: Learning
    env: HostEnv
    programs: Compiled

    def _answer(self, clock: Clock, learner: LearnerState, part: Part, at: tuple[int, ...]) -> None:
        """Answer a group's observations, and have it act; ``at``: iteration, interaction and group."""
        with clock.on("transfer"):
            observation = jax.device_put(part.group.observation)
        with clock.on("inference"):
            act, which = self.programs.act[len(observation)], map(np.int32, at)
            given, *drawn, part.memory = act(learner, *which, observation, part.memory, part.ended)
            jax.block_until_ready(given)
        with clock.on("transfer"):
            on_host = np.asarray(given)
        part.group.send(on_host)
        part.answers.append(Answer(observation, *drawn))

    def _receive(self, clock: Clock, learner: LearnerState, part: Part) -> None:
        """Wait for a group. What was seen where time ran out is valued, or kept until it can be."""
        with clock.on("environment"):
            step, episode_return = part.group.receive()
        final_value = None
        if part.finals is None:
            final_value = self._final_value(learner, step)
        else:
            keep(part.finals, step)
        told = Told(step.reward, step.terminated, step.truncated, episode_return, final_value)
        part.told.append(told)

    def _final_value(self, learner: LearnerState, step: HostStep) -> np.ndarray:
        """float32 ``[n]``: V of what was seen where time ran out; 0 where it did not."""
        final_value = np.zeros_like(step.reward)
        if step.truncated.any():
            value = self.programs.value[len(step.reward)](learner, step.final_observation)
            final_value = np.where(step.truncated, np.asarray(value), final_value)
        return final_value

    def _collect(
        self, clock: Clock, learner: LearnerState, groups: Sequence[Group], i: int
    ) -> list[Part]:
        """T interactions of all groups, taking turns."""
        parts = parts_of(self.learning.config, self.env, groups, learner.memory.acting)
        for t in range(self.learning.settings.num_steps):
            for g, part in enumerate(parts):
                if t:
                    self._receive(clock, learner, part)
                self._answer(clock, learner, part, (i, t, g))
        for part in parts:
            self._receive(clock, learner, part)
        return parts

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
            parts = self._collect(clock, learner, groups, i)
            answers, told = [part.answers for part in parts], together(parts)
            memory = [part.memory for part in parts]
            with clock.on("transfer"):
                last = [jax.device_put(group.observation) for group in groups]
            with clock.on("learning"):
                learner, new, seen = self.programs.learn(
                    learner, answers, told, last, memory, np.int32(i)
                )
                probe[i % kept] = seen
                totals = new if totals is None else self.programs.add(totals, new)
                jax.block_until_ready(learner)
        row = self.programs.row(learner, totals, probe, np.int32(end))
        return state._replace(learner=learner), row | clock.shares() | living.restarts()

    def evaluate(self, interactions: Any, state: HostState) -> dict[str, Any]:
        """Whole episodes with the deterministic policy, in environments of their own."""
        if state.living is None:
            raise ValueError("a state is evaluated after it was trained")
        begins = functools.partial(self._greedily, state.learner)
        return state.living.evaluate(int(interactions), begins)

    def _greedily(self, learner: LearnerState) -> Greedily:
        """What acts in an evaluation from its beginning on: it remembers what it has seen."""
        memory = self.programs.nothing

        def act(observation: np.ndarray) -> Array:
            nonlocal memory
            given, memory = self.programs.greedily(learner, observation, memory)
            return given

        return act
