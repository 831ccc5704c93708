"""The on-policy loop on tensorised environments: rollout, advantage, loss, update.

It sees a batch of actors and nothing else: copies of an environment here, elsewhere levels or the agents
of a team. A chunk (everything between two log points) is one pure function, so one XLA program.
"""

from typing import Any, NamedTuple

import jax
from jax import Array

from sparse_rl.agents import Memories, Metrics, OnPolicyAgent, RunInputs, Streams
from sparse_rl.envs import Env, vector
from sparse_rl.experience import normaliser as norm
from sparse_rl.kernels.keys import key_of
from sparse_rl.loops import rounds
from sparse_rl.loops.contract import Workload
from sparse_rl.loops.learning import Learning, Seen, Totals, iteration_keys
from sparse_rl.loops.rewards import RewardScale
from sparse_rl.loops.rollout import Rollout, collect, view_of, with_levels_ahead
from sparse_rl.networks import Memory
from sparse_rl.records.checkpoints import Arrays, from_arrays, to_arrays
from sparse_rl.settings.run import RunConfig


class OnPolicyState(NamedTuple):
    """Everything one run needs to go on."""

    agent: Any
    normaliser: norm.Normaliser
    reward_scale: RewardScale
    envs: vector.VectorState
    memory: Memories
    """Of its actors."""
    key: Array
    """The run's key: never drawn from; its children are named in :class:`Streams`."""


class OnPolicyLoop(NamedTuple):
    """A run's static parts. All methods are pure."""

    config: RunConfig
    env: Env
    agent: OnPolicyAgent

    @property
    def learning(self) -> Learning:
        """What is done with a rollout."""
        return Learning(self.config, self.agent)

    def init(self, inputs: RunInputs) -> OnPolicyState:
        """The state before the first interaction."""
        key = jax.random.fold_in(key_of(inputs.seed), Streams.ENV)
        envs = vector.reset(self.env, key, self.learning.settings.num_envs)
        return OnPolicyState(envs=envs, **self.learning.init(inputs, self.env))

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
        return self.learning.trained(state)

    def collect(self, state: OnPolicyState, key: Array) -> tuple[vector.VectorState, Memory, Rollout]:
        """One rollout with the weights and statistics of ``state``; environments and memory after it."""
        keys = jax.random.split(key, self.learning.settings.num_steps)
        behaviour, repeat = rounds.behaviour(self.learning, state), self.config.env.action_repeat
        return collect(self.env, behaviour, state.envs, state.memory.acting, keys, repeat)

    def iterate(self, state: OnPolicyState, iteration: Array) -> tuple[OnPolicyState, Totals, Seen]:
        """One rollout and one update on it: the new state, what came of it, what was seen ``[T·N]``.

        Where there are levels, the actors' next are drawn before each rollout.
        """
        state = state._replace(envs=with_levels_ahead(self.env, state.key, iteration, state.envs))
        key_collect, key_learn = iteration_keys(state.key, iteration)
        envs, memory, rollout = self.collect(state, key_collect)
        last = view_of(self.env, envs)
        state, totals, seen = self.learning.learn(state, last, rollout, iteration, key_learn)
        memories = state.memory._replace(acting=memory)
        return state._replace(envs=envs, memory=memories), totals, seen

    def chunk(self, first: Array, state: OnPolicyState) -> tuple[OnPolicyState, Metrics]:
        """Interact and learn from interaction ``first`` to the next log point.

        Returns:
            The new state, and a row (:meth:`Learning.row`).
        """
        return rounds.chunk(self.learning, self.iterate, first, state)

    def evaluate(self, interactions: Array, state: OnPolicyState) -> Metrics:
        """Whole episodes with the deterministic policy, in fresh environments."""
        return rounds.evaluate(self.learning, self.env, interactions, state)

    def workload(self, state: OnPolicyState) -> Workload:
        """Counted from the state's shapes."""
        return self.learning.workload(jax.eval_shape(lambda s: self.collect(s, s.key)[2], state))

    def describe(self) -> str:
        """The shape of rollouts, and what is made of each."""
        return self.learning.describe()
