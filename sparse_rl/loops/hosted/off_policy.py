"""The off-policy loop on environments of the host: the learner learns while they step.

Interaction t: the actor answers what is seen; then the updates that are due run on the device while the
environments simulate, and learn from what was stored up to interaction t − 1; then transition t is
stored. So nobody waits for what could have been started, every batch is drawn from a buffer that is
known, and the numbers do not depend on who was faster. The host waits for nothing but the actions.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from sparse_rl.agents import Metrics, OffPolicyAgent, RunInputs, acting
from sparse_rl.envs import HostEnv
from sparse_rl.experience import Transition
from sparse_rl.experience import normaliser as norm
from sparse_rl.kernels.compilation import compile_all
from sparse_rl.loops import replaying
from sparse_rl.loops.contract import Workload
from sparse_rl.loops.hosted import hosting
from sparse_rl.loops.hosted.hosting import Clock, HostState
from sparse_rl.loops.hosted.sessions import Group
from sparse_rl.loops.replaying import Replaying, RunState, Totals, interaction_keys
from sparse_rl.records.checkpoints import Arrays, from_arrays, to_arrays
from sparse_rl.settings.run import RunConfig


class HostOffPolicyLoop(NamedTuple):
    """A run's static parts. A chunk gives up the state it starts from: its environments go on."""

    config: RunConfig
    env: HostEnv
    agent: OffPolicyAgent

    @property
    def learning(self) -> Replaying:
        """What is done with the replay buffer."""
        return Replaying(self.config, self.env, self.agent)

    def init(self, inputs: RunInputs) -> HostState:
        """The state before the first interaction; pure."""
        learner = self.learning.init(inputs, envs=())
        return hosting.begin(self.config, self.env, learner, inputs.seed)

    def to_disk(self, state: HostState) -> Arrays:
        """Everything the run needs to go on, named, on the host."""
        rest = to_arrays(state._replace(learner=(), living=None))
        return replaying.to_disk(self.learning.buffer, state.learner) | rest

    def from_disk(self, arrays: Arrays, inputs: RunInputs) -> HostState:
        """The state that :meth:`to_disk` wrote; its environments are rebuilt when it is used.

        Raises:
            CheckpointError: it is not the state of such a run.
        """
        like = jax.eval_shape(self.init, inputs)
        rest: HostState = from_arrays(like._replace(learner=()), arrays)
        learner = replaying.from_disk(self.learning.buffer, arrays, like.learner)
        return rest._replace(learner=learner)

    def trained(self, state: HostState) -> Arrays:
        """What acting and evaluating needs: parameters as stored, supports, the normaliser."""
        return to_arrays(acting(self.agent, state.learner))

    def workload(self, state: HostState) -> Workload:
        """Counted from shapes."""
        return self.learning.workload(state.learner)

    def describe(self) -> str:
        """How many interactions are random, and where the environments are."""
        return f"{self.learning.describe()}; environments on the host, updates while they step"

    def compile(self, inputs: RunInputs, options: Mapping[str, Any]) -> tuple[Any, Any, Any]:
        """``init``, ``chunk`` and ``evaluate``: the last two drive compiled programs."""
        state = jax.eval_shape(self.init, inputs)
        shapes = jax.eval_shape(self.learning.nothing_learned, state.learner)
        lowered = {
            **OnDevice(self.learning).lowered(state.learner, self.env),
            "init": jax.jit(self.init).lower(inputs),
        }
        made = compile_all(lowered, options)
        init = made.pop("init")
        nothing = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
        driver = Driver(self.learning, self.env, Compiled(**made, nothing=nothing))
        return init, driver.chunk, driver.evaluate


class OnDevice(NamedTuple):
    """What is compiled. All methods are pure."""

    learning: Replaying

    def act(
        self, agent: Any, normaliser: norm.Normaliser, key: Array, interaction: Array, observation: Array
    ) -> tuple[norm.Normaliser, Array]:
        """Take in what is seen, and answer it."""
        normaliser = self.learning.watch(normaliser, observation)
        key_act = interaction_keys(key, interaction).act
        seen = self.learning.see(normaliser, observation)
        return normaliser, self.learning.act(agent, seen, interaction, key_act)

    def learn(
        self,
        agent: Any,
        totals: Totals,
        normaliser: norm.Normaliser,
        replay: Any,
        key: Array,
        interaction: Array,
    ) -> tuple[Any, Totals]:
        """The updates that are due after an interaction."""
        state, keys = RunState(agent, normaliser, replay, (), key), interaction_keys(key, interaction)
        state, totals = self.learning.learn(state, totals, interaction, keys.learn)
        return state.agent, totals

    def greedily(self, agent: Any, normaliser: norm.Normaliser, observation: Array) -> Array:
        """The deterministic policy's actions."""
        return self.learning.acting.act_greedily(agent, self.learning.see(normaliser, observation))

    def lowered(self, learner: RunState, env: HostEnv) -> dict[str, Any]:
        """The programs before compilation, as :class:`Compiled` names them.

        Args:
            learner: its shapes.
            env: the environment.
        """
        of, size, kind = jax.ShapeDtypeStruct, env.observation_size, env.observation_dtype
        num_envs = self.learning.config.agent.num_envs
        agent, normaliser, replay, _, key = learner
        totals = jax.eval_shape(self.learning.nothing_learned, learner)
        i = of((), jnp.int32)
        seen: Any = [of((n, size), kind) for n in (num_envs, self.learning.config.env.eval_episodes)]
        action: Any = of((num_envs, env.action_size), jnp.float32)
        reward: Any = of((num_envs,), jnp.float32)
        flag: Any = of((num_envs,), jnp.bool_)
        transition = Transition(seen[0], action, reward, seen[0], flag)
        return {
            "act": jax.jit(self.act).lower(agent, normaliser, key, i, seen[0]),
            "learn": jax.jit(self.learn, donate_argnums=(0, 1)).lower(
                agent, totals, normaliser, replay, key, i
            ),
            "add": jax.jit(self.learning.buffer.add, donate_argnums=0).lower(replay, transition, flag),
            "row": jax.jit(self.learning.row).lower(learner, totals, i),
            "greedily": jax.jit(self.greedily).lower(agent, normaliser, seen[1]),
        }


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


class Driver(NamedTuple):
    """What the host does: it has environments step while compiled programs learn."""

    learning: Replaying
    env: HostEnv
    programs: Compiled

    def _answer(
        self, clock: Clock, learner: RunState, group: Group, t: int
    ) -> tuple[RunState, Array, Array]:
        """Have the environments begin interaction t; what they saw and what they were given."""
        with clock.on("transfer"):
            observation = jax.device_put(group.observation)
        with clock.on("inference"):
            agent, normaliser, _, _, key = learner
            normaliser, action = self.programs.act(agent, normaliser, key, np.int32(t), observation)
        with clock.on("learning"):  # of the interaction before: the action waits for it anyway
            jax.block_until_ready(agent)
        with clock.on("inference"):
            given = np.asarray(action)
        group.send(given)
        return learner._replace(normaliser=normaliser), observation, action

    def _update(
        self, clock: Clock, learner: RunState, totals: Totals, t: int
    ) -> tuple[RunState, Totals]:
        """Begin the updates that are due after interaction t; nobody waits for them here."""
        if not self.learning.schedule.updates_due(t):
            return learner, totals
        with clock.on("learning"):
            agent, normaliser, replay, _, key = learner
            agent, totals = self.programs.learn(agent, totals, normaliser, replay, key, np.int32(t))
        return learner._replace(agent=agent), totals

    def chunk(self, first: Any, state: HostState) -> tuple[HostState, dict[str, Any]]:
        """Interact and learn from interaction ``first`` to the next log point.

        Returns:
            The new state, and a row (:meth:`Replaying.row`) with the shares of time.
        """
        config = self.learning.config
        state = hosting.opened(config, self.env, state, groups=1)
        living: Any = state.living
        (group,), learner, clock = living.groups, state.learner, Clock()
        totals = jax.device_put(self.programs.nothing)
        start = int(first)
        end = start + config.log_every // config.frames_per_interaction
        returned, finished = 0.0, 0
        for t in range(start, end):
            learner, observation, action = self._answer(clock, learner, group, t)
            if t:
                learner, totals = self._update(clock, learner, totals, t)
            with clock.on("environment"):
                step, episode_return = group.receive()
            ended = step.terminated | step.truncated
            following = np.where(ended[:, None], step.final_observation, step.observation)
            with clock.on("transfer"):
                told = Transition(observation, action, step.reward, following, step.terminated)
                learner = learner._replace(
                    replay=self.programs.add(learner.replay, told, step.truncated)
                )
            if not t:  # nothing was stored before
                learner, totals = self._update(clock, learner, totals, t)
            returned += float(episode_return[ended].sum())
            finished += int(ended.sum())
        means = {"finished_return": np.float32(returned), "finished": np.float32(finished)}
        row = self.programs.row(learner, totals._replace(**means), np.int32(end))
        return state._replace(learner=learner), row | clock.shares() | living.restarts()

    def evaluate(self, interactions: Any, state: HostState) -> Metrics:
        """Whole episodes with the deterministic policy, in environments of their own."""
        if state.living is None:
            raise ValueError("a state is evaluated after it was trained")
        agent, normaliser, *_ = state.learner
        greedily = functools.partial(self.programs.greedily, agent, normaliser)
        return state.living.evaluate(int(interactions), lambda: greedily)
