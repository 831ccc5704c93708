"""The zero-order loop on the real clock: a master, and workers that are processes of their own.

The same algorithm as in :mod:`sparse_rl.loops.zero_order.loop`, but what arrives when is decided by the
workers: a run cannot be repeated exactly. A worker that dies costs its estimate and nothing else;
another takes its place. Estimates and gains are float64.
"""

import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from sparse_rl.agents import AzopgAgent, AzopgState, Metrics, RunInputs, of_kernel
from sparse_rl.envs import Env
from sparse_rl.kernels.compilation import compile_all
from sparse_rl.kernels.keys import key_of
from sparse_rl.loops.contract import Workload
from sparse_rl.loops.zero_order.crew import Crew, Hire, Processes
from sparse_rl.loops.zero_order.loop import NEVER, ZeroOrderLoop, known, mask_of, plant_of
from sparse_rl.pruning import store
from sparse_rl.records.checkpoints import Arrays, from_arrays, to_arrays
from sparse_rl.settings.agents import AzopgConfig
from sparse_rl.settings.run import RunConfig
from sparse_rl.simulators import plants
from sparse_rl.simulators.plant_worker import Job


class MasterState(NamedTuple):
    """Everything one run needs to go on, and its workers while they live."""

    agent: AzopgState
    failures: Any
    """int32: estimates that failed so far."""
    lost: Any
    """int32: workers that died with an estimate."""
    reached: Any
    """int32: updates before the target was first met, or :data:`NEVER`."""
    reached_at: Any
    """float32: seconds of training until then."""
    seconds: Any
    """float32: of training so far, with workers at work."""
    learning_rate: Any
    seed: Any
    drawn: Any
    """As of the inputs; never on disk."""
    crew: Any = None
    """The workers; ``None``: to be hired. Never on disk."""


class _Live:
    """What a chunk changes, on the host."""

    def __init__(self, loop: "MasterLoop", state: MasterState) -> None:
        self.plant = plant_of(loop.config)
        self.gain = np.asarray(loop.agent.gain(*state.agent), np.float64)
        self.free = mask_of(loop.agent, state.agent)
        self.rate = float(state.learning_rate)
        if loop.settings.learning_rate_over == "free_entries":
            self.rate /= self.free.sum()
        start, best = known(loop.config.env.task, loop.config.width).start, float(state.drawn.best)
        self.goal = best + loop.settings.target * (start - best)
        self.checked = -1
        self.failures, self.delays, self.norms = int(state.failures), 0, 0.0
        self.reached, self.reached_at = int(state.reached), float(state.reached_at)

    def apply(self, estimate: np.ndarray) -> None:
        """Take the step of one estimate."""
        if np.isfinite(estimate).all():
            self.gain = self.gain - self.rate * estimate.reshape(self.gain.shape)
            self.norms += float(np.linalg.norm(estimate))
        else:
            self.failures += 1

    def check(self, updates: int, seconds: float) -> None:
        """Whether the target is met now."""
        if updates == self.checked or self.reached < NEVER:
            return
        self.checked = updates
        if plants.cost(self.plant, self.gain) <= self.goal:
            self.reached, self.reached_at = updates, seconds


class MasterLoop(NamedTuple):
    """A run's static parts."""

    config: RunConfig
    env: Env
    agent: AzopgAgent
    hire: Hire = Processes
    """Where workers come from: processes of this machine, or what a launcher puts here."""

    @property
    def simulated(self) -> ZeroOrderLoop:
        """The loop whose rows and evaluations are these."""
        return ZeroOrderLoop(self.config, self.env, self.agent)

    @property
    def settings(self) -> AzopgConfig:
        return self.simulated.settings

    def init(self, inputs: RunInputs) -> MasterState:
        """The state before the first estimate; pure."""
        zero = jnp.int32(0)
        return MasterState(
            agent=self.agent.init(key_of(0), inputs),
            failures=zero,
            lost=zero,
            reached=jnp.int32(NEVER),
            reached_at=jnp.float32(jnp.inf),
            seconds=jnp.float32(0),
            learning_rate=jnp.asarray(inputs.learning_rate, jnp.float32),
            seed=jnp.asarray(inputs.seed, jnp.uint32),
            drawn=inputs.drawn,
        )

    def to_disk(self, state: MasterState) -> Arrays:
        """Everything the run needs to go on, named, on the host."""
        return to_arrays(state._replace(drawn=(), crew=None))

    def from_disk(self, arrays: Arrays, inputs: RunInputs) -> MasterState:
        """The state that :meth:`to_disk` wrote; workers are hired when it is used.

        Raises:
            CheckpointError: it is not the state of such a run.
        """
        read: MasterState = from_arrays(jax.eval_shape(self.init, inputs._replace(drawn=())), arrays)
        return read._replace(drawn=inputs.drawn)

    def trained(self, state: MasterState) -> Arrays:
        """The gain as stored, and where its entries are."""
        return self.simulated.trained(state)

    def workload(self, state: MasterState) -> Workload:
        """One update per estimate."""
        return self.simulated.workload(state)

    def describe(self) -> str:
        """Estimator and clock."""
        return (
            f"{self.settings.estimator} estimates, {self.settings.workers} {self.settings.master} "
            f"worker(s) on the real clock ({self.settings.work})"
        )

    def compile(self, inputs: RunInputs, options: Any) -> tuple[Any, Any, Any]:
        """``init``, ``chunk`` and ``evaluate``; what is compiled are rows and evaluations."""
        state, i = jax.eval_shape(self.init, inputs), jax.ShapeDtypeStruct((), jnp.int32)
        lowered = {
            "init": jax.jit(self.init).lower(inputs),
            "row": jax.jit(self.simulated.row).lower(state),
            "evaluate": jax.jit(self.simulated.evaluate).lower(i, state),
        }
        made = compile_all(lowered, options)

        def chunk(first: Any, state: MasterState) -> tuple[MasterState, Metrics]:
            state, seen = self._chunk(int(first), state)
            return state, made["row"](state._replace(crew=None)) | seen

        return made["init"], chunk, lambda i, state: made["evaluate"](i, state._replace(crew=None))

    def _crew(self, state: MasterState, first: int) -> Crew:
        """The living workers, all of them up at first."""
        if state.crew is not None:
            return state.crew
        settings, plant = self.settings, plant_of(self.config)
        job = Job(
            *plant, mask_of(self.agent, state.agent), settings.radius, settings.estimator == "two_point",
            settings.work, settings.durations, settings.estimate_seconds, [int(state.seed), first],
        )  # fmt: skip
        crew = Crew(job, settings.workers, self.hire)
        try:
            crew.gather()
        except BaseException:
            crew.close()
            raise
        crew.began -= float(state.seconds)
        return crew

    def _chunk(self, first: int, state: MasterState) -> tuple[MasterState, dict[str, Any]]:
        """Apply the estimates from number ``first`` to the next log point as they come."""
        crew, live = self._crew(state, first), _Live(self, state)
        count = self.config.log_every // self.config.frames_per_interaction
        barrier, lost = self.settings.master == "synchronous", crew.lost
        done = first
        while done < first + count:
            for estimate, number in crew.receive(first + count - done):
                live.apply(estimate)
                live.delays += done - number
                done += 1
            if not barrier or len(crew.idle) == len(crew.given):
                crew.give(live.gain, done)
            live.check(done, time.monotonic() - crew.began)  # while the workers work
        seconds = time.monotonic() - crew.began
        if done == self.config.interactions:
            crew.close()
        state = state._replace(
            agent=self._stored(state, live.gain),
            failures=np.int32(live.failures),
            lost=np.int32(int(state.lost) + crew.lost - lost),
            reached=np.int32(live.reached),
            reached_at=np.float32(live.reached_at),
            seconds=np.float32(seconds),
            crew=crew,
        )
        return state, self._seen(live, state, count)

    def _stored(self, state: MasterState, gain: np.ndarray) -> AzopgState:
        kernel: Array = jnp.asarray(gain.T, jnp.float32)
        return state.agent._replace(params=store(state.agent.supports, of_kernel(kernel)))

    def _seen(self, live: _Live, state: MasterState, count: int) -> dict[str, Any]:
        """The part of a row that is the clock's."""
        reached = live.reached < NEVER
        return {
            "grad_norm/actor": live.norms / count,
            "updates_in_chunk": float(count),
            "clock_time": state.seconds,
            "delay_mean": live.delays / count,
            "time_to_target": live.reached_at,
            "updates_to_target": float(live.reached) if reached else np.inf,
            "workers_lost": float(state.lost),
        }
