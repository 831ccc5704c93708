"""The suite's random bits are those of the paper, and jax's."""

from typing import Any

import conftest
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import threefry
from jax._src.random import threefry2x32 as of_jax
from jax.extend.random import threefry2x32_p, threefry_2x32

ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("key", "counter", "bits"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((ONES, ONES), (ONES, ONES), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_known_answers(key: Any, counter: Any, bits: tuple[int, int]) -> None:
    """Of Salmon et al. 2011, as their library has them (kat_vectors of Random123, 20 rounds)."""
    found = threefry_2x32(jnp.array(key, jnp.uint32), jnp.array(counter, jnp.uint32))
    assert tuple(map(int, found)) == bits


def by_jax(key: Any, count: Any) -> Any:
    return of_jax._threefry2x32_lowering(key[0], key[1], *count)


def test_bits_of_any_shape_are_jaxs() -> None:
    """One key for all, a key for each, and keys and counters along different axes."""
    draw = np.random.default_rng(0).integers
    for shapes in (((), (5,)), ((7,), (7,)), ((3, 1), (1, 4)), ((2, 3, 1), (2, 1, 2))):
        key, count = (jnp.asarray(draw(2**32, size=(2, *shape)), jnp.uint32) for shape in shapes)
        found = jax.jit(lambda k, c: threefry2x32_p.bind(*k, *c))(key, count)
        for ours, theirs in zip(found, by_jax(key, count), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_programs_of_the_suite_draw_with_it() -> None:
    if threefry.built(conftest.CACHE) is None:
        pytest.skip("there is no compiler")
    text = jax.jit(jax.random.normal, static_argnums=1).lower(jax.random.key(0), (3,)).as_text()
    assert threefry.TARGET in text
    assert "stablehlo.while" not in text
