"""Networks that are not ours: each is pruned as the matrices it is made of, or refused by name."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sparse_rl.pruning import (
    Axes,
    AxesError,
    apply,
    flax_axes,
    prune,
    random_masks,
    restore,
    support_masks,
)
from sparse_rl.pruning.tree import path_name

KEY = jax.random.key(5)
SPARSITY = 0.6
View = Callable[[np.ndarray], np.ndarray]
"""A tensor's mask → bool ``[members, inputs, units]``, written apart from the code under test."""


def matrix(mask: np.ndarray) -> np.ndarray:
    return mask.reshape(1, -1, mask.shape[-1])


def stacked(mask: np.ndarray) -> np.ndarray:
    return mask


def heads(mask: np.ndarray) -> np.ndarray:
    """Inputs, heads, features: each feature of each head is a unit."""
    return mask.reshape(1, mask.shape[0], -1)


def two_groups(mask: np.ndarray) -> np.ndarray:
    return np.stack(np.split(mask.reshape(-1, mask.shape[-1]), 2, axis=-1))


class Member(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.tanh(nn.Dense(7, name="hidden")(x))
        return nn.Dense(1, name="head")(x)[..., 0]


def over_layers(kind: type[nn.Module], axis: int) -> Any:
    """``kind`` once per layer: three of them, whose parameters lie along this axis."""
    return nn.scan(kind, variable_axes={"params": axis}, split_rngs={"params": True}, length=3)


class Residual(nn.Module):
    @nn.compact
    def __call__(self, x: Any, _: Any) -> Any:
        return x + nn.Dense(x.shape[-1])(nn.tanh(nn.Dense(8)(x))), None


class Ensemble(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        split = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}
        return nn.vmap(Member, in_axes=None, out_axes=0, axis_size=10, **split)(name="members")(x)


class Scanned(nn.Module):
    axis: int = 0

    @nn.compact
    def __call__(self, x: Any) -> Any:
        return over_layers(Residual, self.axis)(name="layers")(x, None)[0]


class Pictures(nn.Module):
    """A convolution with a bias in two groups, one without bias, normalised."""

    bias: bool = True

    @nn.compact
    def __call__(self, x: Any, train: bool = False) -> Any:
        x = nn.Conv(8, (3, 3), feature_group_count=2, use_bias=self.bias, name="grouped")(x)
        x = nn.BatchNorm(use_running_average=not train)(x)
        return nn.Dense(3)(nn.relu(x).mean(axis=(1, 2)))


class Attention(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.LayerNorm()(x)
        x = nn.MultiHeadDotProductAttention(num_heads=3, qkv_features=12, name="attention")(x)
        x = nn.DenseGeneral((2, 5), name="general")(x)
        return nn.remat(nn.Dense)(4, name="last")(x.reshape(*x.shape[:-2], -1))


class Normed(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        return nn.WeightNorm(nn.Dense(6, name="normed"))(x)


class Recurrent(nn.Module):
    """Fourteen kernels of one shape, so that they are drawn by one program."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.RNN(nn.GRUCell(6), name="gru")(x)
        return nn.RNN(nn.OptimizedLSTMCell(6), name="lstm")(x)


class Case(NamedTuple):
    network: nn.Module
    shape: tuple[int, ...]
    views: dict[str, View]
    """By the start of the path; all others are matrices."""
    told: bool = False
    """Whether the axes must be read off the network."""


ZOO = {
    "ensemble": Case(Ensemble(), (4, 5), {"members/": stacked}),
    "scan": Case(Scanned(), (4, 5), {"layers/": stacked}),
    "scan along axis 1": Case(
        Scanned(1), (4, 5), {"layers/": lambda mask: mask.transpose(1, 0, 2)}, told=True
    ),
    "groups": Case(Pictures(), (2, 6, 6, 4), {"grouped/": two_groups}, told=True),
    "attention": Case(
        Attention(),
        (2, 4, 6),
        dict.fromkeys(("attention/query", "attention/key", "attention/value", "general"), heads),
    ),
    "weight norm": Case(Normed(), (4, 9), {}),
    "recurrent": Case(Recurrent(), (2, 3, 6), {}),
}


def start(network: nn.Module, x: Any) -> tuple[Any, Any]:
    """Parameters, and what the network has beside them; drawn by numpy, which compiles nothing."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(network.init, KEY, x)
    params = jax.tree.map(lambda leaf: jnp.float32(rng.standard_normal(leaf.shape)), shapes["params"])
    rest = {name: tree for name, tree in shapes.items() if name != "params"}
    return params, jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.5), rest)


def named(tree: Any) -> dict[str, Any]:
    return {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def assert_pruned(masks: Any, views: Mapping[str, View]) -> None:
    """The exact count survives, no unit is without inputs, and members keep alike."""
    found = {path: np.asarray(mask) for path, mask in named(masks).items()}
    total = sum(mask.size for mask in found.values())
    assert sum(int(mask.sum()) for mask in found.values()) == round((1 - SPARSITY) * total)
    for path, mask in found.items():
        view = next((view for start, view in views.items() if path.startswith(start)), matrix)
        members = view(mask)
        assert members.size == mask.size
        assert members.any(axis=1).all(), path
        kept = members.sum(axis=(1, 2))
        assert kept.max() - kept.min() <= 1, path


@pytest.mark.parametrize("name", ZOO)
def test_flax(name: str) -> None:
    """Both storages compute what the layers compute, and derivatives of both modes agree."""
    case = ZOO[name]
    x = jnp.float32(np.random.default_rng(1).standard_normal(case.shape))
    dense, rest = start(case.network, x)
    axes = flax_axes(case.network, x) if case.told else None

    @jax.jit
    def run(params: Any, supports: Any, whole: Any) -> tuple[Any, Any, Any, Any]:
        def f(params: Any) -> tuple[Any, Any]:
            y = apply(case.network, params, supports, x, collections=rest)
            return jnp.sin(y).sum(), y

        grads, y = jax.grad(f, has_aux=True)(params)
        # A tangent that is not zero at pruned places must not get through them.
        towards = jax.tree.map(lambda grad: grad + 0.1, grads)
        _, forward = jax.jvp(lambda params: f(params)[0], (params,), (towards,))
        pairs = zip(jax.tree.leaves(grads), jax.tree.leaves(towards), strict=True)
        expected = case.network.apply({"params": whole, **rest}, x)
        return y, expected, forward, sum(jnp.vdot(a, b) for a, b in pairs)

    for storage in ("masked", "compact"):
        params, supports = prune(KEY, dense, SPARSITY, storage=storage, axes=axes)
        if storage == "masked":
            assert_pruned(support_masks(supports), case.views)
            whole = params  # zeros where pruned
        y, expected, forward, along = run(params, supports, whole)
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(forward, along, rtol=1e-3)


@pytest.mark.parametrize(
    ("network", "why"),
    [
        (Ensemble(), r"members/hidden/kernel.*is no matrix.*masked or compact"),
        (Normed(), r"normed is in a WeightNorm.*can be stored masked"),
        (nn.DenseGeneral(7), r"is a DenseGeneral.*can be stored masked"),
        (nn.remat(Member)(), None),
    ],
)
def test_blocks_compute_the_layer_or_are_refused_by_name(network: nn.Module, why: str | None) -> None:
    x = jnp.float32(np.random.default_rng(1).standard_normal((16, 12)))
    dense, _ = start(network, x)

    def made() -> tuple[Any, Any]:
        params, supports = prune(KEY, dense, SPARSITY, pattern="block", storage="block")
        whole = network.apply({"params": restore(supports, params)}, x)
        return apply(network, params, supports, x), whole

    if why is None:
        by_blocks, whole = jax.jit(made)()
        np.testing.assert_allclose(by_blocks, whole, rtol=1e-4, atol=1e-5)
    else:
        with pytest.raises((TypeError, ValueError), match=why):
            jax.eval_shape(made)


def test_a_convolution_that_is_held_transposed_has_its_units_before_its_inputs() -> None:
    """Windows of 3 × 2, six units, four inputs: a third of 24 for each unit."""
    network = nn.ConvTranspose(6, (3, 2), transpose_kernel=True)
    x = jnp.zeros((1, 5, 5, 4))
    params = jax.eval_shape(network.init, KEY, x)["params"]
    assert params["kernel"].shape == (3, 2, 6, 4)
    axes = flax_axes(network, x)
    mask = random_masks(KEY, params, 2 / 3, pattern="constant_fan_in", axes=axes)["kernel"]
    assert np.asarray(mask).sum(axis=(0, 1, 3)).tolist() == [8] * 6


@pytest.mark.parametrize("name", ["scan along axis 1", "groups"])
def test_what_cannot_be_known_is_refused_by_name(name: str) -> None:
    """Layers along another axis; a convolution without a bias to tell by."""
    case = ZOO[name]
    network = Pictures(bias=False) if name == "groups" else case.network
    params = jax.eval_shape(network.init, KEY, jnp.zeros(case.shape))["params"]
    with pytest.raises(AxesError, match=r"(layers|grouped)/.*flax_axes\(network, \*inputs\)"):
        random_masks(KEY, params, SPARSITY)
    masks = random_masks(KEY, params, SPARSITY, axes=flax_axes(network, jnp.zeros(case.shape)))
    assert_pruned(masks, case.views)


def test_members_are_pruned_as_networks_of_their_own() -> None:
    """By hand, of 5·7 + 7·1 = 42 weights each: ε = 0.4 · 42 / (12 + 8) = 0.84 keeps 10.08 of the first
    layer and 6.72 of the head; of the 168 that survive in all, 8 are left when
    each has 10 and 6, and go to heads."""
    params = jax.eval_shape(Ensemble().init, KEY, jnp.zeros((1, 5)))["params"]
    masks = random_masks(KEY, params, SPARSITY)["members"]
    first, heads = (np.asarray(masks[name]["kernel"]) for name in ("hidden", "head"))
    assert list(first.sum(axis=(1, 2))) == [10] * 10
    assert sorted(heads.sum(axis=(1, 2))) == [6, 6, *[7] * 8]
    assert (first[0] != first[1]).any()


def test_equal_sizes_hide_the_axes_and_are_refused() -> None:
    """Four members of four inputs: (4, 4, 3) with a bias of (4, 3) may be a matrix of 4 × 12 too."""
    tree = {"kernel": jnp.ones((4, 4, 3)), "bias": jnp.ones((4, 3))}
    with pytest.raises(AxesError, match=r"kernel \(4, 4, 3\): its bias \(4, 3\) fits 2 readings.*axes="):
        random_masks(KEY, tree, 0.5)
    mask = random_masks(KEY, tree, 0.5, axes={"kernel": Axes((1,), (2,))})["kernel"]
    assert set(np.asarray(mask.sum(axis=(1, 2)))) == {6}
    with pytest.raises(AxesError, match="kernel has the shape"):
        random_masks(KEY, tree, 0.5, axes={"kernel": Axes((0,), (3,))})
    with pytest.raises(ValueError, match="axes: no parameter w; choose from bias, kernel"):
        random_masks(KEY, tree, 0.5, axes={"w": Axes((0,), (1,))})


class Nnx(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.first = nnx.Linear(5, 8, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 8, 12, decode=False, rngs=rngs)
        self.norm = nnx.BatchNorm(8, use_running_average=True, rngs=rngs)
        self.last = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return self.last(self.norm(self.attention(self.first(x))))


def test_nnx() -> None:
    graph, shapes, rest = nnx.split(nnx.eval_shape(lambda: Nnx(nnx.Rngs(0))), nnx.Param, ...)
    rng = np.random.default_rng(0)
    dense = jax.tree.map(lambda leaf: jnp.float32(rng.standard_normal(leaf.shape)), shapes)
    rest = jax.tree.map(
        lambda leaf: jnp.full(leaf.shape, 0.5) if leaf.dtype == jnp.float32 else leaf, rest
    )
    x = jnp.float32(np.random.default_rng(1).standard_normal((2, 4, 5)))
    params, supports = prune(KEY, dense, SPARSITY, storage="compact")
    views = {f"attention/{name}": heads for name in ("query", "key", "value")}
    assert_pruned(support_masks(supports), views)

    def f(params: Any) -> Any:
        return nnx.merge(graph, restore(supports, params), rest)(x).sum()

    @jax.jit
    def both(params: Any) -> tuple[Any, Any]:
        grads = jax.grad(f)(params)
        _, forward = jax.jvp(f, (params,), (grads,))
        return grads, forward

    grads, forward = both(params)
    assert jax.tree.map(jnp.shape, grads) == jax.tree.map(jnp.shape, params)
    squared = sum(float(jnp.vdot(g, g)) for g in jax.tree.leaves(grads))
    assert float(forward) == pytest.approx(squared, rel=1e-3)


HAIKU = {
    "mlp/~/linear_0": {"w": (5, 8), "b": (8,)},
    "conv2_d": {"w": (3, 3, 4, 6), "b": (6,)},
    "gru": {"w_i": (5, 12), "w_h": (4, 12), "b": (12,)},
    "layer_norm": {"scale": (8,), "offset": (8,)},
    "batch_norm": {"scale": (1, 8), "offset": (1, 8)},
}
"""What ``hk.transform(…).init`` gives, dm-haiku 0.0.17."""
EQUINOX = {
    "layers": [{"weight": (8, 5), "bias": (8,)}, {"weight": (8, 3), "bias": (8,)}],
    "conv": {"weight": (6, 4, 3, 3), "bias": (6, 1, 1)},
    "ensemble": {"weight": (7, 9, 5), "bias": (7, 9)},
    "cell": {"weight_ih": (12, 5), "weight_hh": (12, 4), "bias": (12,)},
}
"""Names and shapes of equinox 0.13: ``[units, inputs]``."""


def ones(shapes: Any) -> Any:
    return jax.tree.map(jnp.ones, shapes, is_leaf=lambda node: isinstance(node, tuple))


def test_haiku_trees() -> None:
    masks = random_masks(KEY, ones(HAIKU), SPARSITY)
    assert_pruned(masks, {})
    assert sorted(named(masks)) == ["conv2_d/w", "gru/w_h", "gru/w_i", "mlp/~/linear_0/w"]


def units_first(mask: np.ndarray) -> np.ndarray:
    return mask.reshape(1, mask.shape[0], -1).transpose(0, 2, 1)


def test_equinox_trees() -> None:
    masks = random_masks(KEY, ones(EQUINOX), SPARSITY)
    views = {"ensemble": lambda mask: mask.transpose(0, 2, 1), "": units_first}
    assert_pruned(masks, views)
    assert len(named(masks)) == 6
    with pytest.raises(AxesError, match=r"weight \(5, 8\): its bias is \(8,\)"):
        random_masks(KEY, ones({"weight": (5, 8), "bias": (8,)}), SPARSITY)
    with pytest.raises(ValueError, match=r"weight.*is no matrix.*masked or compact"):
        prune(KEY, ones({"weight": (8, 6)}), 0.5, pattern="block", storage="block")


def test_equinox_itself() -> None:
    """Its layers are in the tree: tables and norms are told from kernels, groups are seen."""
    eqx = pytest.importorskip("equinox")

    class Net(eqx.Module):  # type: ignore[name-defined]
        table: Any
        norm: Any
        grouped: Any
        members: Any
        unbiased: Any

    make = eqx.nn.Linear

    def net() -> Net:
        return Net(
            eqx.nn.Embedding(9, 5, key=KEY),
            eqx.nn.LayerNorm((4, 5)),
            eqx.nn.Conv2d(4, 6, 3, groups=2, use_bias=False, key=KEY),
            eqx.filter_vmap(lambda key: make(5, 7, key=key))(jax.random.split(KEY, 5)),
            make(7, 8, use_bias=False, key=KEY),
        )

    params = eqx.filter(eqx.filter_eval_shape(net), lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct))
    with pytest.warns(UserWarning, match=r"left dense: table/weight \(9, 5\);"):
        masks = random_masks(KEY, params, SPARSITY)
    views = {
        "grouped": lambda mask: np.stack([units_first(part)[0] for part in np.split(mask, 2)]),
        "members": lambda mask: mask.transpose(0, 2, 1),
        "": units_first,
    }
    assert_pruned(masks, views)
    assert sorted(named(masks)) == ["grouped/weight", "members/weight", "unbiased/weight"]


def test_haiku_itself() -> None:
    hk = pytest.importorskip("haiku")
    network = hk.without_apply_rng(hk.transform(lambda x: hk.nets.MLP([8, 3])(x)))
    x = jax.random.normal(KEY, (4, 5))
    params, supports = prune(KEY, network.init(KEY, x), SPARSITY, storage="compact")
    assert_pruned(support_masks(supports), {})
    whole = restore(supports, params)
    kept = jax.tree.map(lambda leaf: int((leaf != 0).sum()), named(whole))
    assert kept["mlp/~/linear_0/w"] + kept["mlp/~/linear_1/w"] == round(0.4 * (40 + 24))
    assert network.apply(whole, x).shape == (4, 3)
