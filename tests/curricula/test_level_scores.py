"""Scores of levels, worked by hand."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from sparse_rl.curricula.scores import (
    SCORES,
    Played,
    highest_return,
    over_episodes,
    per_episode,
    score,
)

INF = np.inf


def column(*numbers: float) -> Array:
    return jnp.array(numbers, jnp.float32)[:, None]


ENDED = jnp.array(
    # two episodes of 2 and 3 steps and one that goes on; none that ends; one of 5, one that goes on
    [[0, 0, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0], [1, 0, 1], [0, 0, 0]],
    bool,
)
RETURN = jnp.array(
    [[-3, 1, 0], [-2, 1, 0], [0, 2, 0], [0, 3, 0], [-0.5, 9, 0.7], [5, 10, 0.2]], jnp.float32
)


def test_means_are_of_whole_episodes_each_counted_once() -> None:
    numbers = jnp.stack([jnp.array([2.0, 6, 1, 2, 6, 99]), jnp.arange(6.0), jnp.arange(6.0) ** 2], 1)
    # (2 + 6)/2 = 4 and (1 + 2 + 6)/3 = 3; the third column: (0 + 1 + 4 + 9 + 16)/5
    np.testing.assert_allclose(per_episode(ENDED, numbers), [3.5, np.nan, 6.0], rtol=1e-6)


def test_what_episodes_end_with() -> None:
    np.testing.assert_allclose(over_episodes(ENDED, RETURN), [-1.25, np.nan, 0.7], rtol=1e-6)


def test_the_highest_return_may_be_negative_and_is_of_episodes_that_ended() -> None:
    """Public code counts it from 0, so that a level of negative returns has the highest return 0."""
    np.testing.assert_allclose(highest_return(ENDED, RETURN), [-0.5, -INF, 0.7], rtol=1e-6)


def played(**changes: Array) -> Played:
    value = jnp.stack([jnp.array([0.1, 0.3, -0.2, 0.4, 0.7, 5.0])] * 3, 1)
    advantage = jnp.stack([jnp.array([-0.5, 1.5, -0.3, 0.6, -0.9, 7.0])] * 3, 1)
    whole = Played(
        ENDED, RETURN, value, advantage, RETURN > 0.5, jnp.array([0.9, 0.9, 0.7]), jnp.full(3, 1.5)
    )
    return whole._replace(**changes)


@pytest.mark.parametrize(
    ("name", "hand"),
    [
        # R_max − V: of 0.9, (0.8 + 0.6)/2 = 0.7 and (1.1 + 0.5 + 0.2)/3 = 0.6; of 0.7, 2.2/5
        ("max_mc", [0.65, -INF, 0.44]),
        # max(A, 0): 1.5/2 and 0.6/3; 2.1/5
        ("positive_value_loss", [0.475, -INF, 0.42]),
        # |A|: 2/2 and 1.8/3; 3.8/5
        ("l1_value_loss", [0.8, -INF, 0.76]),
        # none of two solved; one of one
        ("learnability", [0.0, -INF, 0.0]),
        ("regret", [1.5 + 1.25, -INF, 0.8]),
    ],
)
def test_scores_by_hand(name: str, hand: list[float]) -> None:
    np.testing.assert_allclose(score(name, played()), hand, rtol=1e-5, atol=1e-7)  # type: ignore[arg-type]


def test_learnability_is_largest_where_half_of_the_episodes_are_solved() -> None:
    ended = jnp.ones((4, 3), bool)
    solved = jnp.array([[1, 0, 1], [1, 0, 0], [1, 1, 0], [0, 1, 0]], bool)
    got = score("learnability", played(ended=ended, solved=solved))
    np.testing.assert_allclose(got, [0.75 * 0.25, 0.25, 0.25 * 0.75])


def test_every_score_is_among_these() -> None:
    assert set(SCORES) == {
        "max_mc", "positive_value_loss", "l1_value_loss", "learnability", "regret",
    }  # fmt: skip
