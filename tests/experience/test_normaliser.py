"""Observation statistics follow float64 where plain float32 drifts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_rl.experience import normaliser as norm


def test_matches_numpy_on_a_few_batches() -> None:
    batches = np.random.default_rng(0).normal(2.0, 3.0, (7, 4, 3)).astype(np.float32)
    state = norm.init(3)
    for batch in batches:
        state = norm.update(state, jnp.asarray(batch))
    seen = batches.reshape(-1, 3).astype(np.float64)
    expected = (batches[0] - seen.mean(0)) / np.sqrt(seen.var(0) + 1e-8)
    assert state.seen == 28
    np.testing.assert_allclose(norm.normalise(state, jnp.asarray(batches[0])), expected, rtol=2e-5)


def test_identity_before_two_observations() -> None:
    x = jnp.array([[5.0, -2.0]])
    np.testing.assert_allclose(norm.normalise(norm.init(2), x), x)


def test_constant_observations_stay_finite() -> None:
    state = norm.update(norm.init(1), jnp.full((10, 1), 3.0))
    np.testing.assert_allclose(norm.normalise(state, jnp.full((1, 1), 3.0)), [[0.0]])


def test_does_not_drift_far_from_zero() -> None:
    """300k observations with mean 1000 and deviation 0.1.

    The same recursion in plain float32 is off by far more than ours: the test shows both.
    """
    n = 300_000
    stream = (1000.0 + 0.1 * np.random.default_rng(1).normal(size=n)).astype(np.float32)
    exact = stream.astype(np.float64)

    def compensated(state: norm.Normaliser, x: jax.Array) -> tuple[norm.Normaliser, None]:
        return norm.update(state, x[None, None]), None

    def plain(state: tuple[jax.Array, ...], x: jax.Array) -> tuple[tuple[jax.Array, ...], None]:
        count, mean, squares = state
        count = count + 1
        delta = x - mean
        mean = mean + delta / count
        return (count, mean, squares + delta * (x - mean)), None

    xs = jnp.asarray(stream)
    ours, _ = jax.jit(lambda s: jax.lax.scan(compensated, s, xs))(norm.init(1))
    theirs, _ = jax.jit(lambda s: jax.lax.scan(plain, s, xs))((jnp.float32(0),) * 3)
    mean = float(ours.mean.high[0]) + float(ours.mean.low[0])
    variance = (float(ours.squares.high[0]) + float(ours.squares.low[0])) / n
    assert mean == pytest.approx(exact.mean(), abs=1e-5)
    assert variance == pytest.approx(exact.var(), rel=1e-3)
    assert abs(float(theirs[1]) - exact.mean()) > 10 * abs(mean - exact.mean())


def test_nothing_overflows_and_the_old_fades() -> None:
    """At the end of the count, three observations at a time: each takes an old one's place."""
    most = norm.MOST
    high = jnp.float32(4.0) * jnp.float32(most)
    start = norm.Normaliser(
        jnp.int32(most - 4),
        norm.Compensated(jnp.array([7.0]), jnp.zeros(1)),
        norm.Compensated(high[None], jnp.zeros(1)),
    )
    state, expected = start, float(high)
    for turn in range(1, 5):
        state = norm.update(state, jnp.full((3, 1), 7.0))  # adds nothing to the squares
        assert int(state.seen) == min(most - 4 + 3 * turn, most)
        expected *= 1.0 - (0, 2, 3, 3)[turn - 1] / most  # the first three still have room, then one has
        squares = float(state.squares.high[0]) + float(state.squares.low[0])
        assert squares == pytest.approx(expected, rel=1e-11)
    np.testing.assert_allclose(norm.normalise(state, jnp.array([[11.0]])), [[2.0]], rtol=1e-5)
    far = norm.update(state, jnp.full((2**16, 1), 7.0 + 2.0**15))
    mean = float(far.mean.high[0]) + float(far.mean.low[0])
    assert mean == pytest.approx(8.0, rel=1e-6)  # 2¹⁶ of 2³¹ observations are 2¹⁵ away


def test_what_is_normalised_for_on_policy_agents_has_a_bound() -> None:
    far = jnp.array([-1e4, -10.5, 0.3, 53.0])
    np.testing.assert_array_equal(norm.bounded(far), jnp.array([-10.0, -10.0, 0.3, 10.0]))


def test_what_hardly_varies_is_divided_by_a_little_more_than_its_deviation() -> None:
    """Deviation 1e-4 around 3: √(1e-8 + 1e-8), so that 3.0005 becomes 5/√2."""
    seen = jnp.array([[3.0 - 2.0**-13], [3.0 + 2.0**-13]])  # exact in float32: 1.22e-4
    state = norm.update(norm.init(1), seen)
    expected = 5e-4 / np.sqrt(2.0**-26 + 1e-8)
    found = norm.normalise(state, jnp.array([[3.0005]]))
    np.testing.assert_allclose(found, [[expected]], rtol=2e-3)
    np.testing.assert_allclose(norm.deviation(state), [np.sqrt(2.0**-26 + 1e-8)], rtol=1e-4)


def test_what_is_known_of_a_batch_weighs_by_its_size() -> None:
    """Two around 1 and then six around 5: mean 4, and variance 3 of the means beside 0.25 within."""
    state = norm.update(norm.init(1), jnp.array([[0.5], [1.5]]))
    state = norm.update(state, jnp.array([[4.5], [5.5]] * 3))
    assert float(state.mean.high[0]) == pytest.approx(4.0)
    assert float(norm.deviation(state)[0]) == pytest.approx(np.sqrt(3.25), rel=1e-6)
