"""The on-policy loop on tensorised environments: rollout, advantage, loss, update.

It sees a batch of actors and nothing else: copies of an environment here, elsewhere levels or the agents
of a team. A chunk (everything between two log points) is one pure function, so one XLA program.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.agents import normaliser as norm
from sparse_rl.agents.actions import actions_of
from sparse_rl.agents.advantage import advantages
from sparse_rl.agents.contract import (
    Experience,
    Learned,
    Metrics,
    OnPolicyAgent,
    RunInputs,
    Streams,
    View,
    Workload,
)
from sparse_rl.agents.evaluation import evaluate, evaluation_key
from sparse_rl.agents.rollout import Behaviour, Rollout, collect, flat, successor_values, view_of
from sparse_rl.checkpoints import Arrays, from_arrays, to_arrays
from sparse_rl.config import OnPolicyConfig, RunConfig, agent_settings
from sparse_rl.envs import Env, vector


class RewardScale(NamedTuple):
    """Statistics of discounted returns, by whose deviation rewards may be divided."""

    running: Array
    """float32 ``[N]``: Σ γ^k r over each actor's episode so far."""
    statistics: norm.Normaliser
    """Of that number, over all actors and steps."""


class OnPolicyState(NamedTuple):
    """Everything one run needs to go on."""

    agent: Any
    normaliser: norm.Normaliser
    reward_scale: RewardScale
    envs: vector.VectorState
    key: Array
    """The run's key: never drawn from; its children are named in :class:`Streams`."""


class _Totals(NamedTuple):
    """Sums over a chunk, from which its means are made."""

    learned: Learned
    explained_variance: Array
    finished_return: Array
    finished: Array


def take_rewards(scale: RewardScale, rollout: Rollout, discount: float) -> RewardScale:
    """Take a rollout's discounted returns into the statistics (Engstrom et al. 2020, app. A)."""

    def step(running: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        reward, done = now
        running = discount * running + reward
        return jnp.where(done, 0.0, running), running

    done = rollout.terminated | rollout.truncated
    running, returns = jax.lax.scan(step, scale.running, (rollout.reward, done))
    return RewardScale(running, norm.update(scale.statistics, returns.reshape(-1, 1)))


class OnPolicyLoop(NamedTuple):
    """A run's static parts. All methods are pure."""

    config: RunConfig
    env: Env
    agent: OnPolicyAgent

    @property
    def settings(self) -> OnPolicyConfig:
        """The agent's settings."""
        return agent_settings(self.config, OnPolicyConfig)

    @property
    def samples_per_rollout(self) -> int:
        return self.settings.num_envs * self.settings.num_steps

    def init(self, inputs: RunInputs) -> OnPolicyState:
        """The state before the first interaction."""
        key, num_envs = jax.random.key(inputs.seed), self.settings.num_envs
        return OnPolicyState(
            agent=self.agent.init(jax.random.fold_in(key, Streams.AGENT), inputs),
            normaliser=norm.init(self.env.observation_size),
            reward_scale=RewardScale(jnp.zeros(num_envs), norm.init(1)),
            envs=vector.reset(self.env, jax.random.fold_in(key, Streams.ENV), num_envs),
            key=key,
        )

    def to_disk(self, state: OnPolicyState) -> Arrays:
        """Everything the run needs to go on, named, on the host."""
        return to_arrays(state)

    def from_disk(self, arrays: Arrays, inputs: RunInputs) -> OnPolicyState:
        """The state that :meth:`to_disk` wrote.

        Raises:
            CheckpointError: it is not the state of such a run.
        """
        return from_arrays(jax.eval_shape(self.init, inputs), arrays)

    def trained(self, state: OnPolicyState) -> Arrays:
        """What acting and evaluating needs: parameters as stored, supports, the normaliser."""
        return to_arrays(
            {
                "parameters": self.agent.parameters(state.agent),
                "supports": self.agent.supports(state.agent),
                "normaliser": state.normaliser,
            }
        )

    def _see(self, state: OnPolicyState, view: View) -> View:
        """A view as the networks see it."""
        if not self.settings.normalise_observations:
            return view
        return view._replace(observation=norm.normalise(state.normaliser, view.observation))

    def _behaviour(self, state: OnPolicyState) -> Behaviour:
        see = functools.partial(self._see, state)
        return Behaviour(see, self.agent.act(state.agent), self.agent.value(state.agent))

    def keys(self, state: OnPolicyState, iteration: Any) -> Array:
        """The two keys of an iteration: its rollout's and its update's."""
        parent = jax.random.fold_in(state.key, Streams.INTERACTION)
        return jax.random.split(jax.random.fold_in(parent, iteration))

    def collect(self, state: OnPolicyState, key: Array) -> tuple[vector.VectorState, Rollout]:
        """One rollout with the weights and statistics of ``state``."""
        keys = jax.random.split(key, self.settings.num_steps)
        repeat = self.config.env.action_repeat
        return collect(self.env, self._behaviour(state), state.envs, keys, repeat)

    def _rewards(self, state: OnPolicyState, rollout: Rollout) -> tuple[RewardScale, Array]:
        """The statistics after a rollout, and the rewards to learn from, float32 ``[T, N]``."""
        scale, rewards, limit = state.reward_scale, rollout.reward, self.settings.reward_clip
        if self.settings.normalise_rewards:
            scale = take_rewards(scale, rollout, self.settings.discount)
            rewards = rewards / norm.deviation(scale.statistics)
        return scale, rewards if limit is None else jnp.clip(rewards, -limit, limit)

    def experience(
        self, state: OnPolicyState, envs: vector.VectorState, rollout: Rollout, rewards: Array
    ) -> Experience:
        """What there is to learn from a rollout: values, advantages and targets beside its samples."""
        value = self.agent.value(state.agent)
        views = self._see(state, flat(rollout.view))
        values = value(views).reshape(rollout.reward.shape)
        last = value(self._see(state, view_of(self.env, envs)))
        advantage = advantages(
            rewards,
            values,
            successor_values(rollout, values, last),
            rollout.terminated,
            rollout.truncated,
            discount=self.settings.discount,
            gae_lambda=self.settings.gae_lambda,
        )
        rest = (rollout.action, rollout.log_prob, values, advantage, advantage + values)
        return Experience(views, *flat(rest))

    def iterate(self, state: OnPolicyState, iteration: Array) -> tuple[OnPolicyState, _Totals, View]:
        """One rollout and one update on it: the new state, what came of it, what was seen ``[T·N]``.

        The statistics that normalise take the rollout in after it was learned from: policy and value
        are then compared on exactly the inputs on which they acted.
        """
        key_collect, key_learn = self.keys(state, iteration)
        envs, rollout = self.collect(state, key_collect)
        scale, rewards = self._rewards(state, rollout)
        experience = self.experience(state, envs, rollout, rewards)
        progress = iteration.astype(jnp.float32) / self._iterations()
        agent, learned = self.agent.update(state.agent, experience, progress, key_learn)
        views = flat(rollout.view)
        normaliser = state.normaliser
        if self.settings.normalise_observations:
            normaliser = norm.update(normaliser, views.observation)
        done = (rollout.terminated | rollout.truncated).astype(jnp.float32)
        unexplained = jnp.var(experience.value_target - experience.value)
        totals = _Totals(
            learned,
            1.0 - unexplained / jnp.maximum(jnp.var(experience.value_target), 1e-8),
            jnp.sum(rollout.episode_return * done),
            jnp.sum(done),
        )
        return OnPolicyState(agent, normaliser, scale, envs, state.key), totals, views

    def _iterations(self) -> int:
        """In the whole run."""
        return self.config.env_steps // self.config.frames_per_round

    def chunk(self, first: Array, state: OnPolicyState) -> tuple[OnPolicyState, Metrics]:
        """Interact and learn from interaction ``first`` to the next log point.

        Returns:
            The new state, and a row of float32 scalars: means over the chunk's updates, rollouts and
            finished episodes, and the health of the networks at its end, on what its last rollouts saw.
        """
        count = self.config.log_every // self.config.frames_per_round
        start = jnp.asarray(first, jnp.int32) // self.settings.num_steps
        n, wanted = self.samples_per_rollout, self.config.diagnostics.samples(self.config.width)
        kept = min(math.ceil(wanted / n), count)

        _, totals, views = jax.eval_shape(self.iterate, state, start)
        totals = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), totals)
        probe = jax.tree.map(lambda x: jnp.zeros((kept * n, *x.shape[1:]), x.dtype), views)

        def one(iteration: Array, carry: Any) -> Any:
            state, totals, probe = carry
            state, new, views = self.iterate(state, iteration)
            place = (iteration % kept) * n
            probe = jax.tree.map(
                lambda old, x: jax.lax.dynamic_update_slice_in_dim(old, x, place, 0), probe, views
            )
            return state, jax.tree.map(jnp.add, totals, new), probe

        state, totals, probe = jax.lax.fori_loop(start, start + count, one, (state, totals, probe))
        key = jax.random.fold_in(jax.random.fold_in(state.key, Streams.PROBE), start + count)
        chosen = jax.random.permutation(key, kept * n)[:wanted]
        row = self.agent.diagnose(
            state.agent, self._see(state, jax.tree.map(lambda x: x[chosen], probe))
        )
        return state, row | self._row(totals, count)

    def _row(self, totals: _Totals, iterations: int) -> Metrics:
        updates = totals.learned.updates.astype(jnp.float32)
        return {
            **{name: total / updates for name, total in totals.learned.metrics.items()},
            "explained_variance": totals.explained_variance / iterations,
            "updates_in_chunk": updates,
            "train_return_mean": totals.finished_return / totals.finished,
        }

    def evaluate(self, interactions: Array, state: OnPolicyState) -> Metrics:
        """Whole episodes with the deterministic policy, in fresh environments."""
        act, to_env = self.agent.act_greedily(state.agent), actions_of(self.env).to_env

        def greedily(envs: vector.VectorState) -> Array:
            return to_env(act(self._see(state, view_of(self.env, envs))))

        return evaluate(self.config, self.env, greedily, evaluation_key(state.key, interactions))

    def workload(self, state: OnPolicyState) -> Workload:
        """As many updates as if none were left out (PPO may stop an update early)."""
        rollout = jax.eval_shape(lambda s: self.collect(s, s.key)[1], state)
        updates = self._iterations() * self.agent.updates_per_rollout
        return Workload(
            updates, self.agent.batch_size, self.samples_per_rollout, replay=(), rollout=rollout
        )

    def describe(self) -> str:
        """The shape of rollouts, and what is made of each."""
        updates, size = self.agent.updates_per_rollout, self.agent.batch_size
        return (
            f"rollouts of {self.settings.num_envs:,} × {self.settings.num_steps:,} interactions, "
            f"{updates:,} updates on {size:,} samples after each"
        )
