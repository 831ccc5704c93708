"""An agent without a network: it solves a level of difficulty d with a probability that is known.

A level is two numbers: its difficulty, and one that only tells it apart. A curriculum that works trains
on those that are solved about as often as not; domain randomisation hardly ever does, for they are a
twentieth of all levels.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from sparse_rl.curricula import Method, Outcome, Played, Proposal, highest_return, over_episodes, score
from sparse_rl.envs import Levels
from sparse_rl.kernels.keys import key_of

HARDEST = 1000
SKILL = 700.0
"""The difficulty that is solved every other time."""
SOFT = 10.0
EPISODES = 16
"""Of each level in a cycle."""


class Task(NamedTuple):
    difficulty: Array
    """int32 scalar."""
    name: Array
    """int32 scalar."""


def _sample(key: Array) -> Task:
    difficulty, name = jax.random.split(key)
    return Task(jax.random.randint(difficulty, (), 0, HARDEST), jax.random.randint(name, (), 0, 2**30))


def _mutate(key: Array, level: Task) -> Task:
    moved = level.difficulty + jax.random.randint(key, (), -3, 4)
    return level._replace(difficulty=jnp.clip(moved, 0, HARDEST - 1))


def chance(difficulty: Any) -> Any:
    """Probability that it is solved."""
    return 1.0 / (1.0 + jnp.exp((difficulty - SKILL) / SOFT))


LEVELS = Levels(
    sample=_sample,
    begin=lambda level: (level, level.difficulty[None].astype(jnp.float32)),
    mutate=_mutate,
    describe=lambda level: {"solvable": jnp.float32(1), "difficulty": level.difficulty * 1.0},
    best=lambda level: jnp.float32(1),
    solved=lambda episode_return: episode_return > 0,
    sets={},
)


def outcome(method: Method, state: Any, proposal: Proposal, key: Array) -> Outcome:
    """What comes of playing: one-step episodes whose return is 1 if solved, and a critic that knows."""
    known = chance(proposal.levels.difficulty)
    solved = jax.random.uniform(key, (EPISODES, len(known))) < known
    returns, ended = solved.astype(jnp.float32), jnp.ones_like(solved)
    value = jnp.broadcast_to(known, returns.shape)
    now = highest_return(ended, returns)
    highest = jnp.maximum(method.highest(state, proposal), now)
    best = jax.vmap(LEVELS.best)(proposal.levels)
    played = Played(ended, returns, value, returns - value, solved, highest, best)
    return Outcome(score(method.score, played), now, over_episodes(ended, returns))


class Cycle(NamedTuple):
    """One cycle, as it was before and after."""

    before: Any
    proposal: Any
    outcome: Any
    after: Any


def cycles(method: Method, n: int, seed: int = 0) -> Sequence[Cycle]:
    """n cycles of a method with this agent, on the host."""

    @jax.jit
    def one(state: Any, cycle: Array) -> Cycle:
        propose, play = jax.random.split(jax.random.fold_in(key_of(seed), cycle))
        proposal = method.propose(state, propose)
        result = outcome(method, state, proposal, play)
        return Cycle(state, proposal, result, method.absorb(state, proposal, result))

    state, made = method.begin(key_of(seed + 1)), []
    for cycle in range(n):
        made.append(jax.device_get(one(state, np.int32(cycle))))
        state = made[-1].after
    return made


def share_at_the_frontier(made: Sequence[Cycle], num_envs: int) -> float:
    """Share of the levels learned from in the second half that are solved with 0.1 < p < 0.9.

    Args:
        made: cycles of a method whose first ``num_envs`` actors are learned from.
        num_envs: of the agent.
    """
    learned = [
        c.proposal.levels.difficulty[:num_envs] for c in made[len(made) // 2 :] if c.proposal.learns
    ]
    chances = np.asarray(chance(np.concatenate(learned)))
    return float(np.mean((chances > 0.1) & (chances < 0.9)))
