"""Tensorised environments run on the host, for tests of the host loop."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sparse_rl.envs import Env, HostActors, HostEnv, HostStep
from sparse_rl.settings.envs import EnvConfig


def _look(env: Env, state: Any, observation: jax.Array, before: jax.Array | None) -> jax.Array:
    """What is seen of a state: its observation, or the pictures before without the oldest and a new
    one; of a first state that one alone."""
    if env.draw is None or env.picture is None:
        return observation
    new = env.draw(state)
    if before is None:
        return jnp.tile(new, (1, 1, env.frames)).ravel()
    return jnp.concatenate([before.reshape(env.picture)[..., new.shape[-1] :], new], axis=-1).ravel()


class _Actors:
    """N copies, each with a chain of keys of its own from its seed."""

    def __init__(self, env: Env, num_envs: int) -> None:
        def begin(seed: jax.Array) -> Any:
            key = jax.random.key(seed)
            state, observation = env.reset(jax.random.fold_in(key, 0))
            observation = _look(env, state, observation, None)
            return (key, jnp.int32(0), jnp.int32(0), state, observation), observation

        def step(held: Any, action: jax.Array) -> Any:
            key, count, elapsed, state, before = held
            now, again = jax.random.split(jax.random.fold_in(key, count + 1))
            state, seen = env.step(now, state, action)
            final = _look(env, state, seen.observation, before)
            elapsed += 1
            truncated = (elapsed >= env.episode_length) & ~seen.terminated
            done = seen.terminated | truncated
            fresh, first = env.reset(again)
            following = jnp.where(done, _look(env, fresh, first, None), final)
            state = jax.tree.map(lambda new, old: jnp.where(done, new, old), fresh, state)
            after = (key, count + 1, jnp.where(done, 0, elapsed), state, following)
            return after, (following, *seen[1:], truncated, final)

        self._begin, self._step = jax.jit(jax.vmap(begin)), jax.jit(jax.vmap(step))
        self._held, self._observation = self._begin(jnp.zeros(num_envs, jnp.uint32))
        self._given: np.ndarray | None = None

    def seed(self, seeds: np.ndarray, where: np.ndarray) -> np.ndarray:
        fresh = self._begin(jnp.asarray(seeds, jnp.uint32))

        def choose(new: jax.Array, old: jax.Array) -> jax.Array:
            return jnp.where(where.reshape(-1, *[1] * (new.ndim - 1)), new, old)

        self._held, self._observation = jax.tree.map(choose, fresh, (self._held, self._observation))
        return np.array(self._observation)

    def send(self, action: np.ndarray) -> None:
        self._given = action

    def receive(self) -> HostStep:
        self._held, seen = self._step(self._held, self._given)
        self._observation = seen[0]
        observation, reward, terminated, truncated, final = map(np.array, seen)
        return HostStep(observation, reward, terminated, truncated, final)


def on_host(make: Callable[[str], Env], seed_every: int = 7) -> Callable[[str], HostEnv]:
    """A source whose environments step on the host."""

    def made(task: str) -> HostEnv:
        env = make(task)

        def open_actors(settings: EnvConfig, num_envs: int, threads: int) -> HostActors:
            return _Actors(env, num_envs)

        return HostEnv(
            name=env.name,
            observation_size=env.observation_size,
            action_size=env.action_size,
            episode_length=env.episode_length,
            discrete=env.discrete,
            picture=env.picture,
            frames=env.frames,
            observation_dtype=np.uint8 if env.draw else np.float32,
            open=open_actors,
            seed_every=seed_every,
        )

    return made
