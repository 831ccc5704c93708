"""PAIRED's loop: a teacher designs levels, two students play and learn them, and the teacher learns from
how much better one was than the other. Three learners of the one on-policy core."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.agents import ON_POLICY, Metrics, OnPolicyAgent, RunInputs, Streams
from sparse_rl.curricula import (
    Exhibits,
    Shown,
    design_env,
    estimated_regret,
    exhibits,
    over_episodes,
)
from sparse_rl.envs import Env, Levels, vector
from sparse_rl.experience import normaliser as norm
from sparse_rl.kernels.keys import key_of
from sparse_rl.loops import rounds
from sparse_rl.loops.contract import Beside, Workload
from sparse_rl.loops.curriculum import described
from sparse_rl.loops.learning import LearnerState, Learning, Seen, Totals, iteration_keys
from sparse_rl.loops.rollout import Rollout, collect, ended, view_of
from sparse_rl.records.checkpoints import Arrays, from_arrays, to_arrays
from sparse_rl.settings.curricula import NoCurriculum, PairedConfig
from sparse_rl.settings.on_policy import PaacConfig, PpoConfig
from sparse_rl.settings.run import RunConfig


class PairedState(NamedTuple):
    """Everything one run needs to go on. What is evaluated and counted is the protagonist. Each cycle
    begins anew, so memory is that of episodes that begin."""

    protagonist: LearnerState
    antagonist: LearnerState
    teacher: LearnerState

    @property
    def agent(self) -> Any:
        return self.protagonist.agent

    @property
    def normaliser(self) -> norm.Normaliser:
        return self.protagonist.normaliser

    @property
    def key(self) -> Array:
        return self.protagonist.key


class PairedTotals(NamedTuple):
    """Sums over a chunk's cycles."""

    protagonist: Totals
    antagonist: Totals
    teacher: Totals
    steps: dict[str, Array]
    regret: Array
    """Mean of a cycle's levels."""
    levels: dict[str, tuple[Array, Array]]
    cycles: Array

    def row(self) -> Metrics:
        """The protagonist's row, and of the others what tells how they fare."""
        others = {"antagonist": self.antagonist.row(), "teacher": self.teacher.row()}
        return {
            **self.protagonist.row(),
            **{
                f"{name}/{key}": row[key]
                for name, row in others.items()
                for key in ("entropy", "explained_variance", "train_return_mean")
                if key in row
            },
            **{f"steps_in_chunk/{name}": steps for name, steps in self.steps.items()},
            "curriculum/regret": self.regret / self.cycles,
            **{f"levels/{name}": total / known for name, (total, known) in self.levels.items()},
        }


def teacher_config(config: RunConfig, env: Env) -> RunConfig:
    """The settings of a run's teacher: the agent's, on the environment in which levels are made.

    It is as wide whatever the students' width, and never pruned: what is asked is what becomes of the
    students."""
    settings = config.curriculum
    assert isinstance(settings, PairedConfig)
    assert env.levels is not None
    assert env.levels.design is not None
    student = config.agent
    assert isinstance(student, PpoConfig | PaacConfig)
    agent = dataclasses.replace(
        student,
        num_steps=env.levels.design.steps,
        sequence_length=None,
        entropy_coefficient=settings.teacher_entropy,
    )
    cycles = config.env_steps // config.frames_per_round
    return dataclasses.replace(
        config,
        agent=agent,
        env=dataclasses.replace(config.env, action_repeat=1),
        width=settings.teacher_width,
        sparsity=0.0,
        pruning=type(config.pruning)(),
        curriculum=NoCurriculum(),
        env_steps=cycles * agent.num_envs * agent.num_steps,
    )


class PairedLoop(NamedTuple):
    """A run's static parts. All methods are pure."""

    config: RunConfig
    env: Env
    agent: OnPolicyAgent
    teacher: OnPolicyAgent
    design: Env
    """In which the teacher acts."""

    @property
    def learning(self) -> Learning:
        """What students do with a rollout."""
        return Learning(self.config, self.agent)

    @property
    def teaching(self) -> Learning:
        """What the teacher does with one."""
        return Learning(teacher_config(self.config, self.env), self.teacher)

    @property
    def levels(self) -> Levels:
        """The environment's."""
        assert self.env.levels is not None
        return self.env.levels

    def init(self, inputs: RunInputs) -> PairedState:
        """The state before the first cycle; each learner has seeds of its own."""
        seed, mask_seed = (
            jax.random.bits(jax.random.fold_in(key_of(x), Streams.LEVELS), (2,), jnp.uint32)
            for x in (inputs.seed, inputs.mask_seed)
        )
        other = inputs._replace(seed=seed[0], mask_seed=mask_seed[0])
        dense: dict[str, Any] = {name: {} for name in self.config.agent.NETWORKS}
        teacher = inputs._replace(seed=seed[1], mask_seed=mask_seed[1], budgets=dense, scales=())
        return PairedState(
            LearnerState(**self.learning.init(inputs, self.env)),
            LearnerState(**self.learning.init(other, self.env)),
            LearnerState(**self.teaching.init(teacher, self.design)),
        )

    def to_disk(self, state: PairedState) -> Arrays:
        """Everything the run needs to go on, named, on the host."""
        return to_arrays(state)

    def from_disk(self, arrays: Arrays, inputs: RunInputs) -> PairedState:
        """The state that :meth:`to_disk` wrote.

        Raises:
            CheckpointError: it is not the state of such a run.
        """
        return from_arrays(jax.eval_shape(self.init, inputs), arrays)

    def trained(self, state: PairedState) -> Arrays:
        """What acting and evaluating needs, of the protagonist."""
        return self.learning.trained(state.protagonist)

    def make_levels(self, learner: LearnerState, key: Array) -> tuple[Any, vector.VectorState, Rollout]:
        """N levels by the teacher, its environments after them, and how it made them."""
        key_begin, key_act = jax.random.split(key)
        n, steps = self.config.agent.num_envs, self.teaching.settings.num_steps
        envs = vector.reset(self.design, key_begin, n)
        behaviour, keys = rounds.behaviour(self.teaching, learner), jax.random.split(key_act, steps)
        envs, _, rollout = collect(self.design, behaviour, envs, learner.memory.acting, keys, 1)
        return envs.env.level, envs, rollout

    def study(
        self, learner: LearnerState, levels: Any, iteration: Array
    ) -> tuple[LearnerState, Totals, Seen, Shown]:
        """A student plays the levels, and learns from them."""
        key_play, key_learn = iteration_keys(learner.key, iteration)
        keys = jax.random.split(key_play, self.learning.settings.num_steps)
        behaviour, repeat = rounds.behaviour(self.learning, learner), self.config.env.action_repeat
        envs, _, rollout = collect(
            self.env, behaviour, vector.begin(self.env, levels), learner.memory.acting, keys, repeat
        )
        last = view_of(self.env, envs)
        after, totals, seen = self.learning.learn(learner, last, rollout, iteration, key_learn)
        return _anew(after, learner), totals, seen, Shown(ended(rollout), rollout.episode_return)

    def teach(
        self, learner: LearnerState, envs: vector.VectorState, rollout: Rollout, regret: Array,
        key: Array, iteration: Array,
    ) -> tuple[LearnerState, Totals]:  # fmt: skip
        """The teacher learns: its only reward is the regret, with its last action, which ends the
        episode. Nothing follows it, so nothing is bootstrapped."""
        finished = rollout._replace(
            reward=rollout.reward.at[-1].set(regret),
            terminated=rollout.terminated.at[-1].set(True),
            episode_return=rollout.episode_return.at[-1].set(regret),
        )
        last = view_of(self.design, envs)
        after, totals, _ = self.teaching.learn(learner, last, finished, iteration, key)
        return _anew(after, learner), totals

    def iterate(self, state: PairedState, iteration: Array) -> tuple[PairedState, PairedTotals, Seen]:
        """One cycle: the new state, what came of it, what the protagonist saw."""
        key_make, key_teach = iteration_keys(state.teacher.key, iteration)
        levels, envs, made = self.make_levels(state.teacher, key_make)
        protagonist, first, seen, shown = self.study(state.protagonist, levels, iteration)
        antagonist, second, _, other = self.study(state.antagonist, levels, iteration)
        regret = estimated_regret(shown, other)
        teacher, taught = self.teach(state.teacher, envs, made, regret, key_teach, iteration)
        frames = jnp.float32(self.config.frames_per_round)
        steps = {"new": frames, "trained": frames, "teacher": jnp.float32(made.reward.size)}
        solved = over_episodes(shown.ended, self.levels.solved(shown.episode_return) * 1.0)
        told = described(self.levels, levels, solved, jnp.bool(True))
        totals = PairedTotals(first, second, taught, steps, jnp.mean(regret), told, jnp.float32(1))
        return PairedState(protagonist, antagonist, teacher), totals, seen

    def chunk(self, first: Array, state: PairedState) -> tuple[PairedState, Metrics]:
        """Interact and learn from interaction ``first`` to the next log point.

        Returns:
            The new state, and a row (:meth:`Learning.row`) of the protagonist.
        """
        return rounds.chunk(self.learning, self.iterate, first, state)

    def evaluate(self, interactions: Array, state: PairedState) -> Metrics:
        """The protagonist's whole episodes, in levels as the environment draws them and held-out
        ones."""
        return rounds.evaluate(self.learning, self.env, interactions, state.protagonist)

    def show(self, interactions: Array, state: PairedState) -> dict[str, Exhibits]:
        """A few levels that the teacher makes now; nobody plays them."""
        key = jax.random.fold_in(state.teacher.key, Streams.LEVELS)
        key = jax.random.fold_in(key, interactions)
        return exhibits(self.levels, self.make_levels(state.teacher, key)[0])

    def workload(self, state: PairedState) -> Workload:
        """Counted from the state's shapes. Updates are the protagonist's; the others' work is beside."""

        def played(state: PairedState) -> Rollout:
            levels, _, _ = self.make_levels(state.teacher, state.teacher.key)
            envs = vector.begin(self.env, levels)
            keys = jax.random.split(state.protagonist.key, self.learning.settings.num_steps)
            behaviour = rounds.behaviour(self.learning, state.protagonist)
            memory = state.protagonist.memory.acting
            return collect(self.env, behaviour, envs, memory, keys, 1)[2]

        counted = self.learning.workload(jax.eval_shape(played, state))
        teacher = Beside(self.teacher, state.teacher.agent, self.teacher.batch_size, self.design.picture)
        return counted._replace(beside=(teacher,), copies=2)

    def describe(self) -> str:
        """The shape of rollouts, and what is made of each."""
        return (
            f"{self.learning.describe()}, by two students; levels by a teacher in "
            f"{self.teaching.settings.num_steps} actions each"
        )


def make(config: RunConfig, env: Env, agent: OnPolicyAgent) -> PairedLoop:
    """Build it around the student."""
    assert env.levels is not None
    assert env.levels.design is not None
    design = design_env(env.levels.design, env.name)
    settings = teacher_config(config, env)
    return PairedLoop(config, env, agent, ON_POLICY[config.agent.name](settings, design), design)


def _anew(after: LearnerState, before: LearnerState) -> LearnerState:
    """A learner before episodes begin."""
    return after._replace(memory=before.memory, reward_scale=rounds.anew(after.reward_scale))
