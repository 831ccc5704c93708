"""What an off-policy loop does with its replay buffer, wherever experience was collected: when it
learns, from which keys, and what it tells.

Nothing here steps an environment.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.agents import Metrics, OffPolicyAgent, RecallingAgent, RunInputs, Streams
from sparse_rl.envs import Spec, vector
from sparse_rl.experience import Buffer
from sparse_rl.experience import normaliser as norm
from sparse_rl.kernels.keys import key_of
from sparse_rl.loops.contract import Workload
from sparse_rl.records.checkpoints import Arrays, CheckpointError, from_arrays, to_arrays
from sparse_rl.settings.off_policy import ReplayConfig
from sparse_rl.settings.run import RunConfig, agent_settings


class RunState(NamedTuple):
    """Everything one run needs to go on."""

    agent: Any
    normaliser: norm.Normaliser
    replay: Any
    """What the agent's buffer holds."""
    envs: Any
    """:class:`~sparse_rl.envs.vector.VectorState`; nothing where they are on the host; of teams with
    what their actors remember."""
    key: Array
    """The run's key: never drawn from; its children are named in :class:`Streams`."""


class InteractionKeys(NamedTuple):
    """Where one interaction's draws come from."""

    act: Array
    env: Array
    learn: Array


def interaction_keys(key: Array, interaction: Any) -> InteractionKeys:
    """Every key of one interaction, from the run's; update i draws from ``fold_in(keys.learn, i)``.

    One split makes all three: ``split(k)[1]`` and ``fold_in(k, 1)`` are the same key.
    """
    parent = jax.random.fold_in(key, Streams.INTERACTION)
    act, env, learn = jax.random.split(jax.random.fold_in(parent, interaction), 3)
    return InteractionKeys(act, env, learn)


class Schedule(NamedTuple):
    """When a run learns."""

    random_interactions: int
    """Interactions with random actions and no update; at most a tenth of a short run."""
    updates: int
    interactions: int
    """So many updates in so many interactions."""

    def updates_by(self, interaction: Any) -> Any:
        """Updates before an interaction: ⌊learning interactions · ratio⌋."""
        since = interaction - self.random_interactions
        whole, rest = since // self.interactions, since % self.interactions
        return whole * self.updates + rest * self.updates // self.interactions

    def updates_due(self, interaction: Any) -> Any:
        """Updates that follow an interaction, so that k interactions bring ⌊k · ratio⌋ in all."""
        due = self.updates_by(interaction + 1) - self.updates_by(interaction)
        return due * (interaction >= self.random_interactions)


def schedule_of(config: RunConfig) -> Schedule:
    """When a run of this configuration learns."""
    settings = agent_settings(config, ReplayConfig)
    ratio = settings.updates_ratio
    return Schedule(settings.random_of(config.interactions), ratio.numerator, ratio.denominator)


class Totals(NamedTuple):
    """Sums over a chunk, from which its means are made."""

    metrics: Metrics
    updates: Array
    finished_return: Array
    finished: Array

    def row(self) -> Metrics:
        """Means over the chunk's updates and finished episodes."""
        updates = self.updates.astype(jnp.float32)
        return {
            **{name: total / updates for name, total in self.metrics.items()},
            "updates_in_chunk": updates,
            "train_return_mean": self.finished_return / self.finished,
        }


Interact = Callable[[RunState, Array, InteractionKeys], tuple[RunState, vector.VectorStep]]


class Replaying(NamedTuple):
    """A run's static parts, without its environment. All methods are pure."""

    config: RunConfig
    spec: Spec
    """Of the environment."""
    agent: OffPolicyAgent | RecallingAgent

    @property
    def settings(self) -> ReplayConfig:
        """The agent's settings."""
        return agent_settings(self.config, ReplayConfig)

    @property
    def schedule(self) -> Schedule:
        """When it learns."""
        return schedule_of(self.config)

    @property
    def buffer(self) -> Buffer:
        """Where experience is kept."""
        return self.agent.buffer(self.spec, self.settings.num_envs)

    @property
    def _normalised(self) -> int:
        """Numbers of an observation that are normalised: of a picture none."""
        seen = self.settings.NORMALISED and not self.spec.picture
        return self.spec.observation_size if seen else 0

    def init(self, inputs: RunInputs, envs: Any) -> RunState:
        """The state before anything was seen, with these environments."""
        key = key_of(inputs.seed)
        capacity = min(self.settings.replay_size, self.config.interactions * self.settings.num_envs)
        return RunState(
            agent=self.agent.init(jax.random.fold_in(key, Streams.AGENT), inputs),
            normaliser=norm.init(self._normalised),
            replay=self.buffer.init(capacity),
            envs=envs,
            key=key,
        )

    def watch(self, normaliser: norm.Normaliser, observation: Array) -> norm.Normaliser:
        """Take observations into the statistics that normalise."""
        return norm.update(normaliser, observation[:, : self._normalised])

    def see(self, normaliser: norm.Normaliser, observation: Array) -> Array:
        """Observations as the agent reads them."""
        return norm.normalise(normaliser, observation) if self._normalised else observation

    @property
    def acting(self) -> OffPolicyAgent:
        """The agent, where it acts on observations alone."""
        assert isinstance(self.agent, OffPolicyAgent)
        return self.agent

    def act(self, agent: Any, observation: Array, interaction: Any, key: Array) -> Array:
        """The agent's actions for normalised ``[n, o]``; random ones at first."""
        shape = (observation.shape[0], self.spec.action_size)
        action: Array = jax.lax.cond(
            interaction < self.schedule.random_interactions,
            lambda: jax.random.uniform(key, shape, minval=-1.0, maxval=1.0),
            lambda: self.acting.act(agent, observation, key),
        )
        return action

    def act_greedily(self, state: RunState, observation: Array) -> Array:
        """The deterministic policy's actions: ``[n, o]`` → ``[n, a]``."""
        return self.acting.act_greedily(state.agent, self.see(state.normaliser, observation))

    def batch(self, state: RunState, key: Array, size: int) -> Any:
        """A batch from the replay buffer, as the agent reads it."""
        batch = self.buffer.sample(state.replay, key, size)
        if not self._normalised:
            return batch
        return batch._replace(
            observation=self.see(state.normaliser, batch.observation),
            next_observation=self.see(state.normaliser, batch.next_observation),
        )

    def update(self, state: RunState, key: Array) -> tuple[RunState, Metrics]:
        """One optimiser step on a batch from the replay buffer."""
        key_batch, key_update = jax.random.split(key)
        batch = self.batch(state, key_batch, self.settings.batch_size)
        agent, metrics = self.agent.update(state.agent, batch, key_update)
        return state._replace(agent=agent), metrics

    def _change(self, state: RunState, key: Array, made: Array) -> RunState:
        """What happens to the agent now and then, after so many updates; ``key`` is the last one's."""
        occasional = self.agent.occasional
        if occasional is None:
            return state

        def change(agent: Any) -> Any:
            batch = self.batch(state, jax.random.fold_in(key, 2), self.settings.batch_size)
            return occasional.change(agent, batch, made)

        due = (made % occasional.every == 0) & (made < occasional.total)
        return state._replace(agent=jax.lax.cond(due, change, lambda same: same, state.agent))

    def nothing_learned(self, state: RunState) -> Totals:
        """Sums before the first update."""
        metrics = jax.eval_shape(lambda s: self.update(s, s.key)[1], state)
        zero = jnp.float32(0)
        return Totals(jax.tree.map(lambda _: zero, metrics), jnp.int32(0), zero, zero)

    def learn(
        self, state: RunState, totals: Totals, interaction: Array, key: Array
    ) -> tuple[RunState, Totals]:
        """The updates that follow an interaction; the i-th draws from ``fold_in(key, i)``."""
        schedule = self.schedule
        made = schedule.updates_by(interaction)

        def one_update(i: Array, carry: tuple[RunState, Totals]) -> tuple[RunState, Totals]:
            state, totals = carry
            own = jax.random.fold_in(key, i)
            state, metrics = self.update(state, own)
            state = self._change(state, own, made + i + 1)
            sums = jax.tree.map(jnp.add, totals.metrics, metrics)
            return state, totals._replace(metrics=sums, updates=totals.updates + 1)

        return jax.lax.fori_loop(0, schedule.updates_due(interaction), one_update, (state, totals))

    def chunk(self, interact: Interact, first: Array, state: RunState) -> tuple[RunState, Metrics]:
        """Interact and learn from interaction ``first`` to the next log point.

        Args:
            interact: ``(state, interaction, keys) → (state, what happened)``.
            first: interactions so far.
            state: then.

        Returns:
            The new state, and a row (:meth:`row`).
        """

        def one_interaction(interaction: Array, carry: tuple[RunState, Totals]) -> Any:
            state, totals = carry
            keys = interaction_keys(state.key, interaction)
            state, seen = interact(state, interaction, keys)
            done = (seen.terminated | seen.truncated).astype(jnp.float32)
            totals = totals._replace(
                finished_return=totals.finished_return + jnp.sum(seen.episode_return * done),
                finished=totals.finished + jnp.sum(done),
            )
            return self.learn(state, totals, interaction, keys.learn)

        end = first + self.config.log_every // self.config.frames_per_interaction
        start = (state, self.nothing_learned(state))
        state, totals = jax.lax.fori_loop(first, end, one_interaction, start)
        return state, self.row(state, totals, end)

    def row(self, state: RunState, totals: Totals, interactions: Array) -> Metrics:
        """A chunk's row: means over its updates and finished episodes, and health at its end."""
        key = jax.random.fold_in(jax.random.fold_in(state.key, Streams.PROBE), interactions)
        samples = self.config.diagnostics.samples(self.config.width)
        return self.agent.diagnose(state.agent, self.batch(state, key, samples)) | totals.row()

    def workload(self, state: RunState) -> Workload:
        """⌊learning interactions × updates per interaction⌋ updates, one batch each."""
        updates, size = self.schedule.updates_by(self.config.interactions), self.settings.batch_size
        return Workload(updates, size, size, replay=state.replay, rollout=())

    def describe(self) -> str:
        """How many interactions are random, and what happens now and then."""
        random, preset = self.schedule.random_interactions, self.settings.random_interactions
        shortened = f" (preset {preset:,}; at most a tenth of a run)" if random < preset else ""
        occasional = f"; {self.agent.occasional.said}" if self.agent.occasional else ""
        return f"the first {random:,} interactions random{shortened}{occasional}"


def to_disk(buffer: Buffer, state: RunState) -> Arrays:
    """Everything the run needs to go on, named, on the host."""
    replay = buffer.to_disk(state.replay)
    rest = to_arrays({**state._asdict(), "replay": None})
    return rest | {f"replay/{name}": array for name, array in replay.items()}


def from_disk(buffer: Buffer, arrays: Arrays, like: RunState) -> RunState:
    """The state that :func:`to_disk` wrote; ``like`` has its shapes.

    Raises:
        CheckpointError: it is not such a state.
    """
    rest = from_arrays({**like._asdict(), "replay": None}, arrays)
    held = {name.removeprefix("replay/"): x for name, x in arrays.items() if name.startswith("replay/")}
    try:
        replay = buffer.from_disk(held, like.replay)
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"replay: {error}") from error
    return RunState(**{**rest, "replay": replay})
