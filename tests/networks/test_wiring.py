"""What layers read, against the networks themselves: gradients vanish where the wiring says so."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_rl.networks import (
    Critic,
    Encoder,
    GaussianActor,
    PixelActor,
    Policy,
    RecurrentCritic,
    TwinCritic,
)
from sparse_rl.networks.wiring import Wire, Wiring, chain, ensemble, follow, kernel_shapes, wiring_of
from sparse_rl.pruning import prunable_shapes

KEY = jax.random.key(0)
PICTURE = (6, 5, 3)


def inputs_of(*sizes: int) -> tuple[jax.Array, ...]:
    return tuple(jax.random.uniform(jax.random.fold_in(KEY, i), (40, n)) for i, n in enumerate(sizes))


RECALLING = RecurrentCritic("minigrid", 24, 1, "gru", 5, picture=PICTURE)
NETWORKS: dict[str, tuple[nn.Module, tuple[jax.Array, ...]]] = {
    "simba critic": (Critic("simba", 6, 2), inputs_of(4, 1)),
    "mlp actor": (GaussianActor("mlp", 6, 1, 2), inputs_of(4)),
    "minatar policy": (Policy("minatar", 24, 1, 2, False, picture=PICTURE), inputs_of(90)),
    "minigrid policy": (Policy("minigrid", 24, 1, 3, False, picture=PICTURE), inputs_of(94)),
    "minigrid critic": (RECALLING, inputs_of(5, 94)),
    "nature critic": (Critic("nature", 32, 1, picture=(21, 21, 64)), inputs_of(28224)),
    "drq encoder": (Encoder("drq_strided", 4, (18, 17, 3)), inputs_of(18 * 17 * 3)),
    "drq critic": (TwinCritic(7, 4), inputs_of(11, 2)),
    "drq actor": (PixelActor(7, 4, 2), inputs_of(11)),
}
every_network = pytest.mark.parametrize("name", list(NETWORKS))


def initial(name: str) -> Any:
    network, inputs = NETWORKS[name]
    return jax.jit(network.init)(KEY, *(x[:1] for x in inputs))["params"]


def matrices(params: Any) -> dict[str, tuple[int, int]]:
    return {path: (shape[0], shape[1]) for path, shape in prunable_shapes(params).items()}


def rows_of(wiring: Wiring, shapes: dict[str, tuple[int, int]], what: str) -> dict[str, np.ndarray]:
    """kernel → int ``[n, r]``: rows of each unit of a layer, or entry of an input."""
    groups = iter([(wire, group) for wire in wiring.layers for group in wire.reads])
    found = {}

    def unread(kernel: str, rows: np.ndarray) -> np.ndarray:
        wire, group = next(groups)
        assert wire.kernel == kernel
        if what in group:
            found[kernel] = rows
        return np.zeros(len(rows), int)

    follow(wiring, shapes, unread, lambda kernel: np.zeros(shapes[kernel][1], int))
    return found


@every_network
def test_every_kernel_is_wired_and_every_row_reads_one_thing(name: str) -> None:
    wiring, shapes = wiring_of(NETWORKS[name][0]), matrices(initial(name))
    assert {wire.kernel for wire in wiring.layers} == set(shapes)
    covered: dict[str, list[int]] = {path: [] for path in shapes}
    groups = {group[0] for wire in wiring.layers for group in wire.reads}
    for first in groups:
        for kernel, rows in rows_of(wiring, shapes, first).items():
            if any(first == group[0] for w in wiring.layers if w.kernel == kernel for group in w.reads):
                covered[kernel] += rows.reshape(-1).tolist()
    assert {path: sorted(rows) for path, rows in covered.items()} == {
        path: list(range(inputs)) for path, (inputs, _) in shapes.items()
    }


def silenced(params: Any, rows: dict[str, np.ndarray], i: int) -> Any:
    """Parameters in which nothing reads the i-th of what has these rows."""

    def silent(path: Any, leaf: Any) -> Any:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return leaf.at[rows[name][i]].set(0.0) if name in rows else leaf

    return jax.tree_util.tree_map_with_path(silent, params)


@every_network
def test_who_is_read_by_no_row_does_not_matter(name: str) -> None:
    """Of inputs, and of each layer's units but where a LayerNorm mixes them."""
    network, inputs = NETWORKS[name]
    params, wiring = initial(name), wiring_of(network)
    shapes = matrices(params)

    @jax.jit
    def gradients(params: Any) -> Any:
        def loss(params: Any, inputs: Any) -> Any:
            return sum(jnp.sum(jnp.sin(y + 1)) for y in jax.tree.leaves(apply(params, inputs)))

        return jax.grad(loss, argnums=(0, 1))(params, inputs)

    def apply(params: Any, inputs: Any) -> Any:
        said = network.apply({"params": params}, *inputs)
        return said[0] if network is RECALLING else said  # not what it remembers of it

    for wire in wiring.layers:
        mixed = "embed" in wire.layer or "project" in wire.layer or "feature" in wire.layer
        if wire.layer in wiring.heads or mixed:
            continue
        rows = rows_of(wiring, shapes, wire.layer)
        grads, _ = gradients(silenced(params, rows, 1))
        for part in wire.kernel.split("/"):
            grads = grads[part]
        assert not np.any(grads[:, 1])
        assert np.any(np.delete(np.asarray(grads), 1, axis=1))
    for i, named in enumerate(dict.fromkeys(n for w in wiring.layers for g in w.reads for n in g)):
        if named in wiring.names:
            continue
        rows = rows_of(wiring, shapes, named)
        _, grads = gradients(silenced(params, rows, 1))
        entries = len(next(iter(rows.values())))
        flat = np.concatenate([np.asarray(g) for g in grads], axis=1)
        if len(grads) > 1 and named in ("seen", "action"):
            flat = np.asarray(grads[0 if named == "seen" else 1])
        if named in ("picture", "beside"):
            seen = np.asarray(grads[-1])
            flat = seen[:, :90] if named == "picture" else seen[:, 90:]
        by_entry = flat.reshape(40, -1, entries)
        assert not np.any(by_entry[..., 1]), (named, i)
        assert np.any(by_entry[..., 0])


def test_the_residual_stream_is_read_by_whoever_comes_after() -> None:
    assert wiring_of(Critic("simba", 6, 2)).layers[3:] == (
        Wire("trunk/block_1_expand", (("trunk/embed", "trunk/block_0_project"),), drawn="fan_in"),
        Wire("trunk/block_1_project", (("trunk/block_1_expand",),), drawn="fan_in"),
        Wire("value", (("trunk/embed", "trunk/block_0_project", "trunk/block_1_project"),)),
    )


def test_first_layers_and_heads() -> None:
    twin = wiring_of(TwinCritic(7, 4))
    assert twin.first == (
        "trunk/feature/kernel", "trunk/first_dense_0/kernel", "trunk/second_dense_0/kernel",
    )  # fmt: skip
    assert twin.heads == ("first_value", "second_value")
    both = ensemble(wiring_of(Critic("mlp", 6, 1)), ("0", "1"))
    assert both.first == ("0/trunk/dense_0/kernel", "1/trunk/dense_0/kernel")
    assert both.heads == ("0/value", "1/value")


def test_kernels_of_convolutions_have_the_published_shapes() -> None:
    """Atari's are matrices of folded pictures: 8×8 of 4 channels, 4×4, 3×3 (Mnih et al. 2015)."""
    found = kernel_shapes(
        wiring_of(NETWORKS["nature critic"][0]), prunable_shapes(initial("nature critic"))
    )
    assert found == {
        "trunk/conv/kernel": (8, 8, 4, 2),
        "trunk/conv_2/kernel": (4, 4, 2, 4),
        "trunk/conv_3/kernel": (3, 3, 4, 4),
        "trunk/dense/kernel": (49 * 4, 32),
        "value/kernel": (32, 1),
    }


def test_what_reads_a_picture_and_numbers_beside_it() -> None:
    """Twelve places of three channels first, then five units; what a cell remembers reads both."""
    wiring, shapes = wiring_of(NETWORKS["minigrid policy"][0]), matrices(initial("minigrid policy"))
    assert shapes["trunk/dense_0/kernel"] == (12 * 3 + 5, 24)
    assert wiring.first == ("trunk/conv/kernel", "trunk/beside/kernel")
    rows = {name: rows_of(wiring, shapes, f"trunk/{name}") for name in ("conv", "beside")}
    np.testing.assert_array_equal(rows["conv"]["trunk/dense_0/kernel"], np.arange(36).reshape(12, 3).T)
    np.testing.assert_array_equal(rows["beside"]["trunk/dense_0/kernel"], np.arange(36, 41)[:, None])
    cell = {wire.layer: wire for wire in wiring_of(RECALLING).layers}["cell/iz"]
    reads = (("trunk/conv",), ("trunk/beside",))
    assert cell == Wire("cell/iz", reads, places=(12, 1), drawn="fan_in")
    assert kernel_shapes(wiring, shapes)["trunk/conv/kernel"] == (3, 3, 3, 3)


def test_what_is_not_ours_is_refused() -> None:
    with pytest.raises(TypeError, match="layers of a Dense read"):
        wiring_of(nn.Dense(3))


def test_probabilities_and_counts_follow_one_wiring() -> None:
    """Two inputs, three units, one head: input 1 unread, unit 0 without input, unit 2 unread."""
    masks = {"a/kernel": np.array([[0, 1, 1], [0, 0, 0]]), "b/kernel": np.array([[1], [1], [0]])}
    found = follow(
        Wiring(chain("a", "b")),
        {"a/kernel": (2, 3), "b/kernel": (3, 1)},
        lambda kernel, rows: 1 - masks[kernel][rows].any(axis=(1, 2)).astype(int),
        lambda kernel: 1 - masks[kernel].any(axis=0).astype(int),
    )
    assert {name: x.tolist() for name, x in found.unread.items()} == {"inputs": [0, 1]}
    assert {name: x.tolist() for name, x in found.cut_off.items()} == {"a": [1, 0, 1], "b": [0]}
