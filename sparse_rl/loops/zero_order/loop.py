"""The zero-order loop on the simulated clock: delayed estimates, applied as they arrive.

Which worker's estimate comes next was drawn on the host (:mod:`.arrivals`); each
worker's gain stays in a slot until its estimate is in. A chunk is one pure function, so one XLA program,
and the program is the same for every number of workers, kind of durations and kind of master.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from sparse_rl.agents import AzopgAgent, AzopgState, Metrics, RunInputs, Streams
from sparse_rl.diagnostics import global_norm, ratio, unconnected
from sparse_rl.envs import Env, lqr
from sparse_rl.kernels.keys import key_of
from sparse_rl.loops.contract import Workload
from sparse_rl.loops.zero_order.arrivals import Arrivals, arrivals
from sparse_rl.pruning import support_masks
from sparse_rl.records.checkpoints import Arrays, from_arrays, to_arrays
from sparse_rl.settings.agents import AzopgConfig
from sparse_rl.settings.run import RunConfig, agent_settings
from sparse_rl.simulators import plants

NEVER = np.iinfo(np.int32).max
"""Updates to the target of a run that has not reached it."""


def plant_of(config: RunConfig) -> plants.Plant:
    """The plant that a run controls."""
    return plants.PLANTS[config.env.task](config.width)


class Known(NamedTuple):
    """What the exact oracle says of a plant."""

    start: float
    """J(0)."""
    best: float
    """J(K*)."""


@functools.cache
def known(task: str, masses: int) -> Known:
    """Of a plant, by the oracle in float64."""
    plant = plants.PLANTS[task](masses)
    return Known(plants.cost(plant, np.zeros(plant.b.shape[::-1])), plants.optimum(plant)[1])


class OfMask(NamedTuple):
    """What the exact oracle says of a mask."""

    best: float
    """J of the best gain that it allows."""
    flow_time: float
    """:func:`sparse_rl.simulators.plants.flow_time` to the target."""


@functools.lru_cache(maxsize=4096)
def of_mask(task: str, masses: int, mask: bytes, target: float) -> OfMask:
    """Of a plant and a mask, bool ``[m, n]`` as bytes, by the oracle in float64."""
    plant = plants.PLANTS[task](masses)
    free = np.frombuffer(mask, bool).reshape(plant.b.shape[::-1])
    best = known(task, masses).best if free.all() else plants.masked_optimum(plant, free)[1]
    return OfMask(best, plants.flow_time(plant, free, best, target))


class Drawn(NamedTuple):
    """What the host finds before a run begins."""

    best: Any
    flow_time: Any
    """float32 each: of the run's mask, as of :class:`OfMask`."""
    arrivals: Any
    """:class:`Arrivals` of the whole run, or nothing on the real clock."""


def mask_of(agent: AzopgAgent, state: AzopgState) -> np.ndarray:
    """bool ``[m, n]``: the free entries."""
    masks = jax.tree.leaves(support_masks(state.supports))
    return np.asarray(masks[0]).T if masks else np.ones(agent.gain(*state).shape, bool)


def draw(config: RunConfig, agent: AzopgAgent, inputs: RunInputs) -> Drawn:
    """What a run's mask and workers are to it."""
    settings = agent_settings(config, AzopgConfig)
    mask = mask_of(agent, agent.init(key_of(0), inputs))
    found = of_mask(config.env.task, config.width, mask.tobytes(), settings.target)
    simulated = settings.clock == "simulated"
    events = arrivals(settings, config.seed, config.interactions) if simulated else ()
    return Drawn(np.float32(found.best), np.float32(found.flow_time), events)


class ZeroOrderState(NamedTuple):
    """Everything one run needs to go on."""

    agent: AzopgState
    held: Any
    """The parameters that workers estimate at, each leaf ``[slots + 1, …]``."""
    failures: Array
    """int32: estimates that failed so far."""
    reached: Array
    """int32: updates before the target was first met, or :data:`NEVER`."""
    learning_rate: Array
    key: Array
    """The run's key: never drawn from; its children are named in :class:`Streams`."""
    drawn: Any
    """As of the inputs; never on disk."""


class ZeroOrderLoop(NamedTuple):
    """A run's static parts. All methods are pure."""

    config: RunConfig
    env: Env
    agent: AzopgAgent

    @property
    def settings(self) -> AzopgConfig:
        """The agent's settings."""
        return agent_settings(self.config, AzopgConfig)

    def init(self, inputs: RunInputs) -> ZeroOrderState:
        """The state before the first estimate: every worker has K = 0."""
        key = key_of(inputs.seed)
        agent = self.agent.init(jax.random.fold_in(key, Streams.AGENT), inputs)
        slots = self.settings.slots + 1
        return ZeroOrderState(
            agent=agent,
            held=jax.tree.map(lambda x: jnp.tile(x, (slots,) + (1,) * x.ndim), agent.params),
            failures=jnp.int32(0),
            reached=jnp.int32(NEVER),
            learning_rate=jnp.asarray(inputs.learning_rate, jnp.float32),
            key=key,
            drawn=inputs.drawn,
        )

    def to_disk(self, state: ZeroOrderState) -> Arrays:
        """Everything the run needs to go on, named, on the host."""
        return to_arrays(state._replace(drawn=()))

    def from_disk(self, arrays: Arrays, inputs: RunInputs) -> ZeroOrderState:
        """The state that :meth:`to_disk` wrote.

        Raises:
            CheckpointError: it is not the state of such a run.
        """
        like = jax.eval_shape(self.init, inputs._replace(drawn=()))
        read: ZeroOrderState = from_arrays(like, arrays)
        return read._replace(drawn=jax.tree.map(jnp.asarray, inputs.drawn))

    def trained(self, state: Any) -> Arrays:
        """The gain as stored, and where its entries are."""
        return to_arrays(
            {
                "parameters": self.agent.parameters(state.agent),
                "supports": self.agent.supports(state.agent),
            }
        )

    @property
    def plant(self) -> plants.Plant:
        return plant_of(self.config)

    def gap(self, now: Array, best: Array) -> Array:
        """The share of the cost that is left: (J(K) − J°) / (J(0) − J°), J° the mask's optimum."""
        return (now - best) / (known(self.config.env.task, self.config.width).start - best)

    def step(self, i: Array, state: ZeroOrderState) -> tuple[ZeroOrderState, Array]:
        """Apply the estimate that arrives as number i: the new state, and the estimate's norm.

        The exact cost of the gain before it is found beside the costs of the perturbed gains.
        """
        agent, supports, events = state.agent, state.agent.supports, state.drawn.arrivals
        key = jax.random.fold_in(jax.random.fold_in(state.key, Streams.INTERACTION), i)
        at = jax.tree.map(lambda held: held[events.reads[i]], state.held)
        probe = self.agent.probe(at, supports, key)
        gains = jnp.concatenate([probe.gains, self.agent.gain(*agent)[None]])
        p, settles = jax.vmap(lambda gain: lqr.cost_matrix(self.plant, gain))(gains)
        found = self.agent.estimate(supports, probe, p[:-1], settles[:-1])
        # The gain that is told to workers: of a synchronous round, only the last.
        told = (i == 0) | (events.writes[i - 1] < self.settings.slots)
        met = settles[-1] & (self.gap(jnp.trace(p[-1]), state.drawn.best) <= self.settings.target)
        rate = state.learning_rate
        if self.settings.learning_rate_over == "free_entries":
            rate = rate / self.agent.free_entries(*agent)
        params = jax.tree.map(lambda p, g: p - rate * g, agent.params, found.gradient)
        held = jax.tree.map(lambda held, new: held.at[events.writes[i]].set(new), state.held, params)
        state = state._replace(
            agent=agent._replace(params=params),
            held=held,
            failures=state.failures + found.failed,
            reached=jnp.minimum(state.reached, jnp.where(told & met, i, NEVER)),
        )
        return state, global_norm(found.gradient)

    def chunk(self, first: Array, state: ZeroOrderState) -> tuple[ZeroOrderState, Metrics]:
        """Apply the estimates from number ``first`` to the next log point: the new state, and a row."""
        count = self.config.log_every // self.config.frames_per_interaction

        def one(i: Array, carry: tuple[ZeroOrderState, Array]) -> tuple[ZeroOrderState, Array]:
            state, norm = self.step(i, carry[0])
            return state, carry[1] + norm

        start = jnp.asarray(first, jnp.int32)
        state, norms = jax.lax.fori_loop(start, start + count, one, (state, jnp.float32(0)))
        events: Arrivals = state.drawn.arrivals
        delays = jax.lax.dynamic_slice_in_dim(events.delay, start, count)
        reached = state.reached < NEVER
        when = jnp.where(state.reached > 0, events.time[state.reached - 1], 0.0)
        return state, self.row(state) | {
            "grad_norm/actor": norms / count,
            "updates_in_chunk": jnp.float32(count),
            "clock_time": events.time[start + count - 1],
            "delay_mean": jnp.mean(delays.astype(jnp.float32)),
            "time_to_target": jnp.where(reached, when, jnp.inf),
            "updates_to_target": jnp.where(reached, state.reached.astype(jnp.float32), jnp.inf),
        }

    def row(self, state: Any) -> Metrics:
        """What a log point says of a gain, whatever the clock."""
        best = state.drawn.best
        optimum = known(self.config.env.task, self.config.width).best
        now = lqr.cost(self.plant, self.agent.gain(*state.agent))
        found = unconnected(self.agent.wiring["actor"], *state.agent)
        return {
            "loss/actor": now,
            "cost_gap": self.gap(now, best),
            "structural_gap": best / optimum - 1.0,
            "flow_time": state.drawn.flow_time,
            "free_entries": self.agent.free_entries(*state.agent),
            "failures": state.failures.astype(jnp.float32),
            "param_norm/actor": global_norm(state.agent.params),
            "unread_inputs/actor": ratio(found.unread, found.inputs),
            "disconnected_ratio/actor": ratio(found.cut_off, found.units),
        }

    def evaluate(self, interactions: Array, state: Any) -> Metrics:
        """The exact return −x0ᵀPx0 over x0 ~ N(0, I): mean −tr P, variance 2 tr P²."""
        p, settles = lqr.cost_matrix(self.plant, self.agent.gain(*state.agent))
        return {
            "return_mean": jnp.where(settles, -jnp.trace(p), -jnp.inf),
            "return_std": jnp.where(settles, jnp.sqrt(2.0 * jnp.sum(p * p)), jnp.inf),
        }

    def workload(self, state: Any) -> Workload:
        """One update per estimate."""
        return Workload(self.config.interactions, 1, 1, replay=(), rollout=())

    def describe(self) -> str:
        """Estimator and clock."""
        return f"{self.settings.estimator} estimates, simulated clock"
