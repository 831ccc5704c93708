"""Singular values without a solver, beside numpy's in float64, and the ranks that follow from them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_rl import diagnostics
from sparse_rl.diagnostics import effective_rank
from sparse_rl.kernels.singular import bisected_singular_values, singular_values

BOUND = 2e-6
"""What is said of each value, in shares of the largest."""
OFF = 1e-5
"""What is said of shares of the sum."""


def features(kind: str, n: int, k: int) -> np.ndarray:
    """float32 ``[n, k]``."""
    rng = np.random.default_rng(n + k)
    x = rng.normal(size=(n, k))
    if kind == "rectified":
        x = np.maximum(x + rng.normal(size=k), 0.0)
    if kind == "low rank":
        x = rng.normal(size=(n, 3)) @ rng.normal(size=(3, k))
    if kind.startswith("condition"):
        u, s, v = np.linalg.svd(x, full_matrices=False)
        x = u * np.logspace(0, -float(kind.split()[1]), len(s)) @ v
    if kind == "dead units":
        x[:, ::2] = 0.0
    if kind == "tiny":
        x *= 1e-30
    if kind == "huge":
        x *= 1e30
    return x.astype(np.float32)


KINDS = (
    "random", "rectified", "low rank", "condition 3", "condition 12", "dead units", "tiny", "huge"
)  # fmt: skip


def least(values: np.ndarray, share: float) -> int:
    """float64's rank: how many of the largest hold this share of the sum."""
    return int(np.argmax(np.cumsum(values) >= share * values.sum())) + 1


@pytest.mark.parametrize(("n", "k"), [(7, 5), (5, 9), (150, 40), (40, 150)])
@pytest.mark.parametrize("kind", KINDS)
def test_values_and_ranks_are_those_of_float64(
    monkeypatch: pytest.MonkeyPatch, kind: str, n: int, k: int
) -> None:
    x = features(kind, n, k)
    expected = np.linalg.svd(x.astype(np.float64), compute_uv=False)
    found = jax.jit(bisected_singular_values)(x)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=BOUND * expected[0])
    monkeypatch.setattr(diagnostics, "singular_values", bisected_singular_values)
    for threshold in (0.01, 0.2):
        ranks = [least(expected, 1 - threshold + off) for off in (-OFF, OFF)]
        assert ranks[0] == ranks[1], "another seed: a share is too near to say"
        assert effective_rank(jnp.asarray(x), threshold) == ranks[0]


def test_matrices_side_by_side_are_those_alone() -> None:
    """Under ``vmap``, as in a pack of runs; products round otherwise."""
    both = jnp.stack([features(kind, 30, 11) for kind in ("random", "low rank")])
    for found, x in zip(jax.vmap(bisected_singular_values)(both), both, strict=True):
        alone = bisected_singular_values(x)
        np.testing.assert_allclose(found, alone, rtol=0, atol=BOUND * float(alone[0]))


@pytest.mark.parametrize("values", [singular_values, bisected_singular_values])
def test_zeros_and_what_is_not_a_number_have_no_rank(
    monkeypatch: pytest.MonkeyPatch, values: Any
) -> None:
    monkeypatch.setattr(diagnostics, "singular_values", values)
    x = jnp.asarray(features("random", 9, 6))
    assert (values(jnp.zeros((9, 6))) == 0).all()
    assert effective_rank(jnp.zeros((9, 6))) == 0
    for wrong in (jnp.nan, jnp.inf):
        assert jnp.isnan(values(x.at[2, 3].set(wrong))).all()
        assert effective_rank(x.at[2, 3].set(wrong)) == 0


def test_on_a_cpu_they_are_lapacks_to_the_bit() -> None:
    x = features("rectified", 50, 20)
    np.testing.assert_array_equal(singular_values(jnp.asarray(x)), jnp.linalg.svd(x, compute_uv=False))
