"""A replay buffer for pictures: uint8, each picture once, n-step samples that end where episodes end.

Each environment has a ring of rows (:mod:`~sparse_rl.experience.rings`). A row is a picture and what was
done when it was the newest. Observations are stacked again when they are sampled.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.envs import Spec
from sparse_rl.experience import rings
from sparse_rl.experience.replay import Buffer, Transition
from sparse_rl.experience.rings import Ring


class Rows(NamedTuple):
    """Fields of ``[environments, rows, …]``."""

    picture: Array
    """uint8 ``[height · width · channels]``."""
    action: Array
    """float32 ``[action_size]``."""
    reward: Array
    """float32."""
    last: Array
    """bool: the last picture of its episode, or nothing yet: no action follows from it."""
    terminated: Array
    """bool: the task ended by itself with this picture."""


class NStep(NamedTuple):
    """Up to n interactions in a row, fewer where an episode ended; a batch with a leading axis."""

    observation: Array
    """uint8 ``[observation_size]``: the first one's."""
    action: Array
    """float32 ``[action_size]``: the first one's."""
    reward: Array
    """float32: Σ γ^i r over the k interactions."""
    next_observation: Array
    """uint8 ``[observation_size]``: after the last."""
    bootstrap: Array
    """float32: γ^k, what its value is worth; 0 where the task ended by itself."""


class _Drawn(NamedTuple):
    """Rows that were drawn so far, and which of them can begin a sample."""

    env: Array
    place: Array
    found: Array
    attempts: Array


class FrameBuffer(NamedTuple):
    """The buffer's static parts."""

    picture: tuple[int, int, int]
    """Height, width and channels of an observation."""
    frames: int
    """Pictures in it."""
    action_size: int
    num_envs: int
    n_steps: int
    discount: float

    def init(self, capacity: int) -> Ring:
        """An empty buffer for ``capacity`` pictures of all environments together."""
        height, width, channels = self.picture
        shape = (self.num_envs, capacity // self.num_envs)
        rows = Rows(
            jnp.zeros((*shape, height * width * (channels // self.frames)), jnp.uint8),
            jnp.zeros((*shape, self.action_size)),
            jnp.zeros(shape),
            jnp.ones(shape, bool),
            jnp.zeros(shape, bool),
        )
        return rings.empty(rows)

    def _newest(self, observation: Array) -> Array:
        """The newest picture of each observation: ``[n, observation_size]`` → ``[n, picture]``."""
        stack = observation.reshape(-1, *self.picture)
        return stack[..., -(self.picture[2] // self.frames) :].reshape(len(stack), -1)

    def add(self, frames: Ring, seen: Transition, truncated: Array) -> Ring:
        """Keep an interaction of every environment, and the last pictures of episodes that ended."""
        flag = jnp.zeros_like(truncated)
        row = Rows(self._newest(seen.observation), seen.action, seen.reward, flag, flag)
        frames = rings.write(frames, row, ~flag)
        nothing = jnp.zeros_like(seen.action), jnp.zeros_like(seen.reward)
        last = Rows(self._newest(seen.next_observation), *nothing, ~flag, seen.terminated)
        return rings.close(frames, last, seen.terminated | truncated)

    def _draw(self, frames: Ring, key: Array, batch_size: int) -> tuple[Array, Array]:
        """Environments and places of rows that begin a sample, uniformly among all that can.

        A row can begin one if something was done on it, the n rows after it are held, and the pictures
        that were stacked under it are not overwritten.
        """
        capacity = frames.rows.reward.shape[1]
        forgotten = jnp.where(frames.size == capacity, self.frames - 1, 0)
        end = frames.size - self.n_steps

        def attempt(key: Array) -> tuple[Array, Array, Array]:
            key_env, key_row = jax.random.split(key)
            env = jax.random.randint(key_env, (batch_size,), 0, self.num_envs)
            age = jax.random.randint(key_row, (batch_size,), 0, jnp.max(end))
            place = (frames.position[env] - frames.size[env] + age) % capacity
            inside = (age >= forgotten[env]) & (age < end[env])
            return env, place, inside & ~frames.rows.last[env, place]

        def again(drawn: _Drawn) -> _Drawn:
            env, place, fits = attempt(jax.random.fold_in(key, drawn.attempts))
            choose = ~drawn.found & fits
            return _Drawn(
                jnp.where(choose, env, drawn.env),
                jnp.where(choose, place, drawn.place),
                drawn.found | fits,
                drawn.attempts + 1,
            )

        nowhere = jnp.zeros(batch_size, jnp.int32)
        start = _Drawn(nowhere, nowhere, jnp.zeros(batch_size, bool), jnp.int32(0))
        possible = jnp.any(end > forgotten)  # else there is nothing to find
        drawn = jax.lax.while_loop(lambda drawn: possible & ~jnp.all(drawn.found), again, start)
        return drawn.env, drawn.place

    def _stacked(self, frames: Ring, env: Array, place: Array) -> Array:
        """Observations whose newest pictures are at these places: uint8 ``[n, observation_size]``."""
        capacity = frames.rows.reward.shape[1]
        places = [place]
        first = jnp.zeros_like(place, bool)
        for _ in range(self.frames - 1):
            before = (places[-1] - 1) % capacity
            first |= frames.rows.last[env, before]  # then what is there belongs to another episode
            places.append(jnp.where(first, places[-1], before))
        pictures = [frames.rows.picture[env, p] for p in reversed(places)]
        height, width, channels = self.picture
        shape = (-1, height, width, channels // self.frames)
        stack = jnp.concatenate([picture.reshape(shape) for picture in pictures], axis=-1)
        return stack.reshape(len(place), -1)

    def at(self, frames: Ring, env: Array, place: Array) -> NStep:
        """The samples that begin at these places: int32 ``[n]`` each."""
        capacity = frames.rows.reward.shape[1]
        reward, worth, steps = jnp.zeros(len(place)), jnp.ones(len(place)), jnp.zeros_like(place)
        going = jnp.ones(len(place), bool)
        for i in range(self.n_steps):
            now = (place + i) % capacity
            going &= ~frames.rows.last[env, now]
            reward += jnp.where(going, worth * frames.rows.reward[env, now], 0.0)
            worth = jnp.where(going, worth * self.discount, worth)
            steps += going
        after = (place + steps) % capacity
        return NStep(
            self._stacked(frames, env, place),
            frames.rows.action[env, place],
            reward,
            self._stacked(frames, env, after),
            jnp.where(frames.rows.terminated[env, after], 0.0, worth),
        )

    def sample(self, frames: Ring, key: Array, batch_size: int) -> NStep:
        """Draw samples uniformly, with replacement."""
        return self.at(frames, *self._draw(frames, key, batch_size))


def frame_buffer(n_steps: int, discount: float, action_repeat: int, env: Spec, num_envs: int) -> Buffer:
    """Keep what is seen in an environment of pictures.

    It holds as many interactions as it is given room for, where episodes last until time runs out: their
    last pictures have rows beside. An episode that ends before takes one more, and the oldest make room.
    """
    assert env.picture is not None
    kept = FrameBuffer(env.picture, env.frames, env.action_size, num_envs, n_steps, discount)
    per_episode = -(-env.episode_length // action_repeat)

    def init(interactions: int) -> Ring:
        of_one = interactions // num_envs
        return kept.init((of_one + of_one // per_episode) * num_envs)

    return Buffer(init, kept.add, kept.sample, rings.to_disk, rings.from_disk)
