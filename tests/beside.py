"""Ours beside a reference of tests/references: one start, in float64, for both."""

import functools
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
import pytest
from conftest import off_policy
from uneven import drawn, uneven

from sparse_rl.envs import registry
from sparse_rl.kernels import native
from sparse_rl.pruning import Masked, dense_shape, restore
from sparse_rl.pruning.blocks import Blocks, draw_blocks
from sparse_rl.pruning.compact import Compact
from sparse_rl.pruning.storage import is_support
from sparse_rl.settings.run import RunConfig


@contextmanager
def double() -> Iterator[None]:
    """Compute in float64, without kernels that know float32 alone."""
    with jax.enable_x64(True), pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "load", lambda: (0, "XLA"))
        yield


QUICK: dict[str, Any] = {"xla_backend_optimization_level": 0}
"""Compiling takes longer than what is computed here."""


def begin(config: RunConfig, limit: int = 600, pictures: bool = False) -> tuple[Any, Any]:
    """An agent in the uneven setting, and a state of the form that it begins with, on the host: no bias
    is 0, no scale is 1, targets differ from critics, and optimisers remember nothing."""
    with pytest.MonkeyPatch.context() as patch:
        env = uneven(limit, drawn if pictures else None)
        patch.setitem(registry.SOURCES, "probe", lambda task: env)
        loop, inputs = off_policy(config)
        like = jax.eval_shape(loop.agent.init, jax.random.key(3), inputs)
    rng = np.random.default_rng(3)
    supports = jax.tree.map(functools.partial(_some, rng), like.supports, is_leaf=is_support)
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)
    changes = {}
    for name in (*config.agent.NETWORKS, "target"):
        of = supports["critic" if name == "target" else name]
        fill = functools.partial(_filled, rng)
        changes[name] = jax.tree.map(fill, of, getattr(like, name), is_leaf=is_support)
    return loop.agent, zeros._replace(
        **changes, supports=supports, learning_rate=np.float32(config.agent.learning_rate)
    )


def _some(rng: np.random.Generator, support: Any) -> Any:
    """A support of this form, drawn at random."""
    match support:
        case Masked():
            mask: Any = rng.random(support.mask.shape) < 0.5
            return Masked(mask)
        case Compact():
            places = np.sort(rng.permutation(math.prod(support.shape))[: len(support.place)])
            begin: Any = np.array([0, len(places)], np.int32)
            held: Any = places.astype(np.int32)
            return Compact(held, begin, support.shape)
        case Blocks():
            key = jax.random.key(rng.integers(1 << 30))
            blocks = jax.jit(draw_blocks, static_argnums=1, compiler_options=QUICK)(key, support.grid)
            return jax.device_get(blocks)
    return None


def _filled(rng: np.random.Generator, support: Any, leaf: Any) -> np.ndarray:
    """Numbers for what is stored of a tensor; zeros at places that a mask leaves out."""
    inputs = dense_shape(support, leaf)[0] if len(dense_shape(support, leaf)) > 1 else 10
    numbers = rng.normal(size=leaf.shape) / np.sqrt(inputs) + 0.1
    return (numbers * support.mask if isinstance(support, Masked) else numbers).astype(np.float32)


def as_float64(tree: Any) -> Any:
    """The same numbers in float64; whole numbers, keys and masks as they are."""
    return jax.tree.map(lambda x: x.astype(np.float64) if x.dtype == np.float32 else x, tree)


def dense(state: Any, networks: tuple[str, ...]) -> dict[str, Any]:
    """network → dense weights of what is stored; targets have the critic's supports."""
    supports = state.supports | {"target": state.supports["critic"]}
    return {name: restore(supports[name], getattr(state, name)) for name in networks}


def agree(ours: Mapping[str, Any], theirs: Mapping[str, Any], what: str, atol: float = 1e-6) -> None:
    """Raise if any number differs by more than this."""
    assert set(ours) == set(theirs), what
    for name in theirs:
        np.testing.assert_allclose(
            np.asarray(ours[name]),
            np.asarray(theirs[name]),
            rtol=atol,
            atol=atol,
            err_msg=f"{what} {name}",
        )
