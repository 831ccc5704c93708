"""The streaming loop on environments of the host.

An action depends on the step before it, so nobody can work while another does: an interaction is the
environment's step, and then one program that learns from it, sees what comes next and answers.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from sparse_rl.agents import Metrics, RunInputs, StreamingAgent, acting, actions_of
from sparse_rl.envs import HostEnv
from sparse_rl.kernels.compilation import compile_all
from sparse_rl.loops.contract import Workload
from sparse_rl.loops.hosted import hosting
from sparse_rl.loops.hosted.holding import Held, holding_of
from sparse_rl.loops.hosted.hosting import Clock, Greedily, HostState
from sparse_rl.loops.streaming import Streaming, StreamRun, Told, Totals
from sparse_rl.records.checkpoints import Arrays, from_arrays, to_arrays
from sparse_rl.settings.run import RunConfig


class HostStreamingLoop(NamedTuple):
    """A run's static parts. A chunk gives up the state it starts from: its environment goes on."""

    config: RunConfig
    env: HostEnv
    agent: StreamingAgent

    @property
    def streaming(self) -> Streaming:
        """What is done with a transition."""
        return Streaming(self.config, self.env, self.agent)

    def init(self, inputs: RunInputs) -> HostState:
        """The state before the first observation; pure."""
        learner = self.streaming.init(inputs, envs=())
        return hosting.begin(self.config, self.env, learner, inputs.seed)

    def to_disk(self, state: HostState) -> Arrays:
        """Everything the run needs to go on, named, on the host."""
        return to_arrays(state._replace(living=None))

    def from_disk(self, arrays: Arrays, inputs: RunInputs) -> HostState:
        """The state that :meth:`to_disk` wrote; its environment is rebuilt when it is used.

        Raises:
            CheckpointError: it is not the state of such a run.
        """
        return from_arrays(jax.eval_shape(self.init, inputs), arrays)

    def trained(self, state: HostState) -> Arrays:
        """What acting and evaluating needs: parameters as stored, supports, the normaliser."""
        return to_arrays(acting(self.agent, state.learner))

    def workload(self, state: HostState) -> Workload:
        """Counted from the configuration."""
        del state
        return self.streaming.workload()

    def describe(self) -> str:
        """How it learns, and where the environment is."""
        return f"{self.streaming.describe()}; environments on the host"

    def compile(self, inputs: RunInputs, options: Mapping[str, Any]) -> tuple[Any, Any, Any]:
        """``init``, ``chunk`` and ``evaluate``: the last two drive compiled programs."""
        state = jax.eval_shape(self.init, inputs)
        lowered = OnDevice(self.streaming).lowered(state.learner, self.env)
        made = compile_all(lowered | {"init": jax.jit(self.init).lower(inputs)}, options)
        init = made.pop("init")
        totals = jax.eval_shape(self.streaming.nothing_learned, state.learner)
        nothing = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), totals)
        driver = Driver(self.streaming, self.env, Compiled(**made, nothing=nothing))
        return init, driver.chunk, driver.evaluate


def packed(told: Told) -> np.ndarray:
    """What one environment told as one array, float32 ``[2 · o + 3]``: to hand over several costs more
    than a small network's update."""
    return np.concatenate([np.ravel(field) for field in told], dtype=np.float32, casting="unsafe")


def unpacked(held: Array) -> Told:
    """What :func:`packed` took; pictures of bytes come as the same numbers."""
    size = (held.shape[0] - 3) // 2
    reward, terminated, truncated = held[-3:]
    return Told(
        held[None, :size],
        held[None, size : 2 * size],
        reward[None],
        terminated[None] > 0,
        truncated[None] > 0,
    )


class OnDevice(NamedTuple):
    """What is compiled. All methods are pure."""

    streaming: Streaming

    def _given(self, learner: StreamRun) -> Array:
        return actions_of(self.streaming.spec).to_env(learner.action)

    def begin(self, learner: StreamRun, observation: Array) -> tuple[StreamRun, Array]:
        """See a run's first observation; the action to give."""
        learner = self.streaming.begin(learner, observation)
        return learner, self._given(learner)

    def again(self, learner: StreamRun) -> Array:
        """The action to give where a chunk begins."""
        return self._given(learner)

    def step(
        self, carried: tuple[StreamRun, Totals], told: Array, interaction: Array
    ) -> tuple[tuple[StreamRun, Totals], Array]:
        """Learn from an interaction (:func:`packed`); the action to give next."""
        learner, totals = self.streaming.learn(*carried, unpacked(told), interaction)
        return (learner, totals), self._given(learner)

    def lowered_steps(self, carried: tuple[StreamRun, Totals], told: Any, i: Any) -> dict[str, Any]:
        """The step's program before compilation, and those that lay down what it carries and take it
        up."""
        holding = holding_of(self.step, carried, told, i)

        def step(same: Any, held: Held, told: Array, interaction: Array) -> tuple[Held, Array]:
            after, given = self.step(holding.unpack(same, held), told, interaction)
            return holding.pack(after)[1], given

        same, held = jax.eval_shape(holding.pack, carried)
        return {
            "lay_down": jax.jit(holding.pack).lower(carried),
            "step": jax.jit(step, donate_argnums=1).lower(same, held, told, i),
            "take_up": jax.jit(holding.unpack).lower(same, held),
        }

    def greedily(self, learner: StreamRun, observation: Array, interaction: Array) -> Array:
        """The deterministic policy's actions at such an interaction of all episodes."""
        frames = interaction * self.streaming.config.env.action_repeat
        elapsed = jnp.minimum(frames, self.streaming.spec.episode_length)
        return self.streaming.act_greedily(learner, observation, elapsed)

    def lowered(self, learner: StreamRun, env: HostEnv) -> dict[str, Any]:
        """The programs before compilation, as :class:`Compiled` names them.

        Args:
            learner: its shapes.
            env: the environment.
        """
        of, size, kind = jax.ShapeDtypeStruct, env.observation_size, env.observation_dtype
        i = of((), jnp.int32)
        many = self.streaming.config.env.eval_episodes
        seen, all_seen = (of((n, size), kind) for n in (1, many))
        totals = jax.eval_shape(self.streaming.nothing_learned, learner)
        told = of((2 * size + 3,), jnp.float32)
        return {
            "begin": jax.jit(self.begin, donate_argnums=0).lower(learner, seen),
            "again": jax.jit(self.again).lower(learner),
            **self.lowered_steps((learner, totals), told, i),
            "row": jax.jit(self.streaming.row).lower(learner, totals),
            "greedily": jax.jit(self.greedily).lower(learner, all_seen, i),
        }


class Compiled(NamedTuple):
    """A run's programs."""

    begin: Any
    """``(learner, observation) → (learner, action)``, in place."""
    again: Any
    """``learner → action``."""
    lay_down: Any
    """``((learner, totals)) → (what stays the same, held)``."""
    step: Any
    """``(what stays the same, held, what was told, interaction) → (held, action)``, in place."""
    take_up: Any
    """``(what stays the same, held) → (learner, totals)``."""
    row: Any
    """``(learner, totals) → row``."""
    greedily: Any
    """``(learner, observation, interaction) → action``, for evaluation."""
    nothing: Totals
    """Sums before a chunk, on the host."""


class Driver(NamedTuple):
    """What the host does: it hands actions to the environment, and what comes of them to programs."""

    streaming: Streaming
    env: HostEnv
    programs: Compiled

    def _answer(self, learner: StreamRun, observation: np.ndarray, t: int) -> tuple[StreamRun, Array]:
        """The action of a chunk's first interaction."""
        if t:
            return learner, self.programs.again(learner)
        begun: tuple[StreamRun, Array] = self.programs.begin(learner, observation)
        return begun

    def chunk(self, first: Any, state: HostState) -> tuple[HostState, dict[str, Any]]:
        """Interact and learn from interaction ``first`` to the next log point.

        Returns:
            The new state, and a row (:meth:`Streaming.row`) with the shares of time.
        """
        config = self.streaming.config
        state = hosting.opened(config, self.env, state, groups=1)
        living: Any = state.living
        (group,), clock, start = living.groups, Clock(), int(first)
        learner, totals = state.learner, jax.device_put(self.programs.nothing)
        learner, action = self._answer(learner, group.observation, start)
        same, held = self.programs.lay_down((learner, totals))
        returned, finished = 0.0, 0
        for t in range(start, start + self.streaming.interactions_per_chunk):
            with clock.on("learning"):
                given = np.asarray(action)
            with clock.on("environment"):
                group.send(given)
                step, episode_return = group.receive()
            over = bool(step.terminated[0] | step.truncated[0])
            successor = step.final_observation if over else step.observation
            told = Told(successor, group.observation, step.reward, step.terminated, step.truncated)
            with clock.on("learning"):
                held, action = self.programs.step(same, held, packed(told), np.int32(t))
            if over:
                returned += float(episode_return[0])
                finished += 1
        learner, totals = self.programs.take_up(same, held)
        means = {"finished_return": np.float32(returned), "finished": np.float32(finished)}
        row = self.programs.row(learner, totals._replace(**means))
        return state._replace(learner=learner), row | clock.shares() | living.restarts()

    def evaluate(self, interactions: Any, state: HostState) -> Metrics:
        """Whole episodes with the deterministic policy, in environments of their own."""
        if state.living is None:
            raise ValueError("a state is evaluated after it was trained")
        return state.living.evaluate(int(interactions), lambda: self._greedily(state.learner))

    def _greedily(self, learner: StreamRun) -> Greedily:
        """What acts in an evaluation from its beginning on: it knows the time."""
        played = -1

        def act(observation: np.ndarray) -> Array:
            nonlocal played
            played += 1
            action: Array = self.programs.greedily(learner, observation, np.int32(played))
            return action

        return act
