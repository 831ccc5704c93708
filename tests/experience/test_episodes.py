"""The replay buffer of teams against plain lists: what follows what, over ends of episodes and rings."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_rl.envs import Spec
from sparse_rl.experience import Happened, Steps, episode_buffer, rings

LENGTH, ENVS, AGENTS = 3, 2, 2
KEY = jax.random.key(4)


def row(number: Any, first: Any) -> Steps:
    """One of each environment, in which all says the number."""
    numbers = jnp.asarray(number, jnp.float32)
    each = jnp.tile(numbers[:, None], (1, AGENTS))
    flag = jnp.zeros(ENVS, bool)
    return Steps(
        observation=each[..., None] + jnp.array([0.0, 0.25])[:, None], state=numbers[:, None],
        legal=None, weight=None, memory=(each[..., None] * 2, each[..., None] * 3),
        action=each.astype(jnp.int32), reward=each + 0.5, shaping=None,
        first=jnp.asarray(first), last=flag, terminated=flag,
    )  # fmt: skip


def buffer(episode_length: int = 100) -> Any:
    spec = Spec(name="x", observation_size=1, action_size=9, episode_length=episode_length)
    return episode_buffer(LENGTH, lambda n: row(np.zeros(n), np.zeros(n, bool)), 2, spec, ENVS)


class Naive:
    """Lists of ``(number, first, last, terminated)`` of each environment."""

    def __init__(self, room: int) -> None:
        self.rows: list[list[tuple[float, bool, bool, bool]]] = [[] for _ in range(ENVS)]
        self.room, self.number, self.first = room, 0, [True] * ENVS

    def act(self, kept: Any, held: Any, ends: list[str]) -> Any:
        """One interaction, after which episodes end by themselves (t), by time (u), or not."""
        first, now = list(self.first), [self.number + 1000.0 * e for e in range(ENVS)]
        self.number += 1
        after = [x + 0.125 for x in now]
        for e, end in enumerate(ends):
            self.rows[e].append((now[e], first[e], False, False))
            if end:
                self.rows[e].append((after[e], False, True, end == "t"))
            self.first[e] = bool(end)
            self.rows[e] = self.rows[e][-self.room :]
        terminated = jnp.array([end == "t" for end in ends])
        truncated = jnp.array([end == "u" for end in ends])
        nobody = np.zeros(ENVS, bool)
        successor = row(after, nobody)._replace(terminated=terminated)
        return kept.add(held, Happened(row(now, first), successor), truncated)


def filled(interactions: int, seed: int, room: int, steps: int) -> tuple[Any, Any, Naive]:
    rng = np.random.default_rng(seed)
    kept = buffer(episode_length=8)
    held, naive = kept.init(interactions * ENVS), Naive(room)
    add = jax.jit(kept.add)
    for _ in range(steps):
        ends = [str(rng.choice(["", "", "", "t", "u"])) for _ in range(ENVS)]
        held = naive.act(kept._replace(add=add), held, ends)
    return kept, held, naive


@pytest.mark.parametrize("steps", [9, 60])
def test_samples_are_rows_that_followed_each_other(steps: int) -> None:
    """Also over ends of episodes, and once the ring is full; every row that can begin one does."""
    seed = int(np.random.default_rng().integers(2**31))
    print(f"seed {seed}")
    kept, held, naive = filled(12, seed, 12 + 12 // 4, steps)  # an episode is 4 interactions
    assert held.capacity == naive.room
    assert [int(n) for n in held.size] == [len(rows) for rows in naive.rows]
    batch = jax.tree.map(np.asarray, jax.jit(kept.sample, static_argnums=2)(held, KEY, 4000))
    assert batch.reward.shape == (LENGTH + 1, 4000, AGENTS)
    begins: set[float] = set()
    every = {start[0]: (e, i) for e, rows in enumerate(naive.rows) for i, start in enumerate(rows)}
    for n in range(4000):
        begin = float(batch.state[0, n, 0])
        begins.add(begin)
        e, i = every[begin]
        expected = naive.rows[e][i : i + LENGTH + 1]
        assert len(expected) == LENGTH + 1
        number = np.array([x[0] for x in expected])
        np.testing.assert_array_equal(batch.state[:, n, 0], number)
        np.testing.assert_array_equal(batch.observation[:, n, 1, 0], number + 0.25)
        np.testing.assert_array_equal(batch.memory[1][:, n, 0, 0], 3 * number)
        np.testing.assert_array_equal(batch.reward[:, n, 1], number + 0.5)
        for field, k in (("first", 1), ("last", 2), ("terminated", 3)):
            np.testing.assert_array_equal(getattr(batch, field)[:, n], [x[k] for x in expected])
    assert begins == {x[0] for rows in naive.rows for x in rows[:-LENGTH]}
    share = np.mean(batch.state[0, :, 0] < 1000.0)
    assert abs(share - 0.5) < 5 * 0.5 / np.sqrt(4000)  # environments alike


def test_environments_are_not_drawn_together_with_rows() -> None:
    kept, held, naive = filled(12, 1, 15, 60)
    batch = jax.tree.map(np.asarray, kept.sample(held, KEY, 2000))
    places = {x[0]: (e, i) for e, rows in enumerate(naive.rows) for i, x in enumerate(rows)}
    found = np.array([places[float(x)] for x in batch.state[0, :, 0]])
    correlation = np.corrcoef(found.T)[0, 1]
    assert abs(correlation) < 5 / np.sqrt(2000)


@pytest.mark.parametrize("steps", [2, 9, 60])
def test_it_comes_back_from_disk_as_it_was(steps: int) -> None:
    kept, held, _ = filled(12, 2, 15, steps)
    like = jax.eval_shape(lambda: kept.init(12 * ENVS))
    written = rings.to_disk(held)
    assert {"memory/0", "memory/1", "observation", "position", "size"} < set(written)
    assert len(written["reward"][0]) == int(held.size.max())  # and nothing that was never written
    back = rings.from_disk(written, like)
    for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(held), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_there_is_room_for_the_last_rows_of_episodes() -> None:
    assert buffer(episode_length=8).init(2 * 20).capacity == 20 + 5
    assert buffer(episode_length=7).init(2 * 20).capacity == 20 + 5
    assert buffer(episode_length=9).init(2 * 20).capacity == 20 + 4
    assert buffer().init(2).capacity == LENGTH + 1
