"""Distributions of actions, against numpy and by frequency."""

import jax
import jax.numpy as jnp
import numpy as np

from sparse_rl.agents.actions import CHOICE, GAUSSIAN, mask_illegal

KEY = jax.random.key(0)


def test_choices_are_drawn_with_the_probabilities_of_their_logits() -> None:
    p = np.array([0.1, 0.6, 0.3])
    logits = jnp.broadcast_to(jnp.log(jnp.asarray(p, jnp.float32)) + 5.0, (20_000, 3))
    drawn = CHOICE.sample(logits, KEY)
    np.testing.assert_allclose(np.bincount(drawn, minlength=3) / 20_000, p, atol=0.02)
    np.testing.assert_allclose(CHOICE.log_prob(logits[:3], jnp.arange(3)), np.log(p), rtol=1e-5)
    np.testing.assert_allclose(CHOICE.entropy(logits[:1]), [-(p * np.log(p)).sum()], rtol=1e-5)
    np.testing.assert_array_equal(CHOICE.mode(logits[:1]), [1])


def test_an_illegal_action_has_no_probability_and_no_gradient() -> None:
    logits, legal = jnp.array([[1.0, 2.0, 9.0]]), jnp.array([[True, True, False]])
    masked = mask_illegal(logits, legal)
    drawn = CHOICE.sample(jnp.broadcast_to(masked, (5000, 3)), KEY)
    assert not (drawn == 2).any()
    p = np.exp([1.0, 2.0]) / np.exp([1.0, 2.0]).sum()
    np.testing.assert_allclose(CHOICE.entropy(masked), [-(p * np.log(p)).sum()], rtol=1e-5)
    grads = jax.grad(lambda x: CHOICE.entropy(mask_illegal(x, legal))[0])(logits)
    assert np.isfinite(grads).all()
    assert grads[0, 2] == 0
    assert mask_illegal(logits, None) is logits


def test_the_gaussian_is_the_textbooks() -> None:
    mean, log_std = jnp.array([[0.3, -1.0]]), jnp.array([-0.5, 0.2])
    action = jnp.array([[0.1, 0.4]])
    m, s, a = (np.asarray(x, np.float64) for x in (mean[0], jnp.exp(log_std), action[0]))
    density = np.exp(-0.5 * ((a - m) / s) ** 2) / (s * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(
        GAUSSIAN.log_prob((mean, log_std), action), [np.log(density).sum()], rtol=1e-5
    )
    entropy = 0.5 * np.log(2 * np.pi * np.e * s**2).sum()
    np.testing.assert_allclose(GAUSSIAN.entropy((mean, log_std)), [entropy], rtol=1e-5)
    policy = (jnp.broadcast_to(mean, (20_000, 2)), log_std)
    drawn = GAUSSIAN.sample(policy, KEY)
    np.testing.assert_allclose(drawn.mean(0), m, atol=0.03)
    np.testing.assert_allclose(drawn.std(0), s, rtol=0.03)


def test_actions_are_cut_off_on_their_way_to_the_environment_only() -> None:
    drawn = jnp.array([[1.7, -0.2]])
    np.testing.assert_allclose(GAUSSIAN.to_env(drawn), [[1.0, -0.2]])
    assert GAUSSIAN.log_prob((jnp.zeros((1, 2)), jnp.zeros(2)), drawn) < GAUSSIAN.log_prob(
        (jnp.zeros((1, 2)), jnp.zeros(2)), GAUSSIAN.to_env(drawn)
    )
