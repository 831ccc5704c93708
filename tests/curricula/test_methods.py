"""What each curriculum proposes, and that it finds what can be learned."""

import functools
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from frontier import LEVELS, Cycle, cycles, share_at_the_frontier

from sparse_rl.curricula import KINDS, METHODS, Method
from sparse_rl.settings.curricula import CURRICULUM_CONFIGS, build_curriculum

NEW, REPLAYED, MUTATED, SCOUTED = range(len(KINDS))
N, CYCLES = 8, 120
REPLAYS: dict[str, Any] = {
    "buffer_size": 150,
    "minimum_fill": 0.4,
    "temperature": 0.5,
    "staleness": 0.1,
    "score": "learnability",
}
SETTINGS: dict[str, dict[str, Any]] = {
    "dr": {},
    "plr": REPLAYS | {"replay_probability": 0.7},
    "plr_robust": REPLAYS | {"replay_probability": 0.7, "replacement": False},
    "plr_parallel": REPLAYS,
    "accel": REPLAYS,
    "accel_parallel": REPLAYS | {"edits": 4},
    "sfl": {"scouts": 1.4, "period": 20, "kept": 0.05, "replayed": 0.4},
}
NEEDED = 60
"""0.4 of 150."""


def method_of(name: str) -> Method:
    return METHODS[name](build_curriculum({"method": name, **SETTINGS[name]}), LEVELS, N)


@functools.cache
def made(name: str) -> Sequence[Cycle]:
    """One study of each method serves all tests."""
    return cycles(method_of(name), CYCLES)


def kinds(cycle: Cycle) -> list[int]:
    return cycle.proposal.kind.tolist()


def same(levels: Any, others: Any) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(levels, others, strict=True))


def held(cycle: Cycle) -> Any:
    """The buffer before the cycle."""
    return getattr(cycle.before, "kept", cycle.before).buffer


def test_every_method_of_the_settings_is_built() -> None:
    # paired has learners of its own in place of a method
    assert set(METHODS) == set(CURRICULUM_CONFIGS) - {"none", "paired"}


def test_domain_randomisation_has_new_levels_in_every_cycle() -> None:
    many = made("dr")
    assert all(kinds(c) == [NEW] * N and c.proposal.learns for c in many)
    names = np.concatenate([c.proposal.levels.name for c in many])
    assert len(set(names.tolist())) == CYCLES * N


@pytest.mark.parametrize("method", ["plr", "plr_robust"])
def test_level_replay_plays_new_levels_or_old_ones(method: str) -> None:
    many = made(method)
    for c in many:
        again = kinds(c) == [REPLAYED] * N
        assert again or kinds(c) == [NEW] * N
        assert c.proposal.learns == (again or method == "plr")
        if again:
            there = [leaf[c.proposal.place] for leaf in held(c).levels]
            assert same(c.proposal.levels, there)
            if method == "plr_robust":
                assert len(set(c.proposal.place.tolist())) == N
        else:
            assert (c.proposal.place == -1).all()
    late = [kinds(c)[0] == REPLAYED for c in many if held(c).filled.sum() >= NEEDED]
    # with probability 0.7, within four standard errors
    assert abs(np.mean(late) - 0.7) < 4 * np.sqrt(0.21 / len(late))


@pytest.mark.parametrize("method", ["plr", "plr_robust", "plr_parallel", "accel", "accel_parallel"])
def test_nothing_is_replayed_before_there_is_enough(method: str) -> None:
    early = [c for c in made(method) if held(c).filled.sum() < NEEDED]
    assert len(early) >= 2
    for c in early:
        assert set(kinds(c)) == {NEW}
        assert c.proposal.learns == (method == "plr")
    first = made(method)[len(early) :]
    assert any(REPLAYED in kinds(c) for c in first[:8])


@pytest.mark.parametrize("method", ["plr", "accel"])
def test_a_level_was_seen_in_the_cycle_in_which_it_was_played(method: str) -> None:
    for i, c in enumerate(made(method)):
        buffer = getattr(c.after, "kept", c.after).buffer
        assert int(getattr(c.after, "kept", c.after).cycle) == i + 1
        played = np.isin(buffer.levels.name[buffer.filled], c.proposal.levels.name)
        seen = buffer.seen[buffer.filled]
        assert (seen <= i).all()
        if REPLAYED in kinds(c):
            assert (buffer.seen[c.proposal.place] == i).all()
        if played.any() and NEW in kinds(c):
            assert seen[played].max() == i


def test_parallel_replay_learns_from_old_levels_with_new_ones_beside() -> None:
    ready = [c for c in made("plr_parallel") if held(c).filled.sum() >= NEEDED]
    for c in ready:
        assert kinds(c) == [REPLAYED] * N + [NEW] * N
        assert c.proposal.learns
        assert same(
            [x[:N] for x in c.proposal.levels], [x[c.proposal.place[:N]] for x in held(c).levels]
        )
    names = np.concatenate(
        [c.proposal.levels.name[c.proposal.kind == NEW] for c in made("plr_parallel")]
    )
    assert len(set(names.tolist())) == len(names)


def test_accel_edits_what_it_just_replayed_and_learns_from_replays_alone() -> None:
    many, edited, taken = made("accel"), 0, 0
    for before, c in itertools.pairwise(many):
        after_replay = kinds(before)[0] == REPLAYED
        assert (kinds(c) == [MUTATED] * N) == after_replay
        assert c.proposal.learns == (kinds(c)[0] == REPLAYED)
        if after_replay:
            edited += 1
            assert same(c.proposal.levels.name[None], before.proposal.levels.name[None])
            # the parents are where they were replayed from, and an edit keeps its parent's name
            np.testing.assert_array_equal(c.proposal.place, before.proposal.place)
            assert same(held(c).levels.name[c.proposal.place][None], c.proposal.levels.name[None])
            moved = np.abs(c.proposal.levels.difficulty - before.proposal.levels.difficulty)
            assert 0 < moved.max() <= 60  # 20 edits of at most 3
            parents = {tuple(w) for w in held(c).hash[c.proposal.place].tolist()}
            was = {tuple(w) for w in held(c).hash[held(c).filled].tolist()}
            after = c.after.kept.buffer
            new = [i for i in np.flatnonzero(after.filled) if tuple(after.hash[i].tolist()) not in was]
            assert {tuple(after.parent[i].tolist()) for i in new} <= parents
            taken += len(new)
    assert edited > 10
    assert taken > 10


@pytest.mark.parametrize("name", ["plr_robust", "accel"])
def test_the_highest_return_is_of_the_level_and_not_of_its_parent(name: str) -> None:
    method, replays = method_of(name), 0
    for c in made(name):
        known = np.asarray(method.highest(c.before, c.proposal))
        if kinds(c)[0] == REPLAYED:
            replays += 1
            np.testing.assert_array_equal(known, held(c).highest[c.proposal.place])
        else:
            assert (known == -np.inf).all()
    assert replays > 10


def test_parallel_accel_edits_what_it_replays() -> None:
    for c in made("accel_parallel")[20:]:
        assert kinds(c) == [REPLAYED] * N + [MUTATED] * N + [NEW] * N
        names, hard = c.proposal.levels.name, c.proposal.levels.difficulty
        assert same(names[None, :N], names[None, N : 2 * N])
        assert np.abs(hard[:N] - hard[N : 2 * N]).max() <= 12  # four edits of at most 3
        assert not set(names[2 * N :].tolist()) & set(names[:N].tolist())
        assert c.proposal.learns


def test_sampling_for_learnability_replays_what_was_scouted_lately() -> None:
    scouted: list[list[tuple[float, int]]] = []
    for i, c in enumerate(made("sfl")):
        names = c.proposal.levels.name.tolist()
        assert c.proposal.learns
        assert kinds(c)[N:] == [SCOUTED] * 11  # 1.4 · 8
        assert kinds(c)[:N] == ([REPLAYED] * 3 + [NEW] * 5 if i else [NEW] * N)
        if i:
            lately = {name: s for cycle in scouted[-20:] for s, name in cycle}
            least = sorted(lately.values(), reverse=True)[:11][-1]  # 0.05 · 20 · 11 are kept
            assert all(lately[name] >= least for name in names[:3])
            assert len(set(names[:3])) == 3
        scouted.append(list(zip(c.outcome.score[N:].tolist(), names[N:], strict=True)))


@pytest.mark.parametrize("method", METHODS)
def test_a_curriculum_finds_what_is_solved_every_other_time(method: str) -> None:
    """A twentieth of all levels is solved with a probability from 0.1 to 0.9."""
    found = share_at_the_frontier(made(method), N)
    if method == "dr":
        assert 0.02 < found < 0.08
    else:
        # plr learns from new levels, too, as does sfl from more than half; and eight different levels of
        # a buffer of 150 are not all among the best
        assert found > {"plr": 0.4, "plr_robust": 0.5, "sfl": 0.25}.get(method, 0.8)


def test_the_method_of_the_documentation_works() -> None:
    """It is short, and finds in a hundred cycles what can be learned."""
    page = (Path(__file__).parents[2] / "docs" / "curricula.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(code.splitlines()) <= 40
    written: dict[str, Any] = {}
    exec(code, written)
    many = cycles(written["make"](None, LEVELS, 2 * N), CYCLES)
    # half of what it learns from is new
    assert share_at_the_frontier(many, 2 * N) > 0.3
