"""The level buffer beside one in plain Python that takes levels one at a time."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_rl.curricula import buffer as buffers
from sparse_rl.curricula.buffer import Candidates, LevelBuffer, Priorities
from sparse_rl.kernels.keys import key_of

INF = np.inf


class Level(NamedTuple):
    walls: Any
    """bool ``[3, 2]``."""
    goal: Any
    """int32 ``[2]``."""
    friction: Any
    """float32."""


def level(number: int) -> Level:
    bits = [(number >> i) & 1 for i in range(6)]
    goal = np.array([number % 7, -number], np.int32)
    return Level(np.array(bits, bool).reshape(3, 2), goal, np.float32(number / 3))


def levels(numbers: Any) -> Level:
    many = [level(int(n)) for n in numbers]
    return Level(*(jnp.asarray(np.stack(field)) for field in zip(*many, strict=True)))


def numbers_of(buffer: LevelBuffer) -> list[int]:
    """Which levels it holds, place by place."""
    return [int(-goal[1]) for goal in np.asarray(buffer.levels.goal)]


def candidates(numbers: list[int], score: list[float], highest: list[float]) -> Candidates:
    parent = jnp.zeros((len(numbers), 2), jnp.uint32)
    return Candidates(levels(numbers), jnp.float32(score), jnp.float32(highest), parent)


def empty(places: int) -> LevelBuffer:
    return buffers.empty(jax.eval_shape(lambda: level(0)), places)


insert = jax.jit(buffers.insert, static_argnums=3)
replayed = jax.jit(buffers.replayed)
RANK = Priorities("rank", 0.3, 0.4)
PROPORTIONAL = Priorities("proportional", 0.7, 0.2)


def likely(score: list[float], seen: list[int], cycle: int, priorities: Priorities) -> np.ndarray:
    """Probabilities by the papers' formulas, in float64."""
    filled = [i for i, s in enumerate(score) if s > -INF]
    if not filled:
        return np.zeros(len(score))
    if priorities.by == "rank":
        ranked = sorted(filled, key=lambda i: (-score[i], i))
        by_score = {i: (1 + ranked.index(i)) ** (-1 / priorities.temperature) for i in filled}
    else:
        by_score = {i: max(score[i], 0.0) ** (1 / priorities.temperature) for i in filled}
    ages: dict[int, float] = {i: cycle - seen[i] for i in filled}
    parts = []
    for weight in (by_score, ages):
        total = sum(weight.values())
        parts.append({i: w / total if total else 1 / len(filled) for i, w in weight.items()})
    rho = priorities.staleness
    return np.array(
        [(1 - rho) * parts[0][i] + rho * parts[1][i] if i in filled else 0 for i in range(len(score))]
    )


@pytest.mark.parametrize("priorities", [RANK, PROPORTIONAL])
@pytest.mark.parametrize(
    "score",
    [
        [0.3, -INF, 0.9, 0.3, -0.2, 0.05],
        [0.5, 0.5, 0.5, 0.5, -INF, 0.5],
        [-0.5, -0.1, -INF, -0.3, -2.0, -0.1],
        [-INF] * 6,
    ],
    ids=["some", "equal", "negative", "none"],
)
@pytest.mark.parametrize("seen", [[3, 0, 1, 6, 7, 2], [7] * 6], ids=["old", "all seen now"])
def test_probabilities_by_the_formulas(
    priorities: Priorities, score: list[float], seen: list[int]
) -> None:
    got = buffers.weights(jnp.float32(score), jnp.int32(seen), jnp.int32(7), priorities)
    np.testing.assert_allclose(got, likely(score, seen, 7, priorities), rtol=2e-6, atol=1e-9)


def test_no_score_is_too_small_or_too_large_to_be_proportional_to() -> None:
    sharp = Priorities("proportional", 0.1, 0.0)
    for scale in (1e-8, 1e8):
        got = buffers.weights(scale * jnp.float32([3, 2]), jnp.zeros(2, jnp.int32), jnp.int32(1), sharp)
        np.testing.assert_allclose(got, np.array([3**10, 2**10]) / (3**10 + 2**10), rtol=1e-5)


class Entry(NamedTuple):
    number: int
    score: float
    highest: float
    seen: int


def take_in(
    held: list[Entry], new: list[tuple[int, float, float]], cycle: int, places: int, by: Priorities
) -> list[Entry]:
    """What :func:`~.buffer.insert` is to do, a step at a time."""
    held = list(held)
    for i, entry in enumerate(held):
        again = [(s, h) for n, s, h in new if n == entry.number]
        scores = [s for s, _ in again if s > -INF]
        if scores:
            score = math.fsum(scores) / len(scores)
            highest = max(entry.highest, *(h for s, h in again if s > -INF))
            entry = entry._replace(score=score, highest=highest)
        if again:
            held[i] = entry._replace(seen=cycle)
    for number, score, highest in new:
        if score > -INF and number not in [entry.number for entry in held]:
            held.append(Entry(number, score, highest, cycle))
    weight = likely([e.score for e in held], [e.seen for e in held], cycle, by)
    best = sorted(range(len(held)), key=lambda i: (-weight[i], i))[:places]
    return [held[i] for i in sorted(best)]


@pytest.mark.parametrize("by", [RANK, PROPORTIONAL])
@pytest.mark.parametrize("seed", range(4))
def test_twenty_cycles_as_one_level_at_a_time(by: Priorities, seed: int) -> None:
    """Levels come again, come twice in a batch, come without an episode that ended, and are evicted."""
    drawn, places = np.random.default_rng(seed), 8
    buffer, held = empty(places), list[Entry]()
    for cycle in range(20):
        numbers = drawn.integers(0, 40, 6)
        numbers[drawn.random(6) < 0.3] = numbers[0]
        scores = np.where(drawn.random(6) < 0.2, -INF, drawn.normal(size=6).astype(np.float32))
        highest = np.where(scores > -INF, drawn.normal(size=6).astype(np.float32), -INF)
        new = list(zip(numbers.tolist(), scores.tolist(), highest.tolist(), strict=True))
        held = take_in(held, new, cycle, places, by)
        given = candidates(numbers.tolist(), scores.tolist(), highest.tolist())
        buffer = insert(buffer, given, jnp.int32(cycle), by)
        n = len(held)
        assert int(buffer.filled.sum()) == n == int(buffer.filled[:n].sum())
        assert numbers_of(buffer)[:n] == [entry.number for entry in held]
        np.testing.assert_allclose(buffer.score[:n], [e.score for e in held], rtol=1e-6)
        np.testing.assert_allclose(buffer.highest[:n], [e.highest for e in held], rtol=1e-6)
        np.testing.assert_array_equal(buffer.seen[:n], [e.seen for e in held])
        np.testing.assert_array_equal(buffer.hash[:n], buffers.hashes(buffer.levels)[:n])
    assert len(held) == places
    assert len({entry.seen for entry in held}) > 2


def test_what_comes_in_was_seen_now_whatever_it_displaces() -> None:
    """A public sampler hands the age of what was evicted on to what comes in."""
    buffer = insert(empty(2), candidates([1, 2], [0.1, 0.2], [0, 0]), jnp.int32(0), PROPORTIONAL)
    buffer = insert(buffer, candidates([3], [5.0], [0]), jnp.int32(5), PROPORTIONAL)
    assert dict(zip(numbers_of(buffer), buffer.seen.tolist(), strict=True)) == {2: 0, 3: 5}


def test_a_replay_keeps_the_highest_return_and_means_the_scores_of_one_batch() -> None:
    """Public code keeps the newest return, and of a level that was played twice the last score."""
    buffer = insert(empty(3), candidates([4, 5], [0.1, 0.2], [0.9, -4.0]), jnp.int32(2), RANK)
    place, score = jnp.int32([0, 0, -1, 1]), jnp.float32([0.3, 0.7, 9.0, -INF])
    after = replayed(buffer, place, score, jnp.float32([0.2, 0.4, 9.0, -INF]), jnp.int32(6))
    np.testing.assert_allclose(after.score, [0.5, 0.2, -INF], rtol=1e-6)
    np.testing.assert_allclose(after.highest[:2], [0.9, -4.0], rtol=1e-6)
    assert after.seen.tolist() == [6, 6, 0]
    again = replayed(after, jnp.int32([1]), jnp.float32([0]), jnp.float32([-3.5]), jnp.int32(7))
    assert float(again.highest[1]) == -3.5


def test_equal_hashes_are_not_yet_equal_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "hashes", lambda levels: jnp.ones((len(levels.goal), 2), jnp.uint32))
    taken = jax.jit(lambda new: buffers.insert(empty(4), new, jnp.int32(0), RANK))
    buffer = taken(candidates([1, 2, 1], [1, 2, 3], [0, 0, 0]))
    assert numbers_of(buffer)[:2] == [1, 2]
    assert int(buffer.filled.sum()) == 2
    more = jax.jit(lambda kept, new: buffers.insert(kept, new, jnp.int32(1), RANK))
    buffer = more(buffer, candidates([3, 1], [5, 4], [0, 0]))
    assert numbers_of(buffer)[:3] == [1, 2, 3]  # 3 is no replay of 1, though it looks like one
    np.testing.assert_array_equal(buffer.score[:3], [4.0, 2.0, 5.0])


def test_hashes_tell_levels_apart_by_every_field() -> None:
    words = np.asarray(buffers.hashes(levels(range(4000))))
    assert len({tuple(word) for word in words.tolist()}) == 4000
    for half in range(2):
        # of 4000 drawn from 2³² about 0.002 pairs are equal
        assert len(set(words[:, half].tolist())) >= 3999
        bits = (words[:, half, None] >> np.arange(32)) & 1
        assert np.abs(bits.mean(axis=0) - 0.5).max() < 0.1
    base = levels([9])
    for change in (
        base._replace(walls=base.walls.at[0, 2, 1].set(~base.walls[0, 2, 1])),
        base._replace(goal=base.goal + 1),
        base._replace(goal=base.goal[:, ::-1]),
        base._replace(friction=base.friction * 2),
    ):
        assert not np.array_equal(buffers.hashes(change), buffers.hashes(base))


def test_draws_follow_the_probabilities() -> None:
    probability = jnp.float32([0.1, 0.0, 0.25, 0.65])
    often = buffers.draw(key_of(3), probability, 20_000, replacement=True)
    shares = np.bincount(np.asarray(often), minlength=4) / 20_000
    # five standard errors of the largest
    np.testing.assert_allclose(shares, probability, atol=5 * math.sqrt(0.65 * 0.35 / 20_000))
    keys = jax.random.split(key_of(4), 4000)
    pairs = jax.vmap(lambda key: buffers.draw(key, probability, 2, replacement=False))(keys)
    assert bool(jnp.all(pairs[:, 0] != pairs[:, 1]))
    assert not bool(jnp.any(pairs == 1))
    first = np.bincount(np.asarray(pairs[:, 0]), minlength=4) / 4000
    np.testing.assert_allclose(first, probability, atol=5 * math.sqrt(0.65 * 0.35 / 4000))
