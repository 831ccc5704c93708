"""The off-policy loop on tensorised environments: act, step, store, sample, update.

A chunk (everything between two log points) is one pure function, so one XLA program.
"""

from typing import Any, NamedTuple

import jax
from jax import Array

from sparse_rl.agents import Metrics, OffPolicyAgent, RunInputs, Streams, acting
from sparse_rl.envs import Env, vector
from sparse_rl.experience import Transition
from sparse_rl.kernels.keys import key_of
from sparse_rl.loops import replaying
from sparse_rl.loops.contract import Workload
from sparse_rl.loops.evaluation import evaluate, evaluation_key
from sparse_rl.loops.replaying import InteractionKeys, Replaying, RunState
from sparse_rl.loops.rollout import with_levels_ahead
from sparse_rl.networks import Memory
from sparse_rl.records.checkpoints import Arrays, to_arrays
from sparse_rl.settings.run import RunConfig


class OffPolicyLoop(NamedTuple):
    """A run's static parts. All methods are pure; ``interact`` is never batched by ``vmap``."""

    config: RunConfig
    env: Env
    agent: OffPolicyAgent

    @property
    def learning(self) -> Replaying:
        """What is done with the replay buffer."""
        return Replaying(self.config, self.env, self.agent)

    def init(self, inputs: RunInputs) -> RunState:
        """The state before the first interaction."""
        learning = self.learning
        key = jax.random.fold_in(key_of(inputs.seed), Streams.ENV)
        envs = vector.reset(self.env, key, learning.settings.num_envs)
        state = learning.init(inputs, envs)
        return state._replace(normaliser=learning.watch(state.normaliser, envs.observation))

    def to_disk(self, state: RunState) -> Arrays:
        """Everything the run needs to go on, named, on the host."""
        return replaying.to_disk(self.learning.buffer, state)

    def from_disk(self, arrays: Arrays, inputs: RunInputs) -> RunState:
        """The state that :meth:`to_disk` wrote.

        Raises:
            CheckpointError: it is not the state of such a run.
        """
        return replaying.from_disk(self.learning.buffer, arrays, jax.eval_shape(self.init, inputs))

    def trained(self, state: RunState) -> Arrays:
        """What acting and evaluating needs: parameters as stored, supports, the normaliser."""
        return to_arrays(acting(self.agent, state))

    def interact(
        self, state: RunState, interaction: Any, keys: InteractionKeys
    ) -> tuple[RunState, vector.VectorStep]:
        """Act in every environment once and store what happened; random actions at first.

        Where there are levels, the next of each environment is drawn before: here environments are few,
        and an update costs more.
        """
        learning, observation = self.learning, state.envs.observation
        before = with_levels_ahead(self.env, state.key, interaction, state.envs)
        seen_now = learning.see(state.normaliser, observation)
        action = learning.act(state.agent, seen_now, interaction, keys.act)
        envs, seen = vector.step(self.env, keys.env, before, action, self.config.env.action_repeat)
        transition = Transition(observation, action, seen.reward, seen.next_observation, seen.terminated)
        state = state._replace(
            normaliser=learning.watch(state.normaliser, envs.observation),
            replay=learning.buffer.add(state.replay, transition, seen.truncated),
            envs=envs,
        )
        return state, seen

    def chunk(self, first: Array, state: RunState) -> tuple[RunState, Metrics]:
        """Interact and learn from interaction ``first`` to the next log point.

        Returns:
            The new state, and a row of float32 scalars (:meth:`Replaying.row`).
        """
        return self.learning.chunk(self.interact, first, state)

    def evaluate(self, interactions: Array, state: RunState) -> Metrics:
        """Whole episodes with the deterministic policy, in fresh environments."""

        def act(envs: vector.VectorState, memory: Memory, key: Array) -> tuple[Array, Memory]:
            del key
            return self.learning.act_greedily(state, envs.observation), memory

        return evaluate(self.config, self.env, act, evaluation_key(state.key, interactions))

    def workload(self, state: RunState) -> Workload:
        """Counted from the state's shapes."""
        return self.learning.workload(state)

    def describe(self) -> str:
        """How many interactions are random."""
        return self.learning.describe()
