"""Random keys that are the same whatever the process has set. Those that jax makes depend on
``jax_default_prng_impl``, ``jax_random_seed_offset`` and, for large seeds, ``jax_enable_x64``."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

IMPLEMENTATION = "threefry2x32"


def key_of(seed: Any) -> Array:
    """The key that ``jax.random.key`` makes of a seed where nothing is set.

    Args:
        seed: a whole number or an integer scalar, may be traced; taken modulo 2³².
    """
    if isinstance(seed, int | np.integer):
        return wrapped(np.array([0, int(seed) & 0xFFFFFFFF], np.uint32))
    low = seed.astype(jnp.uint32)
    return wrapped(jnp.stack([jnp.zeros_like(low), low]))


def wrapped(words: Any) -> Array:
    """The key of these words, uint32 ``[2]``."""
    return jax.random.wrap_key_data(jnp.asarray(words), impl=IMPLEMENTATION)


def threefry(key: Any) -> Array:
    """Anybody's key as one of threefry: itself, or what its words say.

    A key of rbg that was made from a seed, and split or folded since, holds threefry's two words twice
    and becomes the key that threefry would have made. Two different halves are mixed.

    Args:
        key: a key of any implementation, or the words of one: uint32 ``[2]`` or ``[4]``.

    Raises:
        TypeError: it is no single key, or one whose words are of another form.
    """
    dtype = getattr(key, "dtype", None)
    typed = dtype is not None and bool(jnp.issubdtype(dtype, jax.dtypes.prng_key))
    if typed and key.shape == () and str(jax.random.key_impl(key)) == IMPLEMENTATION:
        return key
    words = jax.random.key_data(key) if typed else key
    if getattr(words, "shape", None) not in ((2,), (4,)) or words.dtype != np.uint32:
        what = f"{dtype}{list(key.shape)}" if dtype is not None else repr(key)
        raise TypeError(f"{what} is no random key; give one, such as jax.random.key(seed)")
    if words.shape == (4,):
        first, second = words[:2], words[2:]
        words = first ^ (second - first)
    return wrapped(words)
