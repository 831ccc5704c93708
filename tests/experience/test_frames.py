"""The replay buffer of pictures: n steps by hand, and beside a naive buffer that keeps stacks."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from sparse_rl.envs import Spec
from sparse_rl.experience import rings
from sparse_rl.experience.frames import FrameBuffer, frame_buffer
from sparse_rl.experience.replay import Transition
from sparse_rl.experience.rings import Ring

KEY = jax.random.key(0)
SIDE, STACK, N_STEPS, GAMMA = 2, 3, 3, 0.9


def buffer(num_envs: int = 1) -> FrameBuffer:
    return FrameBuffer((SIDE, SIDE, STACK), STACK, 1, num_envs, N_STEPS, GAMMA)


class Stacks:
    """Episodes of one environment: picture t of the episode that began at b shows b + t everywhere."""

    def __init__(self) -> None:
        self.shown = [0] * STACK
        self.held: list[dict[str, Any]] = []

    def interact(self, reward: float, ends: str = "") -> tuple[Transition, bool]:
        """One interaction; ``ends``: ``terminated`` or ``truncated``."""
        before, newest = self.shown, self.shown[-1] + 1
        after = [*before[1:], newest]
        self.held.append({"seen": before, "after": after, "reward": reward, "ends": ends})
        self.shown = [newest + 1] * STACK if ends else after
        seen, following = (np.tile(np.array(x, np.uint8), SIDE * SIDE) for x in (before, after))
        action = np.array([before[-1] / 100], np.float32)
        return Transition(seen, action, reward, following, ends == "terminated"), ends == "truncated"  # type: ignore[arg-type]

    def sample(self, i: int) -> tuple[list[int], float, list[int], float]:
        """Observation, n-step reward, successor and bootstrap of the sample that begins at i."""
        reward, worth = 0.0, 1.0
        for step in self.held[i : i + N_STEPS]:
            reward, worth = reward + worth * step["reward"], worth * GAMMA
            if step["ends"]:
                break
        worth = 0.0 if step["ends"] == "terminated" else worth
        return self.held[i]["seen"], reward, step["after"], worth


class Compiled(NamedTuple):
    """A buffer's programs."""

    add: Any
    sample: Any


@functools.cache
def compiled(kept: FrameBuffer) -> Compiled:
    return Compiled(jax.jit(kept.add), jax.jit(kept.sample, static_argnums=2))


def keep(kept: FrameBuffer, held: Ring, done: list[tuple[Transition, bool]]) -> Ring:
    """Add an interaction of every environment."""
    batch = jax.tree.map(lambda *x: np.stack(x), *[d[0] for d in done])
    return compiled(kept).add(held, batch, np.array([d[1] for d in done]))


def one_of(observation: Any) -> list[int]:
    """What the pictures of an observation show."""
    stack = np.asarray(observation).reshape(SIDE * SIDE, STACK)
    assert (stack == stack[0]).all()
    return [int(x) for x in stack[0]]


def test_n_steps_by_hand() -> None:
    """Rewards 1, 2, 3, 4, terminated; then 5, 6, truncated; then 7 … on. Rows 4 and 7 are last pictures.

    From the third interaction: 3 + 0.9 · 4, terminated, nothing to bootstrap from. From the sixth: 6,
    truncated after one step, worth 0.9 of what is seen last.
    """
    kept, episodes = buffer(), Stacks()
    held = kept.init(20)
    ends = {4: "terminated", 6: "truncated"}
    for i in range(1, 11):
        held = keep(kept, held, [episodes.interact(float(i), ends.get(i, ""))])
    assert int(held.size[0]) == 12
    batch = kept.at(held, jnp.zeros(6, jnp.int32), jnp.array([0, 1, 2, 3, 5, 6]))
    rewards = [1 + 1.8 + 2.43, 2 + 2.7 + 3.24, 3 + 3.6, 4, 5 + 5.4, 6]
    np.testing.assert_allclose(batch.reward, rewards, rtol=1e-6)
    np.testing.assert_allclose(batch.bootstrap, [0.729, 0, 0, 0, 0.81, 0.9], rtol=1e-6)
    assert [one_of(x) for x in batch.observation] == [
        [0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 3], [5, 5, 5], [5, 5, 6],
    ]  # fmt: skip
    assert [one_of(x) for x in batch.next_observation] == [
        [1, 2, 3], [2, 3, 4], [2, 3, 4], [2, 3, 4], [5, 6, 7], [5, 6, 7],
    ]  # fmt: skip


@pytest.mark.parametrize("num_envs", [1, 3])
def test_samples_are_those_of_a_naive_buffer_of_stacks(num_envs: int) -> None:
    """Random episodes, some of one interaction, in rings that wrap around."""
    rng = np.random.default_rng(0)
    kept, envs = buffer(num_envs), [Stacks() for _ in range(num_envs)]
    held = kept.init(24 * num_envs)
    for t in range(60):
        ends = rng.choice(["", "", "", "terminated", "truncated"], num_envs)
        done = [env.interact(float(rng.normal()), str(end)) for env, end in zip(envs, ends, strict=True)]
        held = keep(kept, held, done)
        if t % 6 != 5:
            continue
        batch = jax.device_get(compiled(kept).sample(held, jax.random.fold_in(KEY, t), 64))
        naive = [env.sample(i) for env in envs for i in range(len(env.held))]
        for i in range(64):
            seen, after = one_of(batch.observation[i]), one_of(batch.next_observation[i])
            same = [n for n in naive if n[0] == seen and n[2] == after]
            numbers = [batch.reward[i], batch.bootstrap[i]]
            assert any(np.allclose(numbers, [n[1], n[3]], atol=1e-5) for n in same)
            assert batch.action[i, 0] == np.float32(seen[-1] / 100)


def test_every_interaction_that_can_begin_a_sample_is_as_likely_as_any_other() -> None:
    """Eight interactions in two episodes, eleven rows: the last three rows cannot begin one."""
    kept, episodes = buffer(), Stacks()
    held = kept.init(40)
    for i in range(8):
        held = keep(kept, held, [episodes.interact(0.0, "truncated" if i in (2, 4) else "")])
    batch = compiled(kept).sample(held, KEY, 6000)
    counts = np.bincount(np.round(100 * np.asarray(batch.action[:, 0])).astype(int))
    begun = np.flatnonzero(counts)
    assert begun.tolist() == [0, 1, 2, 4, 5]  # 3 and 6 are last pictures; 7, 8 and 9 lack successors
    np.testing.assert_allclose(counts[begun], 1200, rtol=0.1)


def test_samples_are_uniform_over_all_environments_and_what_is_forgotten_begins_none() -> None:
    """Two rings of seventeen that wrap around, with ends at other places: what can begin a sample is not
    last, has three rows after it, and the two pictures under it are held."""
    kept, envs = buffer(2), [Stacks(), Stacks()]
    held = kept.init(34)
    rows: tuple[list[float], list[float]] = ([], [])
    for t in range(23):
        ends = ["truncated" if t % 4 == 3 else "", "terminated" if t in (12, 20) else ""]
        done = [env.interact(0.0, end) for env, end in zip(envs, ends, strict=True)]
        held = keep(kept, held, done)
        for ring, (seen, _), end in zip(rows, done, ends, strict=True):
            ring.append(float(seen.action[0]))
            ring += [np.nan] if end else []  # the last picture's row
    fit = [[x for x in ring[-17:][STACK - 1 : 17 - N_STEPS] if x == x] for ring in rows]
    assert [len(ring) for ring in fit] == [9, 11]
    env, place = jax.device_get(kept._draw(held, KEY, 10000))
    actions = np.asarray(held.rows.action)[env, place, 0]
    counts = [np.sum((env == i) & (actions == np.float32(x))) for i in (0, 1) for x in fit[i]]
    assert sum(counts) == 10000
    assert stats.chisquare(counts).pvalue > 0.01


def test_each_picture_is_kept_once_in_bytes() -> None:
    """A million of 84×84×3, three stacked: 21.2 GB, where stacks of both observations take 127 GB."""
    kept = FrameBuffer((84, 84, 9), 3, 1, 1, 3, 0.99)
    shapes = jax.eval_shape(lambda: kept.init(1_000_000))
    assert shapes.rows.picture.size * shapes.rows.picture.dtype.itemsize == 84 * 84 * 3 * 1_000_000
    others = (shapes.rows.action, shapes.rows.reward, shapes.rows.last, shapes.rows.terminated)
    assert sum(x.size * x.dtype.itemsize for x in others) == 10 * 1_000_000


@pytest.mark.parametrize(("interactions", "rows"), [(4, 4), (13, 15), (15, 18)])
def test_there_is_room_for_the_last_pictures_of_episodes(interactions: int, rows: int) -> None:
    """Episodes of nine frames, two at a time, are five interactions; two environments."""
    seen = Spec(
        name="nine frames", observation_size=SIDE * SIDE * STACK, action_size=1, episode_length=9,
        picture=(SIDE, SIDE, STACK), frames=STACK,
    )  # fmt: skip
    kept, envs = frame_buffer(N_STEPS, GAMMA, 2, seen, 2), [Stacks(), Stacks()]
    held, add = kept.init(2 * interactions), jax.jit(kept.add)
    for t in range(interactions):
        done = [env.interact(float(t), "truncated" if t % 5 == 4 else "") for env in envs]
        batch = jax.tree.map(lambda *x: np.stack(x), *[d[0] for d in done])
        held = add(held, batch, np.array([d[1] for d in done]))
    assert held.rows.reward.shape == (2, rows)
    for env in range(2):
        began = ~np.asarray(held.rows.last[env])
        assert np.asarray(held.rows.reward[env])[began].tolist() == list(range(interactions))


def test_a_buffer_comes_back_from_disk_as_it_was() -> None:
    kept, episodes = buffer(), Stacks()
    held = kept.init(20)
    for t in range(30):
        held = keep(kept, held, [episodes.interact(float(t), "truncated" if t % 7 == 6 else "")])
        if t in (8, 29):  # partly filled, and wrapped around
            back = rings.from_disk(rings.to_disk(held), jax.eval_shape(lambda: kept.init(20)))
            jax.tree.map(np.testing.assert_array_equal, back, held)
    assert len(rings.to_disk(kept.init(20))["reward"][0]) == 0
