"""The lever game (Hu et al. 2020, arXiv 2003.02979, §1): two agents pull one of ten levers each, at once
and without a word. If it is the same one, both have what it pays, else nothing.

Nine levers pay 1 and the tenth 0.9. Who trains together agrees on one of the nine, and earns 1; with a
stranger who did so too, 1/9. Only the tenth can be agreed on without having met.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array

from sparse_rl.envs.contract import Symmetries, TeamEnv, TeamStep

LEVERS = 10
ALIKE, APART = 1.0, 0.9
"""What nine of them pay, and the last."""


def symmetries() -> Symmetries:
    """The nine in a ring, turned: so many that each comes to the place of each other one."""
    ring = np.arange(LEVERS - 1)
    turned = [np.append(np.roll(ring, by), LEVERS - 1) for by in ring]
    return Symmetries(np.zeros((len(ring), 1), np.int32), np.stack(turned).astype(np.int32))


def levers() -> TeamEnv:
    """The game, of one step."""

    def reset(key: Array) -> tuple[Array, Array]:
        del key
        return jnp.int32(0), jnp.zeros((2, 1))

    def step(key: Array, state: Array, action: Array) -> tuple[Array, TeamStep]:
        del key
        pays = jnp.where(action[0] == LEVERS - 1, APART, ALIKE)
        reward = jnp.full(2, jnp.where(action[0] == action[1], pays, 0.0))
        nothing = jnp.zeros(2)
        return state + 1, TeamStep(nothing[:, None], reward, jnp.bool_(True), nothing, jnp.float32(0.0))

    return TeamEnv(
        name="probe/levers",
        observation_size=1,
        action_size=LEVERS,
        episode_length=1,
        discrete=True,
        kinds=(0, 0),
        critic_size=2,
        reset=reset,
        step=step,
        state=lambda state, observation: jnp.zeros((2, 2)),
        symmetries=symmetries(),
    )
