"""The replay buffer writes in place, forgets the oldest, and samples only what it holds."""

import jax
import jax.numpy as jnp
import numpy as np

from sparse_rl.experience import replay
from sparse_rl.experience.replay import Transition


def transitions(values: list[float]) -> Transition:
    x = jnp.asarray(values)
    return Transition(x[:, None], -x[:, None], x, x[:, None] + 1, jnp.zeros(len(values), bool))


def test_holds_the_last_capacity_transitions() -> None:
    buffer = replay.init(1, 1, capacity=4)
    for pair in ([1.0, 2.0], [3.0, 4.0], [5.0, 6.0]):
        buffer = replay.add(buffer, transitions(pair))
    assert (int(buffer.size), int(buffer.position)) == (4, 2)
    assert set(np.asarray(buffer.storage.reward)) == {3.0, 4.0, 5.0, 6.0}


def test_samples_rows_whole_and_only_what_is_held() -> None:
    buffer = replay.add(replay.init(1, 1, capacity=100), transitions([1.0, 2.0, 3.0]))
    batch = replay.sample(buffer, jax.random.key(0), 600)
    assert set(np.asarray(batch.reward)) == {1.0, 2.0, 3.0}
    np.testing.assert_array_equal(batch.observation[:, 0], batch.reward)
    np.testing.assert_array_equal(batch.next_observation[:, 0], batch.reward + 1)
    counts = np.bincount(np.asarray(batch.reward).astype(int))[1:]
    assert counts.min() > 150
