"""The off-policy loop of teams: act, step, store, sample steps in a row, update.

What is learned from the replay buffer, and when, is :mod:`~sparse_rl.loops.replaying`'s; here agents act
on what they see and remember.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.agents import (
    Metrics,
    RecallingAgent,
    RunInputs,
    Streams,
    View,
    acting,
    actions_of,
    exploration,
)
from sparse_rl.envs import TeamEnv, vector
from sparse_rl.experience import Happened, Steps
from sparse_rl.kernels.keys import key_of
from sparse_rl.loops import replaying, rounds
from sparse_rl.loops.contract import Workload
from sparse_rl.loops.replaying import InteractionKeys, Replaying, RunState
from sparse_rl.loops.rewards import shaping_weight
from sparse_rl.loops.rollout import successor_view, view_of
from sparse_rl.networks import Memory, forget
from sparse_rl.records.checkpoints import Arrays, to_arrays
from sparse_rl.settings.off_policy import MixingConfig
from sparse_rl.settings.run import RunConfig, agent_settings


class Crew(NamedTuple):
    """Environments of teams, and their actors' memory."""

    envs: vector.VectorState
    memory: Memory


class AsSeen(NamedTuple):
    """What acting needs, as evaluation and cross-play ask for it."""

    config: RunConfig
    agent: RecallingAgent

    def see(self, state: Any, view: View) -> View:
        """A view as the networks see it: as it is."""
        del state
        return view


def rows_of(env: TeamEnv, view: View, envs: vector.VectorState, memory: Any, action: Array) -> Steps:
    """What E environments show and N actors do: rows without what comes of it.

    Args:
        env: the environment.
        view: of the actors.
        envs: state of the environments.
        memory: of the actors, before.
        action: int32 ``[N]``.
    """

    def teams(x: Array) -> Array:
        return vector.split(env, x)

    central, nothing = view.critic_observation, jnp.zeros(len(action))
    if central is not None:  # one of the team's: whose value it is plays no part here
        central = teams(central)[:, 0, : central.shape[-1] - env.names]
    flag = envs.elapsed == 0
    return Steps(
        observation=teams(view.observation),
        state=central,
        legal=None if view.legal is None else teams(view.legal),
        weight=None if view.weight is None else teams(view.weight),
        memory=jax.tree.map(teams, memory),
        action=teams(action),
        reward=teams(nothing),
        shaping=teams(nothing) if env.shapes else None,
        first=flag,
        last=jnp.zeros_like(flag),
        terminated=jnp.zeros_like(flag),
    )


class RecallingLoop(NamedTuple):
    """A run's static parts. All methods are pure; ``interact`` is never batched by ``vmap``."""

    config: RunConfig
    env: TeamEnv
    agent: RecallingAgent

    @property
    def replaying(self) -> Replaying:
        """What is done with the replay buffer."""
        return Replaying(self.config, self.env, self.agent)

    @property
    def learning(self) -> AsSeen:
        """What acting needs."""
        return AsSeen(self.config, self.agent)

    def init(self, inputs: RunInputs) -> RunState:
        """The state before the first interaction."""
        num_envs = self.replaying.settings.num_envs
        key = jax.random.fold_in(key_of(inputs.seed), Streams.ENV)
        memory = self.agent.begin(num_envs * self.env.agents).acting
        crew = Crew(vector.reset(self.env, key, num_envs), memory)
        return self.replaying.init(inputs, crew)

    def to_disk(self, state: RunState) -> Arrays:
        """Everything the run needs to go on, named, on the host."""
        return replaying.to_disk(self.replaying.buffer, state)

    def from_disk(self, arrays: Arrays, inputs: RunInputs) -> RunState:
        """The state that :meth:`to_disk` wrote.

        Raises:
            CheckpointError: it is not the state of such a run.
        """
        return replaying.from_disk(self.replaying.buffer, arrays, jax.eval_shape(self.init, inputs))

    def trained(self, state: RunState) -> Arrays:
        """What acting and evaluating needs: parameters as stored, supports, the normaliser."""
        return to_arrays(acting(self.agent, state))

    def _now(self, agent: Any, interaction: Array) -> Any:
        """The agent with how often it acts at random, and what shaping is worth, at this interaction:
        always at random at first, then less over ``exploration_share`` of the run."""
        settings, config = agent_settings(self.config, MixingConfig), self.config
        since = interaction - self.replaying.schedule.random_interactions
        progress = jnp.maximum(since, 0).astype(jnp.float32) / config.interactions
        env_steps = jnp.float32(config.frames_per_interaction) * interaction
        return agent._replace(
            exploration=exploration(settings, progress), shaping=shaping_weight(config.env, env_steps)
        )

    def interact(
        self, state: RunState, interaction: Array, keys: InteractionKeys
    ) -> tuple[RunState, vector.VectorStep]:
        """Act in every environment once and store what happened."""
        env, (before, memory) = self.env, state.envs
        view, agent = view_of(env, before), self._now(state.agent, interaction)
        action, _, after = self.agent.act(agent)(view, memory, keys.act)
        done = actions_of(env).to_env(action)
        envs, seen = vector.step(env, keys.env, before, done, self.config.env.action_repeat)
        step = rows_of(env, view, before, memory, action)._replace(
            reward=vector.split(env, seen.reward),
            shaping=None if seen.shaping is None else vector.split(env, seen.shaping),
        )
        successor = rows_of(env, successor_view(env, seen), before, after, jnp.zeros_like(action))
        terminated, truncated = (vector.of_each(env, x) for x in (seen.terminated, seen.truncated))
        happened = Happened(step, successor._replace(terminated=terminated))
        state = state._replace(
            agent=agent,
            replay=self.replaying.buffer.add(state.replay, happened, truncated),
            envs=Crew(envs, forget(after, seen.terminated | seen.truncated)),
        )
        return state, seen

    def chunk(self, first: Array, state: RunState) -> tuple[RunState, Metrics]:
        """Interact and learn from interaction ``first`` to the next log point.

        Returns:
            The new state, and a row (:meth:`Replaying.row`).
        """
        return self.replaying.chunk(self.interact, first, state)

    def evaluate(self, interactions: Array, state: RunState) -> Metrics:
        """Whole episodes in fresh environments, greedy and with drawn actions."""
        return rounds.evaluate(self.learning, self.env, interactions, state)

    def workload(self, state: RunState) -> Workload:
        """Counted from the state's shapes."""
        samples = self.agent.samples
        counted = self.replaying.workload(state)
        return counted._replace(samples=samples, samples_at_once=max(samples.values()))

    def describe(self) -> str:
        """How many interactions are random."""
        return self.replaying.describe()
