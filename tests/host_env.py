"""Tensorised environments run on the host, for tests of the host loop."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sparse_rl.env_configs import EnvConfig
from sparse_rl.envs import Env, HostActors, HostEnv, HostStep


class _Actors:
    """N copies, each with a chain of keys of its own from its seed."""

    def __init__(self, env: Env, num_envs: int) -> None:
        def begin(seed: jax.Array) -> Any:
            key = jax.random.key(seed)
            state, observation = env.reset(jax.random.fold_in(key, 0))
            return (key, jnp.int32(0), jnp.int32(0), state), observation

        def step(held: Any, action: jax.Array) -> Any:
            key, count, elapsed, state = held
            now, again = jax.random.split(jax.random.fold_in(key, count + 1))
            state, seen = env.step(now, state, action)
            elapsed += 1
            truncated = (elapsed >= env.episode_length) & ~seen.terminated
            done = seen.terminated | truncated
            fresh, first = env.reset(again)
            state = jax.tree.map(lambda new, old: jnp.where(done, new, old), fresh, state)
            after = (key, count + 1, jnp.where(done, 0, elapsed), state)
            return after, (jnp.where(done, first, seen.observation), *seen[1:], truncated, seen[0])

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
            open=open_actors,
            seed_every=seed_every,
        )

    return made
