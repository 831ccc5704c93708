"""Advantages: numbers worked by hand, and a plain loop over steps."""

import jax.numpy as jnp
import numpy as np
import pytest

from sparse_rl.experience.advantage import advantages


def column(*numbers: float) -> jnp.ndarray:
    return jnp.array(numbers, jnp.float32)[:, None]


NO = jnp.zeros((3, 1), bool)


def flags(*which: int) -> jnp.ndarray:
    return NO.at[list(which), 0].set(True)


@pytest.mark.parametrize(
    ("terminated", "truncated", "gae_lambda", "expected"),
    [
        # δ = r + V' / 2 − V = (1 + 1 − 1, 2 + 2 − 2, 3 + 4 − 4) = (1, 2, 3)
        (NO, NO, 1.0, (1 + 2 / 2 + 3 / 4, 2 + 3 / 2, 3.0)),  # γλ = 1/2
        (NO, NO, 0.5, (1 + 2 / 4 + 3 / 16, 2 + 3 / 4, 3.0)),
        (NO, NO, 0.0, (1.0, 2.0, 3.0)),
        # a termination after the second step: δ₂ = 2 + 0 − 2, and nothing of what follows
        (flags(1), NO, 1.0, (1.0, 0.0, 3.0)),
        # a truncation there: V' counts, and nothing of what follows
        (NO, flags(1), 1.0, (1 + 2 / 2, 2.0, 3.0)),
    ],
)
def test_by_hand(
    terminated: jnp.ndarray, truncated: jnp.ndarray, gae_lambda: float, expected: tuple[float, ...]
) -> None:
    found = advantages(
        column(1, 2, 3),
        column(1, 2, 4),
        column(2, 4, 8),
        terminated,
        truncated,
        discount=0.5,
        gae_lambda=gae_lambda,
    )
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-6)


def test_lambda_one_is_the_n_step_return() -> None:
    """Three steps and a bootstrap: 1 + γ·2 + γ²·3 + γ³·8 − V(s₀), γ = 0.9."""
    args = (column(1, 2, 3), column(5, 6, 7), column(6, 7, 8), NO, NO)
    found = advantages(*args, discount=0.9, gae_lambda=1.0)
    assert float(found[0, 0]) == pytest.approx(1 + 0.9 * 2 + 0.81 * 3 + 0.729 * 8 - 5)


@pytest.mark.parametrize("gae_lambda", [0.0, 0.95, 1.0])
def test_against_a_plain_loop(gae_lambda: float) -> None:
    rng = np.random.default_rng(0)
    shape, discount = (40, 6), 0.97
    rewards, values, after = (rng.normal(size=shape).astype(np.float32) for _ in range(3))
    terminated = rng.random(shape) < 0.1
    truncated = (rng.random(shape) < 0.1) & ~terminated
    found = advantages(
        *map(jnp.asarray, (rewards, values, after, terminated, truncated)),
        discount=discount,
        gae_lambda=gae_lambda,
    )
    for n in range(shape[1]):
        for t in range(shape[0]):
            total, weight = 0.0, 1.0
            for k in range(t, shape[0]):
                worth = 0.0 if terminated[k, n] else after[k, n]
                total += weight * (rewards[k, n] + discount * worth - values[k, n])
                weight *= discount * gae_lambda
                if terminated[k, n] or truncated[k, n]:
                    break
            assert float(found[t, n]) == pytest.approx(total, abs=1e-4)
