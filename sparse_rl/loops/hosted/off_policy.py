"""The off-policy loop on environments of the host: the learner learns while they step.

Interaction t: the actor answers what is seen; then the updates that are due run on the device while the
environments simulate, and learn from what was stored up to interaction t − 1; then transition t is
stored. So nobody waits for what could have been started, every batch is drawn from a buffer that is
known, and the numbers do not depend on who was faster. The host waits for nothing but the actions.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from sparse_rl.agents import Metrics, OffPolicyAgent, RunInputs
from sparse_rl.envs import Env, HostEnv
from sparse_rl.experience import Transition
from sparse_rl.experience import normaliser as norm
from sparse_rl.kernels.compilation import compile_all
from sparse_rl.loops.contract import Workload
from sparse_rl.loops.hosted import hosting
from sparse_rl.loops.hosted.hosting import Clock, HostState
from sparse_rl.loops.hosted.sessions import Group
from sparse_rl.loops.off_policy import OffPolicyLoop, RunState, Totals
from sparse_rl.records.checkpoints import Arrays, from_arrays, to_arrays
from sparse_rl.settings.run import RunConfig


class Compiled(NamedTuple):
    """A run's programs."""

    act: Any
    """``(agent, normaliser, key, interaction, observation) → (normaliser, action)``."""
    learn: Any
    """``(agent, totals, normaliser, replay, key, interaction) → (agent, totals)``, the first two in
    place."""
    add: Any
    """``(replay, transition, truncated) → replay``, in place."""
    row: Any
    """``(learner, totals, interactions) → row``."""
    greedily: Any
    """``(agent, normaliser, observation) → action``, for evaluation."""
    nothing: Totals
    """Sums before the first update, on the host."""


class HostOffPolicyLoop(NamedTuple):
    """A run's static parts. A chunk gives up the state it starts from: its environments go on."""

    config: RunConfig
    env: HostEnv
    agent: OffPolicyAgent

    @property
    def learning(self) -> OffPolicyLoop:
        """What is learned, when, and with which keys: the tensorised loop, without its environments."""
        return OffPolicyLoop(self.config, cast(Env, self.env), self.agent)

    def init(self, inputs: RunInputs) -> HostState:
        """The state before the first interaction; pure."""
        learner = self.learning.learner(inputs, envs=())
        return hosting.begin(self.config, self.env, learner, inputs.seed)

    def to_disk(self, state: HostState) -> Arrays:
        """Everything the run needs to go on, named, on the host."""
        rest = to_arrays(state._replace(learner=(), living=None))
        return self.learning.to_disk(state.learner) | rest

    def from_disk(self, arrays: Arrays, inputs: RunInputs) -> HostState:
        """The state that :meth:`to_disk` wrote; its environments are rebuilt when it is used.

        Raises:
            CheckpointError: it is not the state of such a run.
        """
        like = jax.eval_shape(self.init, inputs)
        rest: HostState = from_arrays(like._replace(learner=()), arrays)
        return rest._replace(learner=self.learning.read(arrays, like.learner))

    def trained(self, state: HostState) -> Arrays:
        """What acting and evaluating needs: parameters as stored, supports, the normaliser."""
        return self.learning.trained(state.learner)

    def workload(self, state: HostState) -> Workload:
        """Counted from shapes."""
        return self.learning.workload(state.learner)

    def describe(self) -> str:
        """How many interactions are random, and where the environments are."""
        return f"{self.learning.describe()}; environments on the host, updates while they step"

    def _act(
        self, agent: Any, normaliser: norm.Normaliser, key: Array, interaction: Array, observation: Array
    ) -> tuple[norm.Normaliser, Array]:
        normaliser = self.learning.watch(normaliser, observation)
        key_act = self.learning.keys(key, interaction).act
        seen = self.learning.see(normaliser, observation)
        return normaliser, self.learning.act(agent, seen, interaction, key_act)

    def _learn(
        self,
        agent: Any,
        totals: Totals,
        normaliser: norm.Normaliser,
        replay: Any,
        key: Array,
        interaction: Array,
    ) -> tuple[Any, Totals]:
        """The updates that are due after an interaction."""
        state, keys = RunState(agent, normaliser, replay, (), key), self.learning.keys(key, interaction)
        state, totals = self.learning.learn(state, totals, interaction, keys.learn)
        return state.agent, totals

    def _greedily(self, agent: Any, normaliser: norm.Normaliser, observation: Array) -> Array:
        return self.agent.act_greedily(agent, self.learning.see(normaliser, observation))

    def _lowered(self, inputs: RunInputs) -> dict[str, Any]:
        """The programs before compilation."""
        of, size = jax.ShapeDtypeStruct, self.env.observation_size
        num_envs = self.config.agent.num_envs
        learner = jax.eval_shape(self.init, inputs).learner
        agent, normaliser, replay, _, key = learner
        totals = jax.eval_shape(self.learning.nothing_learned, learner)
        i = of((), jnp.int32)
        kind = self.env.observation_dtype
        seen: Any = [of((n, size), kind) for n in (num_envs, self.config.env.eval_episodes)]
        action: Any = of((num_envs, self.env.action_size), jnp.float32)
        reward: Any = of((num_envs,), jnp.float32)
        flag: Any = of((num_envs,), jnp.bool_)
        transition = Transition(seen[0], action, reward, seen[0], flag)
        lower = {
            "act": jax.jit(self._act).lower(agent, normaliser, key, i, seen[0]),
            "learn": jax.jit(self._learn, donate_argnums=(0, 1)).lower(
                agent, totals, normaliser, replay, key, i
            ),
            "add": jax.jit(self.learning.buffer.add, donate_argnums=0).lower(replay, transition, flag),
            "row": jax.jit(self.learning.row).lower(learner, totals, i),
            "greedily": jax.jit(self._greedily).lower(agent, normaliser, seen[1]),
        }
        return {**lower, "init": jax.jit(self.init).lower(inputs)}

    def compile(self, inputs: RunInputs, options: Mapping[str, Any]) -> tuple[Any, Any, Any]:
        """``init``, ``chunk`` and ``evaluate``: the last two drive compiled programs."""
        made = compile_all(self._lowered(inputs), options)
        init = made.pop("init")
        shapes = jax.eval_shape(
            lambda: self.learning.nothing_learned(self.learning.learner(inputs, envs=()))
        )
        nothing = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
        driven = Compiled(**made, nothing=nothing)
        return (
            init,
            functools.partial(self._chunk, driven),
            functools.partial(self._evaluate, driven),
        )

    def _answer(
        self, programs: Compiled, clock: Clock, learner: RunState, group: Group, t: int
    ) -> tuple[RunState, Array, Array]:
        """Have the environments begin interaction t; what they saw and what they were given."""
        with clock.on("transfer"):
            observation = jax.device_put(group.observation)
        with clock.on("inference"):
            agent, normaliser, _, _, key = learner
            normaliser, action = programs.act(agent, normaliser, key, np.int32(t), observation)
        with clock.on("learning"):  # of the interaction before: the action waits for it anyway
            jax.block_until_ready(agent)
        with clock.on("inference"):
            given = np.asarray(action)
        group.send(given)
        return learner._replace(normaliser=normaliser), observation, action

    def _update(
        self, programs: Compiled, clock: Clock, learner: RunState, totals: Totals, t: int
    ) -> tuple[RunState, Totals]:
        """Begin the updates that are due after interaction t; nobody waits for them here."""
        if not self.learning.updates_due(t):
            return learner, totals
        with clock.on("learning"):
            agent, normaliser, replay, _, key = learner
            agent, totals = programs.learn(agent, totals, normaliser, replay, key, np.int32(t))
        return learner._replace(agent=agent), totals

    def _chunk(
        self, programs: Compiled, first: Any, state: HostState
    ) -> tuple[HostState, dict[str, Any]]:
        """Interact and learn from interaction ``first`` to the next log point.

        Returns:
            The new state, and a row (:meth:`OffPolicyLoop.row`) with the shares of time.
        """
        state = hosting.opened(self.config, self.env, state, groups=1)
        living: Any = state.living
        (group,), learner, clock = living.groups, state.learner, Clock()
        totals = jax.device_put(programs.nothing)
        start = int(first)
        end = start + self.config.log_every // self.config.frames_per_interaction
        returned, finished = 0.0, 0
        for t in range(start, end):
            learner, observation, action = self._answer(programs, clock, learner, group, t)
            if t:
                learner, totals = self._update(programs, clock, learner, totals, t)
            with clock.on("environment"):
                step, episode_return = group.receive()
            ended = step.terminated | step.truncated
            following = np.where(ended[:, None], step.final_observation, step.observation)
            with clock.on("transfer"):
                told = Transition(observation, action, step.reward, following, step.terminated)
                learner = learner._replace(replay=programs.add(learner.replay, told, step.truncated))
            if not t:  # nothing was stored before
                learner, totals = self._update(programs, clock, learner, totals, t)
            returned += float(episode_return[ended].sum())
            finished += int(ended.sum())
        means = {"finished_return": np.float32(returned), "finished": np.float32(finished)}
        row = programs.row(learner, totals._replace(**means), np.int32(end))
        return state._replace(learner=learner), row | clock.shares() | living.restarts()

    def _evaluate(self, programs: Compiled, interactions: Any, state: HostState) -> Metrics:
        """Whole episodes with the deterministic policy, in environments of their own."""
        if state.living is None:
            raise ValueError("a state is evaluated after it was trained")
        agent, normaliser, *_ = state.learner
        return state.living.evaluate(
            int(interactions), functools.partial(programs.greedily, agent, normaliser)
        )
