"""Gradients beside training: what an optimiser would see, and what projections keep of it."""

import jax
import jax.numpy as jnp
import numpy as np
from tiny import AGENT, cut, random_start, slopes

from sparse_rl.agents.contract import RunInputs
from sparse_rl.agents.gradients import SKETCH, cosines, of_batch, sketch


def test_a_batchs_gradient_knows_nothing_of_those_before() -> None:
    """Adam's first moment after one update that began with none: a tenth of the gradient."""
    budgets = {"actor": {"kernel": 3}}
    told = RunInputs(np.uint32(0), np.uint32(0), np.float32(0.1), budgets)
    learner = random_start(jax.random.key(0), told)
    assert np.any(learner.optimisers["actor"][0].mu["kernel"])
    found = of_batch(AGENT, learner, None, jax.random.key(0))  # type: ignore[arg-type]
    expected = jax.tree.map(lambda x: 0.1 * x, cut(learner.supports, slopes()))
    assert set(found) == {"actor", "critic"}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, expected)


def test_every_number_goes_to_one_place_with_a_sign() -> None:
    """Places uniform, signs even, and other ones in every tensor and for every key."""
    ones = {"a": jnp.ones(6 * SKETCH), "b": jnp.ones(6 * SKETCH)}
    both = [sketch({name: ones[name]}, jax.random.key(1)) for name in "ab"]
    other = sketch({"a": ones["a"]}, jax.random.key(2))
    for found in (*both, other):  # each place holds a sum of about six signs: variance 6, kurtosis 3
        assert abs(float(found.mean())) < 4 * np.sqrt(6 / SKETCH)
        assert abs(float((found**2).mean()) - 6) < 4 * np.sqrt(2 * 36 / SKETCH)
    for one, two in ((both[0], both[1]), (both[0], other)):
        assert abs(float(one @ two)) < 4 * 6 * np.sqrt(SKETCH)
    np.testing.assert_allclose(sketch(ones, jax.random.key(1)), both[0] + both[1], atol=1e-5)


def test_cosines_by_hand() -> None:
    rows = jnp.array([[3.0, 4.0], [-8.0, 6.0], [30.0, 40.0], [-3.0, -4.0], [0.0, 0.0], [5.0, 0.0]])
    found = cosines(rows)
    np.testing.assert_allclose(found[0], [1, 0, 1, -1, 0, 0.6], atol=1e-6)
    np.testing.assert_allclose(found[5], [0.6, -0.8, 0.6, -0.6, 0, 1], atol=1e-6)
    assert float(jnp.abs(found).max()) <= 1.0
