"""A replay buffer of what teams did, sampled as steps in a row with the memory that was there
(Kapturowski et al. 2019, R2D2, §3: stored state).

Each environment has a ring of rows (:mod:`~sparse_rl.experience.rings`). The true successor of an
episode's last step has a row of its own, so that it can be valued where time ran out. A sample may go
over an episode's end into the next; :attr:`Steps.first` says where memory begins anew.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.envs import Spec
from sparse_rl.experience import rings
from sparse_rl.experience.replay import Buffer
from sparse_rl.experience.rings import Ring


class Steps(NamedTuple):
    """Rows of teams of A agents; each field with leading axes, of a sample ``[L + 1, n]``."""

    observation: Array
    """float32 ``[A, observation_size]``."""
    state: Array | None
    """float32 ``[critic_size]``: of the team; ``None``: nobody asks."""
    legal: Array | None
    """bool ``[A, action_size]``; ``None``: all."""
    weight: Array | None
    """float32 ``[A]``: 1 of those who act, else 0; ``None``: all do."""
    memory: Any
    """``[A, M]``: what was remembered before."""
    action: Array
    """int32 ``[A]``."""
    reward: Array
    """float32 ``[A]``: the environment's own."""
    shaping: Array | None
    """float32 ``[A]``: what may be learned from beside it; ``None``: there is none."""
    first: Array
    """bool: an episode begins here."""
    last: Array
    """bool: the last of its episode, or nothing yet: no action follows from it."""
    terminated: Array
    """bool: the task ended by itself with this."""


class Happened(NamedTuple):
    """An interaction of E environments: what was seen and done, and what was seen then."""

    step: Steps
    successor: Steps
    """What its :attr:`Steps.last` says is not looked at."""


def _add(ring: Ring, happened: Happened, truncated: Array) -> Ring:
    """Keep an interaction of every environment, and the last rows of episodes that ended."""
    step, successor = happened
    no = jnp.zeros_like(truncated)
    ring = rings.write(ring, step._replace(last=no, terminated=no), ~no)
    closing = successor._replace(last=~no, first=no)
    return rings.close(ring, closing, successor.terminated | truncated)


def _at(ring: Ring, env: Array, place: Array, length: int) -> Steps:
    """So many rows in a row from these places on: fields ``[length, n, …]``."""
    places = (place + jnp.arange(length)[:, None]) % ring.capacity
    rows: Steps = jax.tree.map(lambda field: field[env, places], ring.rows)
    return rows


def _sample(length: int, ring: Ring, key: Array, n: int) -> Steps:
    """Draw n times ``length`` + 1 rows in a row, uniformly among all that are held, with replacement.

    Before an environment holds so many, only the first row of a sample is one that was written: nothing
    is to be learned yet.
    """
    key_env, key_row = jax.random.split(key)
    env = jax.random.randint(key_env, (n,), 0, ring.size.shape[0])
    starts = jnp.maximum(ring.size[env] - length, 1)
    age = jax.random.randint(key_row, (n,), 0, starts)
    return _at(ring, env, ring.position[env] - ring.size[env] + age, length + 1)


def episode_buffer(
    length: int, like: Callable[[int], Steps], action_repeat: int, env: Spec, num_envs: int
) -> Buffer:
    """Keep what teams do.

    It holds as many interactions as it is given room for, where episodes last until time runs out: their
    last rows have room beside. An episode that ends before takes one more, and the oldest make room.

    Args:
        length: L, steps of a sample.
        like: ``E → shapes`` of a row of E environments.
        action_repeat: frames per interaction.
        env: the environment.
        num_envs: E.
    """
    per_episode = -(-env.episode_length // action_repeat)

    def init(interactions: int) -> Ring:
        of_one = interactions // num_envs
        room = max(of_one + of_one // per_episode, length + 1)
        shapes = like(num_envs)
        rows = jax.tree.map(lambda x: jnp.zeros((num_envs, room, *x.shape[1:]), x.dtype), shapes)
        return rings.empty(rows._replace(last=jnp.ones((num_envs, room), bool)))

    def sample(ring: Ring, key: Array, n: int) -> Steps:
        return _sample(length, ring, key, n)

    return Buffer(init, _add, sample, rings.to_disk, rings.from_disk)
