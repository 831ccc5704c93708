"""What an on-policy loop does with a rollout, wherever it was collected: advantage, loss, update.

Nothing here knows an environment. A *learner's state* is any NamedTuple with the fields ``agent``,
``normaliser``, ``reward_scale``, ``memory`` and ``key``; a loop's own has its environments beside them.
"""

import math
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.agents import (
    Experience,
    Learned,
    Memories,
    Metrics,
    OnPolicyAgent,
    RunInputs,
    Streams,
    View,
    acting,
    ordered,
)
from sparse_rl.envs import Spec
from sparse_rl.experience import advantages, means
from sparse_rl.experience import normaliser as norm
from sparse_rl.kernels.keys import key_of
from sparse_rl.loops.contract import Workload
from sparse_rl.loops.explaining import explained
from sparse_rl.loops.rewards import RewardScale, scaled, shaped, take_rewards
from sparse_rl.loops.rollout import (
    Rollout,
    ended,
    final_values,
    first_steps,
    flat,
    pieces,
    successor_values,
)
from sparse_rl.loops.seeing import counted, normalised
from sparse_rl.networks import Memory, before, forget
from sparse_rl.records.checkpoints import Arrays, to_arrays
from sparse_rl.settings.on_policy import OnPolicyConfig
from sparse_rl.settings.run import RunConfig, agent_settings


class Sums(Protocol):
    """What is summed over a chunk: a pytree of numbers."""

    def row(self) -> Metrics:
        """What is made of the sums."""


class Totals(NamedTuple):
    """Sums over a chunk, from which its means are made."""

    learned: Learned
    explained_variance: Array
    """Of the rollouts in which it is defined."""
    explained: Array
    """How many these are."""
    finished_return: Array
    finished: Array

    def row(self) -> Metrics:
        """Means over the chunk's updates, its rollouts and its finished episodes."""
        updates = self.learned.updates.astype(jnp.float32)
        return {
            **{name: total / updates for name, total in self.learned.metrics.items()},
            "explained_variance": self.explained_variance / self.explained,
            "updates_in_chunk": updates,
            "train_return_mean": self.finished_return / self.finished,
        }


def iteration_keys(key: Array, iteration: Any) -> Array:
    """The two keys of an iteration, from the run's: its rollout's and its update's."""
    parent = jax.random.fold_in(key, Streams.INTERACTION)
    return jax.random.split(jax.random.fold_in(parent, iteration))


class LearnerState(NamedTuple):
    """What a learner needs to go on, wherever its actors are."""

    agent: Any
    normaliser: norm.Normaliser
    reward_scale: RewardScale
    memory: Memories
    """Of its actors."""
    key: Array
    """The run's key: never drawn from; its children are named in :class:`Streams`."""


class Seen(NamedTuple):
    """What actors saw, and what they remembered before; each field ``[n, …]``."""

    view: View
    """As the environment gave it."""
    memories: Memories


class Valued(NamedTuple):
    """What the critic says of a rollout."""

    values: Array
    """float32 ``[T, N]``: V(s)."""
    successors: Array
    """float32 ``[T, N]``: V(s')."""
    memory: Memory
    """``[N, M]``: with which the next rollout begins."""
    before: Memory
    """``[T, N, M]``: before each step."""
    first: Array
    """bool ``[T, N]``: where an episode begins."""
    acts: Array | None = None
    """float32 ``[T, N]``: whether the actor acts in the step after; ``None``: all do."""


def advantages_of(settings: OnPolicyConfig, valued: Valued, rollout: Rollout, rewards: Array) -> Array:
    """Generalised advantage estimates of these rewards, float32 ``[T, N]``."""
    return advantages(
        rewards,
        valued.values,
        valued.successors,
        rollout.terminated,
        rollout.truncated,
        discount=settings.discount,
        gae_lambda=settings.gae_lambda,
        acts=valued.acts,
    )


def acting_next(rollout: Rollout, last: View) -> Array | None:
    """Whether each actor acts in the step after, float32 ``[T, N]``; ``None``: all do.

    Args:
        rollout: T steps.
        last: what the actors see after it.
    """
    if rollout.view.weight is None:
        return None
    assert last.weight is not None
    return jnp.concatenate([rollout.view.weight[1:], last.weight[None]])


def probed_samples(key: Array, view: View, together: int, wanted: int) -> Array:
    """Which of many samples are probed: int32 ``[wanted]``, of those who act. Where agents do not share
    their networks all are, for each is probed on what its own agents saw.

    Args:
        key: of the order.
        view: of the samples.
        together: samples in a row that stay so.
        wanted: how many suffice.
    """
    order = ordered(key, len(view.observation), together)
    if together > 1:
        return order
    return (order if view.weight is None else means.first_of(order, view.weight))[:wanted]


class Learning(NamedTuple):
    """A run's static parts, without its environment. All methods are pure."""

    config: RunConfig
    agent: OnPolicyAgent

    @property
    def settings(self) -> OnPolicyConfig:
        """The agent's settings."""
        return agent_settings(self.config, OnPolicyConfig)

    @property
    def samples_per_rollout(self) -> int:
        return self.agent.actors * self.settings.num_steps

    @property
    def iterations(self) -> int:
        """Rollouts in the whole run."""
        return self.config.env_steps // self.config.frames_per_round

    @property
    def iterations_per_chunk(self) -> int:
        return self.config.log_every // self.config.frames_per_round

    @property
    def probed(self) -> int:
        """The chunk's last rollouts, on what they saw the networks' health is measured."""
        wanted = self.config.diagnostics.samples(self.config.width)
        return min(math.ceil(wanted / self.samples_per_rollout), self.iterations_per_chunk)

    def init(self, inputs: RunInputs, env: Spec) -> dict[str, Any]:
        """The fields of a learner's state before the first interaction. What a central critic sees has
        its statistics after those of what the agents see; names have none."""
        sizes = [env.observation_size, *([] if env.critic_size is None else [env.critic_size])]
        key = key_of(inputs.seed)
        return {
            "agent": self.agent.init(jax.random.fold_in(key, Streams.AGENT), inputs),
            "normaliser": norm.init(sum(size - env.names for size in sizes)),
            "reward_scale": RewardScale(jnp.zeros(self.agent.actors), norm.init(1)),
            "memory": self.agent.begin(self.agent.actors),
            "key": key,
        }

    def trained(self, state: Any) -> Arrays:
        """What acting and evaluating needs: parameters as stored, supports, the normaliser."""
        return to_arrays(acting(self.agent, state))

    def see(self, state: Any, view: View) -> View:
        """A view as the networks see it."""
        if not self.settings.normalise_observations:
            return view
        return normalised(state.normaliser, view, self.agent.names)

    def rewards(self, state: Any, rollout: Rollout, iteration: Array) -> tuple[RewardScale, Array]:
        """The statistics after a rollout, and the rewards to learn from, float32 ``[T, N]``."""
        settings, scale = self.settings, state.reward_scale
        env_steps = jnp.float32(self.config.frames_per_round) * iteration
        rewards = shaped(self.config.env, rollout, env_steps)
        if self.agent.share != 1.0:
            rewards = rewards * self.agent.share
        if settings.normalise_rewards:
            scale = take_rewards(scale, rollout, rewards, settings.discount)
        return scale, scaled(settings, scale, rewards)

    @property
    def remembers(self) -> bool:
        """Whether its networks carry anything from step to step."""
        return self.settings.memory != "none"

    @property
    def sequence_length(self) -> int:
        """Steps in a row of a piece of experience, for networks that remember."""
        return self.settings.sequence_length or self.settings.num_steps

    def value(self, state: Any, views: View, last: View, rollout: Rollout) -> Valued:
        """What the critic says of a rollout, of what is seen after it, and of what was seen where time
        ran out: there with the memory that was there, for the episode that ended.

        Args:
            state: with which the rollout was collected.
            views: flat, as the networks see them.
            last: what the actors see after it.
            rollout: T interactions of N actors.
        """
        value, first, start = self.agent.value(state.agent), first_steps(rollout), state.memory.valuing
        values, after = self.agent.values(state.agent)(views, first, start)
        over = jax.tree.map(lambda x: x[-1], after)
        memory = forget(over, ended(rollout)[-1])
        finals = rollout.final_value
        if rollout.final_view is not None:
            finals = final_values(
                lambda view, memory: value(self.see(state, view), memory),
                rollout.final_view,
                rollout.truncated,
                after,
            )
        assert finals is not None
        successors = successor_values(rollout, values, value(self.see(state, last), memory), finals)
        # where values are summed, all of a team look equally far ahead
        acts = acting_next(rollout, last) if self.agent.summed == 1 else None
        return Valued(values, successors, memory, before(start, after, first), first, acts)

    def experience(
        self, state: Any, views: View, valued: Valued, rollout: Rollout, rewards: Array
    ) -> Experience:
        """What there is to learn from a rollout: values, advantages and targets beside its samples.

        Args:
            state: with which the rollout was collected.
            views: flat, as the networks see them.
            valued: what the critic says.
            rollout: T interactions of N actors.
            rewards: float32 ``[T, N]``: of :meth:`rewards`.
        """
        advantage = advantages_of(self.settings, valued, rollout, rewards)
        rest = (
            rollout.action, rollout.log_prob, valued.values, advantage, advantage + valued.values,
        )  # fmt: skip
        if not self.remembers:
            return Experience(views, *flat(rest))
        length, shape = self.sequence_length, rollout.reward.shape
        by_time = jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), views)
        memories = Memories(rollout.memory, valued.before)
        samples = Experience(*pieces((by_time, *rest), length))
        begun = flat(jax.tree.map(lambda x: x[::length], memories))
        return samples._replace(first=pieces(valued.first, length), memory=begun)

    def learn(
        self, state: Any, last: View, rollout: Rollout, iteration: Array, key: Array
    ) -> tuple[Any, Totals, Seen]:
        """One update on a rollout: the new state, what came of it, what was seen ``[T·N]``."""
        valued = self.value(state, self.see(state, flat(rollout.view)), last, rollout)
        return self.learn_valued(state, valued, rollout, iteration, key)

    def learn_valued(
        self, state: Any, valued: Valued, rollout: Rollout, iteration: Array, key: Array
    ) -> tuple[Any, Totals, Seen]:
        """The same once the critic was asked. The statistics that normalise take the rollout in after it
        was learned from: policy and value are compared on exactly the inputs on which they acted."""
        scale, rewards = self.rewards(state, rollout, iteration)
        seen = self.see(state, flat(rollout.view))
        experience = self.experience(state, seen, valued, rollout, rewards)
        progress = iteration.astype(jnp.float32) / self.iterations
        agent, learned = self.agent.update(state.agent, experience, progress, key)
        views = flat(rollout.view)
        normaliser = state.normaliser
        if self.settings.normalise_observations:
            normaliser = norm.update(normaliser, counted(views, self.agent.names), views.weight)
        done = ended(rollout).astype(jnp.float32)
        share = explained(experience, self.agent.summed)
        known = jnp.isfinite(share)
        totals = Totals(
            learned,
            jnp.where(known, share, 0.0),
            known.astype(jnp.float32),
            jnp.sum(rollout.episode_return * done),
            jnp.sum(done),
        )
        memory = state.memory._replace(valuing=valued.memory)
        state = state._replace(agent=agent, normaliser=normaliser, reward_scale=scale, memory=memory)
        return state, totals, Seen(views, Memories(*flat((rollout.memory, valued.before))))

    def row(self, state: Any, totals: Sums, probe: Seen, end: Array) -> Metrics:
        """A chunk's row of float32 scalars: means over its updates, rollouts and finished episodes, and
        the health of the networks at its end.

        Args:
            state: at the chunk's end.
            totals: the chunk's sums.
            probe: what its last :attr:`probed` rollouts saw.
            end: iterations so far.
        """
        key = jax.random.fold_in(jax.random.fold_in(state.key, Streams.PROBE), end)
        wanted = self.config.diagnostics.samples(self.config.width)
        chosen = probed_samples(key, probe.view, self.agent.together, wanted)
        view, memories = jax.tree.map(lambda x: x[chosen], probe)
        health = self.agent.diagnose(state.agent, self.see(state, view), memories)
        return health | totals.row()

    def workload(self, rollout: Any) -> Workload:
        """As many updates as if none were left out (PPO may stop an update early).

        Args:
            rollout: shapes of a rollout.
        """
        updates = self.iterations * self.agent.updates_per_rollout
        sizes = (self.agent.batch_size, self.samples_per_rollout)
        return Workload(updates, *sizes, replay=(), rollout=rollout, samples=self.agent.samples)

    def describe(self) -> str:
        """The shape of rollouts, and what is made of each."""
        updates, size = self.agent.updates_per_rollout, self.agent.batch_size
        return (
            f"rollouts of {self.agent.actors:,} × {self.settings.num_steps:,} interactions, "
            f"{updates:,} updates on {size:,} samples after each"
        )
