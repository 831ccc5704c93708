"""Random shifts of pictures (Kostrikov et al. 2020, arXiv 2004.13649; Yarats et al. 2021, §3.1)."""

import jax
import jax.numpy as jnp
from jax import Array


def shifted(pictures: Array, offset: Array, pad: int) -> Array:
    """Each picture padded with its edge pixels, and a window of its own size at an offset.

    DrQ-v2 reads the window with bilinear interpolation, at whole offsets: so no two pixels mix, and
    copying gives the same numbers.

    Args:
        pictures: ``[n, height, width, channels]``.
        offset: int32 ``[n, 2]`` in [0, 2 · pad]: rows and columns; ``pad`` moves nothing.
        pad: pixels on each side.

    Returns:
        ``[n, height, width, channels]``.
    """
    sides = ((0, 0), (pad, pad), (pad, pad), (0, 0))
    padded = jnp.pad(pictures, sides, mode="edge")

    def window(picture: Array, offset: Array) -> Array:
        return jax.lax.dynamic_slice(picture, (offset[0], offset[1], 0), pictures.shape[1:])

    return jax.vmap(window)(padded, offset)


def random_shift(pictures: Array, key: Array, pad: int) -> Array:
    """Every picture shifted by whole pixels, uniformly within ±``pad`` in both directions."""
    offset = jax.random.randint(key, (len(pictures), 2), 0, 2 * pad + 1)
    return shifted(pictures, offset, pad)
