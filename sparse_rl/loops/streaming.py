"""The streaming loop: one step of one environment, one update, and nothing is kept of it.

What is done with a transition (:class:`Streaming`) is the same wherever the environment is. Here it is
tensorised, and a chunk (everything between two log points) is one pure function, so one XLA program.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.agents import Happened, Metrics, RunInputs, StreamingAgent, Streams, acting, actions_of
from sparse_rl.envs import Env, Spec, vector
from sparse_rl.experience import normaliser as norm
from sparse_rl.kernels.keys import key_of
from sparse_rl.loops.contract import Workload
from sparse_rl.loops.evaluation import evaluate, evaluation_key
from sparse_rl.loops.replaying import interaction_keys
from sparse_rl.loops.rewards import RewardScale
from sparse_rl.loops.rollout import with_levels_ahead
from sparse_rl.networks import Memory
from sparse_rl.records.checkpoints import Arrays, from_arrays, to_arrays
from sparse_rl.settings.run import RunConfig, agent_settings
from sparse_rl.settings.streaming import StreamingConfig

MEASURED_EVERY = 10
"""Interactions: one of so many is measured, for that costs a forward pass."""
SAMPLE = 1
"""Degrees of freedom that a sample's deviation loses: statistics are a sample's, as published."""


class StreamRun(NamedTuple):
    """Everything one run needs to go on."""

    agent: Any
    normaliser: norm.Normaliser
    """Of observations, each taken in before it is seen."""
    reward_scale: RewardScale
    """Of the discounted return so far, which begins anew with an episode's last reward, as published."""
    elapsed: Array
    """int32: frames of the episode so far."""
    seen: Array
    """float32 ``[1, …]``: what the networks see now, normalised as it was when it came."""
    action: Array
    """What was answered, drawn and not yet given to the environment."""
    envs: Any
    """:class:`~sparse_rl.envs.vector.VectorState`; nothing where they are on the host."""
    key: Array
    """The run's key: never drawn from; its children are named in :class:`Streams`."""


class Told(NamedTuple):
    """What the environment answered an action with; each field ``[1, …]``."""

    successor: Any
    """The true one."""
    observation: Any
    """What comes next: the successor, or what a new episode begins with."""
    reward: Any
    terminated: Any
    truncated: Any


class Totals(NamedTuple):
    """Sums over a chunk, from which its means are made, and what was seen last."""

    metrics: Metrics
    measured: Metrics
    updates: Array
    finished_return: Array
    finished: Array
    probe: Array
    """float32 ``[samples, …]``: the chunk's last observations, as the networks saw them."""

    def row(self) -> Metrics:
        """Means over the chunk's updates, those of them that were measured, and finished episodes.

        A share of a TD error is defined where there is one.
        """
        updates = self.updates.astype(jnp.float32)
        measured = dict(self.measured)
        told, often = measured.pop("td_errors"), measured.pop("measured")
        return {
            **{name: total / updates for name, total in self.metrics.items()},
            "td_error_removed": measured.pop("td_error_removed") / told,
            **{name: total / often for name, total in measured.items()},
            "updates_in_chunk": updates,
            "train_return_mean": self.finished_return / self.finished,
        }


class Streaming(NamedTuple):
    """A run's static parts, without its environment. All methods are pure."""

    config: RunConfig
    spec: Spec
    """Of the environment."""
    agent: StreamingAgent

    @property
    def settings(self) -> StreamingConfig:
        """The agent's settings."""
        return agent_settings(self.config, StreamingConfig)

    @property
    def interactions_per_chunk(self) -> int:
        return self.config.log_every // self.config.frames_per_interaction

    @property
    def probed(self) -> int:
        """Of a chunk's last observations, how many the networks' health is measured on."""
        wanted = self.config.diagnostics.samples(self.config.width)
        return min(wanted, self.interactions_per_chunk)

    def init(self, inputs: RunInputs, envs: Any) -> StreamRun:
        """The state before anything was seen, with these environments."""
        key, size = key_of(inputs.seed), self.spec.observation_size
        shape = (1,) if self.spec.discrete else (1, self.spec.action_size)
        return StreamRun(
            agent=self.agent.init(jax.random.fold_in(key, Streams.AGENT), inputs),
            normaliser=norm.init(size if self.settings.normalise_observations else 0),
            reward_scale=RewardScale(jnp.zeros(1), norm.init(1)),
            elapsed=jnp.int32(0),
            seen=jnp.zeros((1, size + self.settings.time_feature)),
            action=jnp.zeros(shape, jnp.int32 if self.spec.discrete else jnp.float32),
            envs=envs,
            key=key,
        )

    def begin(self, state: StreamRun, observation: Array) -> StreamRun:
        """See a run's first observation, and answer it."""
        state = self.watch(state, observation)
        seen = self.see(state.normaliser, observation, state.elapsed)
        return self.answer(state._replace(seen=seen), jnp.int32(0))

    def watch(self, state: StreamRun, observation: Array) -> StreamRun:
        """Take an observation into the statistics that normalise."""
        if not self.settings.normalise_observations:
            return state
        numbers = observation.astype(jnp.float32)
        return state._replace(normaliser=norm.update(state.normaliser, numbers))

    def see(self, normaliser: norm.Normaliser, observation: Array, elapsed: Array) -> Array:
        """Observations ``[n, o]`` as the networks read them: normalised, and the share of the time limit
        that is over beside them, from −½ on.

        Args:
            normaliser: the statistics.
            observation: as the environment gave it.
            elapsed: int32, or ``[n]``: frames of the episode.
        """
        seen = observation.astype(jnp.float32)
        if self.settings.normalise_observations:
            seen = norm.normalise(normaliser, seen, SAMPLE)
        if not self.settings.time_feature:
            return seen
        over = elapsed.astype(jnp.float32) / self.spec.episode_length - 0.5
        return jnp.concatenate([seen, jnp.broadcast_to(over[..., None], (len(seen), 1))], axis=1)

    def answer(self, state: StreamRun, interaction: Array) -> StreamRun:
        """Draw the action of an interaction."""
        progress = interaction.astype(jnp.float32) / self.config.interactions
        key = interaction_keys(state.key, interaction).act
        return state._replace(action=self.agent.act(state.agent, state.seen, progress, key))

    def _reward(self, scale: RewardScale, told: Told, ended: Array) -> tuple[RewardScale, Array]:
        """The statistics after a reward, and the reward to learn from, ``[1]``."""
        reward = jnp.asarray(told.reward, jnp.float32)
        if not self.settings.normalise_rewards:
            return scale, reward
        running = self.settings.discount * jnp.where(ended, 0.0, scale.running) + reward
        statistics = norm.update(scale.statistics, running[:, None])
        return RewardScale(running, statistics), reward / norm.deviation(statistics, SAMPLE)

    def learn(
        self, state: StreamRun, totals: Totals, told: Told, interaction: Array
    ) -> tuple[StreamRun, Totals]:
        """Learn from what an action brought, see what comes next, and answer that."""
        ended = told.terminated | told.truncated
        elapsed = jnp.minimum(state.elapsed + self.config.env.action_repeat, self.spec.episode_length)
        state = self.watch(state, told.successor)
        following = self.see(state.normaliser, told.successor, elapsed)
        scale, reward = self._reward(state.reward_scale, told, ended)
        happened = Happened(state.seen, state.action, reward, following, told.terminated, ended)
        measured = interaction % MEASURED_EVERY == MEASURED_EVERY - 1
        agent, metrics, found = self.agent.update(state.agent, happened, measured)
        totals = self._add(totals, state.seen, interaction, metrics, found, measured)
        state = state._replace(agent=agent, reward_scale=scale)

        def go_on() -> tuple[norm.Normaliser, Array]:
            return state.normaliser, following

        def anew() -> tuple[norm.Normaliser, Array]:
            now = self.watch(state, told.observation).normaliser
            return now, self.see(now, told.observation, jnp.int32(0))

        normaliser, seen = jax.lax.cond(ended[0], anew, go_on)
        elapsed = jnp.where(ended[0], 0, elapsed)
        state = state._replace(normaliser=normaliser, seen=seen, elapsed=elapsed)
        return self.answer(state, interaction + 1), totals

    def _add(
        self, totals: Totals, seen: Array, interaction: Array, metrics: Metrics, found: Metrics,
        measured: Array,
    ) -> Totals:  # fmt: skip
        """The sums with those of one more update."""
        found = found | {"measured": measured.astype(jnp.float32)}
        place = interaction % self.probed
        return totals._replace(
            metrics=jax.tree.map(jnp.add, totals.metrics, metrics),
            measured=jax.tree.map(jnp.add, totals.measured, found),
            updates=totals.updates + 1,
            probe=jax.lax.dynamic_update_slice_in_dim(totals.probe, seen, place, 0),
        )

    def nothing_learned(self, state: StreamRun) -> Totals:
        """Sums before a chunk's first update."""

        def learn(state: StreamRun) -> tuple[Metrics, Metrics]:
            flag = jnp.zeros(1, bool)
            happened = Happened(state.seen, state.action, jnp.zeros(1), state.seen, flag, flag)
            return self.agent.update(state.agent, happened, flag[0])[1:]

        zero = jnp.float32(0)
        metrics, found = jax.tree.map(lambda _: zero, jax.eval_shape(learn, state))
        probe = jnp.zeros((self.probed, state.seen.shape[1]))
        return Totals(metrics, found | {"measured": zero}, jnp.int32(0), zero, zero, probe)

    def act_greedily(self, state: StreamRun, observation: Array, elapsed: Array) -> Array:
        """The deterministic policy's actions, within their range: ``[n, o]`` → n actions."""
        seen = self.see(state.normaliser, observation, elapsed)
        return actions_of(self.spec).to_env(self.agent.act_greedily(state.agent, seen))

    def row(self, state: StreamRun, totals: Totals) -> Metrics:
        """A chunk's row of float32 scalars (:meth:`Totals.row`), and health at its end."""
        return self.agent.diagnose(state.agent, totals.probe) | totals.row()

    def workload(self) -> Workload:
        """One update on one sample for each interaction."""
        return Workload(self.config.interactions, 1, 1, replay=(), rollout=())

    def describe(self) -> str:
        """By which rule it steps."""
        return f"one update on each interaction, by {self.settings.step_rule}"


class StreamingLoop(NamedTuple):
    """A run's static parts. All methods are pure."""

    config: RunConfig
    env: Env
    agent: StreamingAgent

    @property
    def streaming(self) -> Streaming:
        """What is done with a transition."""
        return Streaming(self.config, self.env, self.agent)

    def init(self, inputs: RunInputs) -> StreamRun:
        """The state before the first interaction, which is answered already."""
        key = jax.random.fold_in(key_of(inputs.seed), Streams.ENV)
        envs = vector.reset(self.env, key, 1)
        return self.streaming.begin(self.streaming.init(inputs, envs), envs.observation)

    def to_disk(self, state: StreamRun) -> Arrays:
        """Everything the run needs to go on, named, on the host."""
        return to_arrays(state)

    def from_disk(self, arrays: Arrays, inputs: RunInputs) -> StreamRun:
        """The state that :meth:`to_disk` wrote.

        Raises:
            CheckpointError: it is not the state of such a run.
        """
        return from_arrays(jax.eval_shape(self.init, inputs), arrays)

    def trained(self, state: StreamRun) -> Arrays:
        """What acting and evaluating needs: parameters as stored, supports, the normaliser."""
        return to_arrays(acting(self.agent, state))

    def interact(self, state: StreamRun, totals: Totals, interaction: Array) -> tuple[StreamRun, Totals]:
        """Give the environment its action, and learn from what it brings."""
        before = with_levels_ahead(self.env, state.key, interaction, state.envs)
        key, given = interaction_keys(state.key, interaction).env, actions_of(self.env)
        repeat = self.config.env.action_repeat
        envs, step = vector.step(self.env, key, before, given.to_env(state.action), repeat)
        told = Told(
            step.next_observation, envs.observation, step.reward, step.terminated, step.truncated
        )
        done = (step.terminated | step.truncated).astype(jnp.float32)
        totals = totals._replace(
            finished_return=totals.finished_return + jnp.sum(step.episode_return * done),
            finished=totals.finished + jnp.sum(done),
        )
        return self.streaming.learn(state._replace(envs=envs), totals, told, interaction)

    def chunk(self, first: Array, state: StreamRun) -> tuple[StreamRun, Metrics]:
        """Interact and learn from interaction ``first`` to the next log point.

        Returns:
            The new state, and a row (:meth:`Streaming.row`).
        """

        def one(interaction: Array, carry: tuple[StreamRun, Totals]) -> tuple[StreamRun, Totals]:
            return self.interact(*carry, interaction)

        streaming = self.streaming
        first = jnp.asarray(first, jnp.int32)
        start = (state, streaming.nothing_learned(state))
        end = first + streaming.interactions_per_chunk
        state, totals = jax.lax.fori_loop(first, end, one, start)
        return state, streaming.row(state, totals)

    def evaluate(self, interactions: Array, state: StreamRun) -> Metrics:
        """Whole episodes with the deterministic policy, in fresh environments."""

        def act(envs: vector.VectorState, memory: Memory, key: Array) -> tuple[Array, Memory]:
            del key
            return self.streaming.act_greedily(state, envs.observation, envs.elapsed), memory

        return evaluate(self.config, self.env, act, evaluation_key(state.key, interactions))

    def workload(self, state: StreamRun) -> Workload:
        """Counted from the configuration."""
        del state
        return self.streaming.workload()

    def describe(self) -> str:
        """How it learns."""
        return self.streaming.describe()
