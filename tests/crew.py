"""A team of three of which every number can be told: who is who, what it earns, who dies, who waits."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_rl.envs import TeamEnv, TeamStep, registry

AGENTS, ACTIONS, LIMIT = 3, 3, 4


class Crew(NamedTuple):
    """What is true of one team."""

    secret: Any
    """float32: 0, 1 or 2: the episode ends by itself after 3 + secret steps."""
    time: Any
    """int32."""


def seen(state: Crew) -> Any:
    """``[A, 2]``: ten times the secret plus who sees it, and the time."""
    who = 10.0 * state.secret + jnp.arange(AGENTS, dtype=jnp.float32)
    return jnp.stack([who, jnp.full(AGENTS, 1.0 * state.time)], axis=1)


def reset(key: Any) -> tuple[Crew, Any]:
    state = Crew(jax.random.randint(key, (), 0, 3).astype(jnp.float32), jnp.int32(0))
    return state, seen(state)


def alive(state: Crew) -> Any:
    """The last dies in its second step."""
    return jnp.array([True, True, False]) | (state.time < 2)


def legal(state: Crew) -> Any:
    """The dead can do nothing; the first waits at time 1; the last action is for even times."""
    allowed = jnp.ones((AGENTS, ACTIONS), bool).at[:, 2].set(state.time % 2 == 0)
    acts = alive(state) & ((jnp.arange(AGENTS) > 0) | (state.time != 1))
    return jnp.where(acts[:, None], allowed, jnp.arange(ACTIONS) == 0)


def central(state: Crew, seen: Any) -> Any:
    """``[A, 3]``: what all but the first see first, and the time."""
    return jnp.tile(jnp.append(seen[1:, 0], 1.0 * state.time), (AGENTS, 1))


def crew(shared: bool = False) -> TeamEnv:
    """The environment; each earns what it does, or all earn the mean of that."""

    def step(key: Any, state: Crew, action: Any) -> tuple[Crew, TeamStep]:
        after = Crew(state.secret, state.time + 1)
        own = action.astype(jnp.float32) * jnp.array([1.0, 0.5, 0.25])
        reward = jnp.full(AGENTS, jnp.mean(own)) if shared else own
        over = after.time >= 3 + state.secret
        shaping = -jnp.arange(AGENTS, dtype=jnp.float32)
        won = (state.secret == 1).astype(jnp.float32)
        return after, TeamStep(seen(after), reward, over, shaping, won)

    return TeamEnv(
        name="probe/crew", observation_size=2, action_size=ACTIONS, episode_length=LIMIT, discrete=True,
        kinds=(0,) * AGENTS, critic_size=3, reset=reset, step=step, legal_actions=legal, alive=alive,
        turns=True, state=central,
        shared_reward=shared, wins=True, shapes=True,
    )  # fmt: skip


def install(monkeypatch: pytest.MonkeyPatch, shared: bool = False) -> None:
    """As ``env=jaxmarl/crew``."""
    monkeypatch.setitem(registry.SOURCES, "jaxmarl", lambda task: crew(shared))


class Twin:
    """The same team in plain Python, from what it shows at first."""

    def __init__(self, shown: np.ndarray, shared: bool) -> None:
        self.secret, self.time, self.total = float(shown[0, 0]) // 10, 0, 0.0
        self.shared = shared

    def step(self, action: np.ndarray) -> dict[str, Any]:
        """What one interaction tells each agent."""
        own = action * np.array([1.0, 0.5, 0.25])
        reward = np.full(AGENTS, own.mean()) if self.shared else own
        self.time += 1
        self.total += float(own.mean() if self.shared else own.sum())
        over = self.time >= 3 + self.secret
        return {
            "reward": reward, "terminated": over, "truncated": not over and self.time >= LIMIT,
            "episode_return": self.total, "elapsed": self.time, "outcome": float(self.secret == 1),
        }  # fmt: skip
