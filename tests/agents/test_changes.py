"""SET, RigL, gradual pruning and resets, step by step beside plain Python: on an agent so small that its
gradients are known."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from tiny import AGENT, ALIVE, FINAL, SHAPE, Learner, random_start, slopes

from sparse_rl.agents.comparators import Comparator, Compared, check_changes
from sparse_rl.agents.contract import RunInputs
from sparse_rl.pruning import Masked
from sparse_rl.settings.pruning import PruningConfig
from sparse_rl.settings.schema import ConfigError

UPDATES = 100
NO_BATCH: Any = None
"""The agent's gradients are the same whatever it learns from."""
BUDGETS = {"actor": {"kernel": FINAL}, "critic": {"0/kernel": FINAL, "1/kernel": FINAL + 2}}


def inputs(seed: int = 1, mask_seed: int = 2) -> RunInputs:
    return RunInputs(jnp.uint32(seed), jnp.uint32(mask_seed), jnp.float32(0.1), BUDGETS)


def comparator(method: Any, drop_share: float = 0.6) -> Comparator:
    pruning = PruningConfig(method=method, change_every=7, change_until=0.75, drop_share=drop_share)
    return Comparator(AGENT, pruning, UPDATES)


def start() -> Learner:
    return random_start(jax.random.key(0), inputs())


def pruned_tensors(learner: Learner) -> list[tuple[Any, Any, list[Any]]]:
    """Of each pruned tensor: its mask, its weights, and all that is held for them."""
    moments = [learner.optimisers[name][0] for name in ("actor", "critic")]
    found = []
    masks = [learner.supports["actor"]["kernel"].mask]
    copies = [[tree["kernel"] for tree in (learner.actor, moments[0].mu, moments[0].nu)]]
    for i in ("0", "1"):
        masks.append(learner.supports["critic"][i]["kernel"].mask)
        trees = learner.critic, learner.target, moments[1].mu, moments[1].nu
        copies.append([tree[i]["kernel"] for tree in trees])
    for mask, held in zip(masks, copies, strict=True):
        found.append((np.asarray(mask), np.asarray(held[0]), [np.asarray(x) for x in held]))
    return found


def after(method: Any, made: int, **changes: Any) -> Learner:
    state = Compared(start(), inputs(**changes))
    found = comparator(method).change_masks(state, NO_BATCH, jnp.int32(made))
    assert found.inputs == state.inputs
    learner: Learner = found.learner
    return learner


def dropped(mask: np.ndarray, weights: np.ndarray, count: int) -> list[int]:
    """The weakest survivors, one after the other."""
    alive = [i for i in range(20) if mask.flat[i]]
    return sorted(alive, key=lambda i: abs(weights.flat[i]))[:count]


def check_kept(
    before: list[np.ndarray], now: list[np.ndarray], old: np.ndarray, new: np.ndarray
) -> None:
    """What was trained and still is keeps all its numbers; everything else has none."""
    for was, held in zip(before, now, strict=True):
        np.testing.assert_array_equal(held, np.where(old & new, was, 0.0))


# 0.3 · (1 + cos(π · 0.3 / 0.75)) = 0.39 of eleven are 4; at half of the run 0.15 are 1, at 0.6 none
@pytest.mark.parametrize(("made", "count"), [(30, 4), (50, 1), (60, 0), (75, 0), (80, 0)])
def test_rigl_drops_the_weakest_and_grows_where_the_gradient_is_largest(made: int, count: int) -> None:
    before, now = start(), after("rigl", made)
    gradients = [slopes()["actor"], *slopes()["critic"].values()]
    for (old, weights, was), (new, _, held), slope in zip(
        pruned_tensors(before), pruned_tensors(now), gradients, strict=True
    ):
        gone = dropped(old, weights, count)
        free = [i for i in range(20) if not old.flat[i] or i in gone]
        strength = np.abs(np.asarray(slope["kernel"])).ravel()
        grown = sorted(free, key=lambda i: -strength[i])[:count]
        expected = (set(np.flatnonzero(old)) - set(gone)) | set(grown)
        assert set(np.flatnonzero(new)) == expected
        assert new.sum() == ALIVE
        check_kept(was, held, old, new)
    np.testing.assert_array_equal(now.actor["bias"], before.actor["bias"])
    mean, same = (learner.optimisers["actor"][0].mu["bias"] for learner in (now, before))
    np.testing.assert_array_equal(mean, same)


def test_set_grows_as_often_at_every_place_that_is_free() -> None:
    """Four of thirteen places, drawn from the masks' seed, at each change and in each tensor anew."""
    state, how = Compared(start(), inputs()), comparator("set")

    def masks(seed: Any, mask_seed: Any, made: Any) -> list[Array]:
        told = state._replace(inputs=inputs()._replace(seed=seed, mask_seed=mask_seed))
        learner = how.change_masks(told, NO_BATCH, made).learner
        return [support.mask for support in jax.tree.leaves(learner.supports, is_leaf=is_masked)]

    many = jnp.arange(600, dtype=jnp.uint32)
    drawn = jax.jit(jax.vmap(masks, (None, 0, None)))(jnp.uint32(1), many, jnp.int32(30))
    for (old, weights, _), new in zip(pruned_tensors(state.learner), drawn, strict=True):
        gone = dropped(old, weights, 4)
        free = np.array([i for i in range(20) if not old.flat[i] or i in gone])
        kept = np.array(sorted(set(range(20)) - set(free)))
        flat = np.asarray(new).reshape(600, 20)
        assert np.all(flat.sum(1) == ALIVE)
        assert np.all(flat[:, kept])
        share, error = 4 / 13, np.sqrt(4 / 13 * 9 / 13 / 600)
        np.testing.assert_allclose(flat[:, free].mean(0), share, atol=4 * error)
    one, two = (np.asarray(x).reshape(600, 20) for x in drawn[1:])
    assert (one != two).any(1).mean() > 0.9  # both critics, had they been told the same, would agree
    few = jax.jit(masks)
    first = few(jnp.uint32(1), jnp.uint32(2), jnp.int32(30))
    same = few(jnp.uint32(9), jnp.uint32(2), jnp.int32(30))
    later = few(jnp.uint32(1), jnp.uint32(2), jnp.int32(31))
    jax.tree.map(np.testing.assert_array_equal, first, same)
    assert any(np.any(a != b) for a, b in zip(first, later, strict=True))


def is_masked(node: Any) -> bool:
    return isinstance(node, Masked)


def test_growth_of_two_equal_tensors_differs() -> None:
    learner = start()
    critics = dict.fromkeys(("0", "1"), learner.critic["0"])
    masks = dict.fromkeys(("0", "1"), learner.supports["critic"]["0"])
    supports = learner.supports | {"critic": masks}
    equal = learner._replace(critic=critics, supports=supports)
    differ = 0
    for made in range(30, 36):
        now = (
            comparator("set").change_masks(Compared(equal, inputs()), NO_BATCH, jnp.int32(made)).learner
        )
        one, two = (now.supports["critic"][i]["kernel"].mask for i in ("0", "1"))
        differ += bool(np.any(one != two))
    assert differ >= 5


# left of the way: (1 − x)³ where x goes from 0 at a fifth of the run to 1 at four fifths
@pytest.mark.parametrize(
    ("made", "left"), [(0, 1.0), (20, 1.0), (35, 27 / 64), (50, 1 / 8), (65, 1 / 64), (80, 0), (95, 0)]
)
def test_gradual_pruning_keeps_the_strongest_of_fewer_and_fewer(made: int, left: float) -> None:
    how = comparator("gradual")
    state = how.init(jax.random.key(0), inputs())
    before: Learner = state.learner
    now = how.change_masks(state, NO_BATCH, jnp.int32(made)).learner
    finals = FINAL, FINAL, FINAL + 2
    for (old, weights, was), (new, _, held), final in zip(
        pruned_tensors(before), pruned_tensors(now), finals, strict=True
    ):
        assert old.all()  # it starts dense
        count = final + round((20 - final) * left)
        assert new.sum() == count
        assert set(np.flatnonzero(~new)) == set(dropped(old, weights, 20 - count))
        check_kept(was, held, old, new)


def test_a_reset_is_another_start_each_time_and_in_each_run() -> None:
    """With the run's masks and budgets, and nothing of what was learned."""
    how = comparator("static")
    state = how.init(jax.random.key(0), inputs())

    def first_weight(seed: int, made: int) -> float:
        again = how.reset(state._replace(inputs=inputs(seed)), NO_BATCH, jnp.int32(made))
        assert int(again.inputs.mask_seed) == 2
        jax.tree.map(np.testing.assert_array_equal, again.learner.supports, state.learner.supports)
        return float(again.learner.actor["bias"][0])

    found = [float(state.learner.actor["bias"][0])]
    found += [first_weight(seed, made) for seed in (1, 3) for made in (7, 14)]
    assert len(set(found)) == 5
    assert first_weight(1, 7) == found[1]


@pytest.mark.parametrize(("every", "fits"), [(20, True), (25, False), (26, False), (33, True)])
def test_gradual_pruning_must_end_before_the_run_does(every: int, fits: bool) -> None:
    """Of 100 updates the first change from the eightieth on must be one that is learned from: at 80 of
    twenty each and at 99 of 33, but at 100 of 25 and at 104 of 26. What the message gives fits."""
    pruning = PruningConfig(method="gradual", change_every=every)
    if fits:
        check_changes(pruning, 100)
        return
    with pytest.raises(ConfigError, match=r"change_every <= 1[89] does") as refused:
        check_changes(pruning, 100)
    given = int(str(refused.value).split("change_every <= ")[1].split()[0])
    check_changes(dataclasses.replace(pruning, change_every=given), 100)


@pytest.mark.parametrize(("every", "fits"), [(74, True), (75, False), (80, False)])
def test_the_first_change_comes_while_there_are_changes(every: int, fits: bool) -> None:
    pruning = PruningConfig(method="set", change_every=every, change_until=0.75)
    if fits:
        check_changes(pruning, 100)
    else:
        with pytest.raises(ConfigError, match="masks would never change"):
            check_changes(pruning, 100)


def test_density_is_the_share_of_masked_weights_that_are_there() -> None:
    """Of both critics together; biases are dense and not counted."""
    learner = start()
    supports = learner.supports | {
        "critic": learner.supports["critic"]
        | {"1": {"kernel": Masked(jnp.arange(20).reshape(SHAPE) < 4)}}
    }
    found = comparator("set").diagnose(Compared(learner._replace(supports=supports), inputs()), NO_BATCH)
    assert float(found["density/actor"]) == pytest.approx(11 / 20)
    assert float(found["density/critic"]) == pytest.approx(15 / 40)
