"""The on-policy loop on levels that a curriculum chooses: propose, play, score, absorb, learn.

All proposed levels are played in one wide rollout, each by an actor that begins there without memory and
begins there again when its episode ends. What is learned from is a slice of the actors. Nothing but
learning is ever left out, and no branch holds a rollout.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.agents import Memories, Metrics, OnPolicyAgent, RunInputs, Streams
from sparse_rl.curricula import (
    KINDS,
    Exhibits,
    Method,
    Outcome,
    Played,
    Proposal,
    gallery,
    highest_return,
    over_episodes,
    score,
)
from sparse_rl.envs import Env, Levels, vector
from sparse_rl.experience import normaliser as norm
from sparse_rl.kernels.keys import key_of
from sparse_rl.loops import rounds
from sparse_rl.loops.contract import Workload
from sparse_rl.loops.learning import Learning, Seen, Totals, Valued, advantages_of, iteration_keys
from sparse_rl.loops.rewards import RewardScale, scaled
from sparse_rl.loops.rollout import Rollout, collect, ended, flat, view_of
from sparse_rl.records.checkpoints import Arrays, from_arrays, to_arrays
from sparse_rl.settings.run import RunConfig


class CurriculumState(NamedTuple):
    """Everything one run needs to go on: no environment, for each cycle begins anew."""

    agent: Any
    normaliser: norm.Normaliser
    reward_scale: RewardScale
    memory: Memories
    """Of episodes that begin."""
    curriculum: Any
    """The method's: its buffer of levels, and what it plans."""
    key: Array
    """The run's key: never drawn from; its children are named in :class:`Streams`."""


class Cycles(NamedTuple):
    """Sums over a chunk's cycles."""

    learned: Totals
    steps: dict[str, Array]
    """kind of level → frames simulated in it; ``trained``: those learned from."""
    levels: dict[str, tuple[Array, Array]]
    """Sums over the levels that were learned from, and over how many each is known."""

    def row(self) -> Metrics:
        """Means over levels, and frames by what they were for; NaN where nothing was learned from."""
        return {
            **self.learned.row(),
            **{f"steps_in_chunk/{name}": steps for name, steps in self.steps.items()},
            **{f"levels/{name}": total / known for name, (total, known) in self.levels.items()},
        }


def described(of: Levels, levels: Any, solved: Array, learns: Array) -> dict[str, tuple[Array, Array]]:
    """What N levels are like, and how often they were solved: sums, and over how many each is known.

    Args:
        of: the environment's.
        levels: each leaf with a leading N.
        solved: float32 ``[N]``: share of episodes; NaN where none ended.
        learns: bool scalar: whether they count.
    """
    told = {"solve_rate": solved, **jax.vmap(of.describe)(levels)}
    known = {name: learns & jnp.isfinite(x) for name, x in told.items()}
    return {
        name: (jnp.sum(jnp.where(known[name], x, 0.0)), jnp.sum(known[name], dtype=jnp.float32))
        for name, x in told.items()
    }


class CurriculumLoop(NamedTuple):
    """A run's static parts. All methods are pure."""

    config: RunConfig
    env: Env
    agent: OnPolicyAgent
    method: Method

    @property
    def learning(self) -> Learning:
        """What is done with a rollout."""
        return Learning(self.config, self.agent)

    @property
    def levels(self) -> Levels:
        """The environment's."""
        assert self.env.levels is not None
        return self.env.levels

    def init(self, inputs: RunInputs) -> CurriculumState:
        """The state before the first cycle."""
        key = jax.random.fold_in(key_of(inputs.seed), Streams.LEVELS)
        learner = self.learning.init(inputs, self.env)
        return CurriculumState(curriculum=self.method.begin(key), **learner)

    def to_disk(self, state: CurriculumState) -> Arrays:
        """Everything the run needs to go on, named, on the host."""
        return to_arrays(state)

    def from_disk(self, arrays: Arrays, inputs: RunInputs) -> CurriculumState:
        """The state that :meth:`to_disk` wrote.

        Raises:
            CheckpointError: it is not the state of such a run.
        """
        return from_arrays(jax.eval_shape(self.init, inputs), arrays)

    def trained(self, state: CurriculumState) -> Arrays:
        """What acting and evaluating needs: parameters as stored, supports, the normaliser."""
        return self.learning.trained(state)

    def propose(self, state: CurriculumState, iteration: Array) -> Proposal:
        """The levels of a cycle."""
        key = jax.random.fold_in(state.key, Streams.LEVELS)
        return self.method.propose(state.curriculum, jax.random.fold_in(key, iteration))

    def play(
        self, state: CurriculumState, levels: Any, key: Array
    ) -> tuple[vector.VectorState, Rollout]:
        """One rollout of all actors, each in its level; environments after it."""
        keys = jax.random.split(key, self.learning.settings.num_steps)
        envs = vector.begin(self.env, levels)
        memory = self.agent.begin(self.method.actors).acting
        behaviour, repeat = rounds.behaviour(self.learning, state), self.config.env.action_repeat
        envs, _, rollout = collect(self.env, behaviour, envs, memory, keys, repeat)
        return envs, rollout

    def outcome(
        self, state: CurriculumState, proposal: Proposal, rollout: Rollout, valued: Valued
    ) -> Outcome:
        """What came of the levels. Advantages are of rewards as the agent scales them, for its values
        are of these."""
        over, returns = ended(rollout), rollout.episode_return
        now = highest_return(over, returns)
        highest = jnp.maximum(self.method.highest(state.curriculum, proposal), now)
        solved = self.levels.solved(returns)
        wanted = self.method.score
        best = jax.vmap(self.levels.best)(proposal.levels) if wanted == "regret" else highest
        rewards = scaled(self.learning.settings, state.reward_scale, rollout.reward)
        advantage = advantages_of(self.learning.settings, valued, rollout, rewards)
        played = Played(over, returns, valued.values, advantage, solved, highest, best)
        return Outcome(score(wanted, played), now, over_episodes(over, solved.astype(jnp.float32)))

    def iterate(self, state: CurriculumState, iteration: Array) -> tuple[CurriculumState, Cycles, Seen]:
        """One cycle: the new state, what came of it, what was seen by those that are learned from."""
        key_play, key_learn = iteration_keys(state.key, iteration)
        proposal = self.propose(state, iteration)
        envs, rollout = self.play(state, proposal.levels, key_play)
        after, totals, seen, valued = self.learn(state, proposal, envs, rollout, iteration, key_learn)
        outcome = self.outcome(state, proposal, rollout, valued)
        kept = self.method.absorb(state.curriculum, proposal, outcome)
        return after._replace(curriculum=kept), self.cycle(proposal, outcome, totals), seen

    def learn(
        self, state: CurriculumState, proposal: Proposal, envs: vector.VectorState, rollout: Rollout,
        iteration: Array, key: Array,
    ) -> tuple[CurriculumState, Totals, Seen, Valued]:  # fmt: skip
        """The critic values all that was played; what is learned from is learned from, unless nothing
        is."""
        learning, part = self.learning, self.method.trained
        wide = state._replace(memory=self.agent.begin(self.method.actors))
        views = learning.see(state, flat(rollout.view))
        valued = learning.value(wide, views, view_of(self.env, envs), rollout)
        mine = (rollout, valued._replace(memory=()))  # every cycle begins without memory
        own, own_valued = jax.tree.map(lambda x: x[:, part], mine)

        @functools.partial(jax.jit, inline=True)  # traced once, for its shapes and for the branch
        def learn(state: CurriculumState) -> tuple[CurriculumState, Totals]:
            after, totals, _ = learning.learn_valued(state, own_valued, own, iteration, key)
            return after._replace(
                memory=state.memory, reward_scale=rounds.anew(after.reward_scale)
            ), totals

        def skip(state: CurriculumState) -> tuple[CurriculumState, Totals]:
            nothing = learn.eval_shape(state)[1]
            return state, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), nothing)

        after, totals = jax.lax.cond(proposal.learns, learn, skip, state)
        seen = Seen(flat(own.view), Memories(*flat((own.memory, own_valued.before))))
        return after, totals, seen, valued

    def cycle(self, proposal: Proposal, outcome: Outcome, totals: Totals) -> Cycles:
        """The sums of one cycle."""
        part, learning = self.method.trained, self.learning
        frames = learning.settings.num_steps * self.config.env.action_repeat
        steps = {
            name: frames * jnp.sum(proposal.kind == kind, dtype=jnp.float32)
            for kind, name in enumerate(KINDS)
        }
        own, learns = jax.tree.map(lambda x: x[part], proposal.levels), proposal.learns
        levels = described(self.levels, own, outcome.solved[part], learns)
        steps["trained"] = learns * jnp.float32(frames * learning.settings.num_envs)
        return Cycles(totals, steps, levels)

    def chunk(self, first: Array, state: CurriculumState) -> tuple[CurriculumState, Metrics]:
        """Interact and learn from interaction ``first`` to the next log point.

        Returns:
            The new state, and a row (:meth:`Learning.row`) with the curriculum's state at its end.
        """
        state, row = rounds.chunk(self.learning, self.iterate, first, state)
        return state, row | self.method.describe(state.curriculum)

    def evaluate(self, interactions: Array, state: CurriculumState) -> Metrics:
        """Whole episodes with the deterministic policy, in levels as the environment draws them."""
        return rounds.evaluate(self.learning, self.env, interactions, state)

    def show(self, interactions: Array, state: CurriculumState) -> dict[str, Exhibits]:
        """The few of the levels kept that people are shown; none of a method that keeps none."""
        del interactions
        kept = self.method.kept
        return {} if kept is None else gallery(self.levels, kept(state.curriculum))

    def workload(self, state: CurriculumState) -> Workload:
        """Counted from the state's shapes, as if no cycle left learning out."""

        def played(state: CurriculumState) -> Rollout:
            return self.play(state, self.propose(state, jnp.int32(0)).levels, state.key)[1]

        counted = self.learning.workload(jax.eval_shape(played, state))
        return counted._replace(samples_at_once=self.method.actors * self.learning.settings.num_steps)

    def describe(self) -> str:
        """The shape of rollouts, and what is made of each."""
        beside = self.method.actors - self.learning.settings.num_envs
        more = f", {beside:,} more levels beside to be scored" if beside else ""
        return f"{self.learning.describe()}; levels by {self.config.curriculum.method}{more}"
