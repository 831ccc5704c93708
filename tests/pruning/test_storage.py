"""Three storages of the same function: what they hold, compute, cost and refuse."""

import functools
import runpy
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
from conftest import MakeConfig, off_policy

from sparse_rl.agents import pruned as agents_pruned
from sparse_rl.diagnostics import global_norm
from sparse_rl.networks.dense import Critic, Kind
from sparse_rl.pruning import (
    STORAGES,
    BlockError,
    BlockGrid,
    Pattern,
    Storage,
    apply,
    choose_storage,
    connected_units,
    plan_budget,
    prune,
    random_masks,
    restore,
    store,
    support_masks,
)
from sparse_rl.pruning.blocks import Blocks, block_grid, block_layer, draw_blocks
from sparse_rl.pruning.compact import compact, compact_product, tiles_of
from sparse_rl.pruning.storage import support_of
from sparse_rl.records import results
from sparse_rl.runs.pack import prepare_pack, train_pack
from sparse_rl.settings.schema import ConfigError
from sparse_rl.sweeps.grid import packs

KEY = jax.random.key(3)


def assert_close(one: Any, two: Any, rtol: float, atol: float) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), one, two)


def critic(kind: Kind = "simba", width: int = 40) -> tuple[Critic, Any, tuple[Any, Any]]:
    network = Critic(kind, width, 1)
    inputs = (jax.random.normal(KEY, (64, 9)), jax.random.normal(jax.random.key(4), (64, 2)))
    return network, network.init(KEY, *inputs)["params"], inputs


@pytest.mark.parametrize(
    ("density", "fan_in", "groups", "k"),
    [
        (0.1, 1, 10, 1),
        (0.0985, 1, 10, 1),
        (0.4, 1, 5, 2),
        (0.7, 1, 3, 2),
        (0.1, 4, 40, 4),
        (0.5, 1, 2, 1),
    ],
)
def test_grids_by_hand(density: float, fan_in: int, groups: int, k: int) -> None:
    """0.4: 1/2 and 1/3 are more than 5 % off, 2/5 is exact; 0.7: 2/3 is within 5 %."""
    grid = block_grid("layer", (1024, 4096), density, fan_in)
    assert grid == BlockGrid(1024, 4096, groups, k)


def test_a_layer_that_would_be_all_there_stays_dense() -> None:
    assert block_grid("layer", (64, 64), 0.97) is None
    assert block_grid("head", (64, 1), 0.3) is None


def test_group_sizes() -> None:
    assert list(BlockGrid(64, 64, 10, 1).sizes(64)) == [7] * 4 + [6] * 6
    assert list(BlockGrid(64, 64, 16, 1).sizes(64)) == [4] * 16


@pytest.mark.parametrize(
    ("inputs", "units", "groups", "k"),
    [(64, 64, 10, 1), (30, 120, 6, 2), (103, 50, 10, 3), (7, 9, 7, 2)],
)
def test_blocks_are_a_regular_graph_of_exactly_the_counted_weights(
    inputs: int, units: int, groups: int, k: int
) -> None:
    grid = BlockGrid(inputs, units, groups, k)
    blocks = draw_blocks(KEY, grid)
    mask = np.asarray(support_masks(blocks))
    assert mask.shape == (inputs, units)
    assert mask.sum() == grid.count
    fan_in, fan_out = mask.sum(axis=0), mask.sum(axis=1)
    assert fan_in.min() > 0
    assert fan_out.min() > 0
    assert fan_in.max() - fan_in.min() <= k
    assert fan_out.max() - fan_out.min() <= k
    other = np.asarray(support_masks(draw_blocks(jax.random.key(4), grid)))
    assert (mask != other).any()


def test_inputs_are_shuffled_uniformly() -> None:
    """Every input is read by the first unit equally often: in a third of the draws, with k/G = 1/3."""
    grid = BlockGrid(9, 6, 3, 1)
    draw = jax.jit(jax.vmap(lambda key: support_masks(draw_blocks(key, grid))[:, 0]))
    mean = jnp.mean(draw(jax.random.split(KEY, 3000)), axis=0)
    np.testing.assert_allclose(mean, 1 / 3, atol=5 * np.sqrt(2 / 9 / 3000))


@pytest.mark.parametrize(("inputs", "units", "groups", "k"), [(64, 64, 10, 1), (103, 50, 10, 3)])
def test_block_layer_and_its_gradients_are_the_dense_ones(
    inputs: int, units: int, groups: int, k: int
) -> None:
    blocks = draw_blocks(KEY, BlockGrid(inputs, units, groups, k))
    dense = jnp.where(support_masks(blocks), jax.random.normal(KEY, (inputs, units)), 0.0)
    values = store(blocks, dense)
    x = jax.random.normal(jax.random.key(5), (inputs, 17))
    np.testing.assert_array_equal(restore(blocks, values), dense)

    def by_blocks(values: Any, x: Any) -> Any:
        return jnp.sum(jnp.sin(block_layer(values, blocks, x)))

    def by_dense(kernel: Any, x: Any) -> Any:
        return jnp.sum(jnp.sin(kernel.T @ x))

    np.testing.assert_allclose(block_layer(values, blocks, x), dense.T @ x, rtol=1e-4, atol=1e-5)
    grads, expected = jax.grad(by_blocks, (0, 1))(values, x), jax.grad(by_dense, (0, 1))(dense, x)
    assert_close(restore(blocks, grads[0]), expected[0] * support_masks(blocks), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(grads[1], expected[1], rtol=1e-4, atol=1e-4)
    assert float(jnp.abs(grads[0]).sum()) == pytest.approx(
        float(jnp.abs(restore(blocks, grads[0])).sum()), rel=1e-5
    )  # nothing at padding


@pytest.mark.parametrize("crowded", [False, True])
@pytest.mark.parametrize("by_xla", [False, True])
def test_tiles_and_their_gradients_are_the_dense_ones(
    monkeypatch: pytest.MonkeyPatch, crowded: bool, by_xla: bool
) -> None:
    """Also where one tile holds nearly all values, so that it takes several windows."""
    if by_xla:
        monkeypatch.setattr("sparse_rl.kernels.native.load", lambda: (0, "XLA"))
    monkeypatch.setattr("sparse_rl.pruning.compact.TILE_BYTES", 2048)
    mask = np.zeros((40, 66 if crowded else 60), bool)
    mask[:, : 8 if crowded else 60] = np.random.default_rng(0).random((40, 8 if crowded else 60)) < 0.1
    mask[:6, :6] = True
    support = compact(jnp.asarray(mask), int(mask.sum()))
    assert support.tiles == (6 if crowded else 5)
    dense = jnp.where(mask, jax.random.normal(KEY, mask.shape), 0.0)
    stored = store(support, dense)
    np.testing.assert_array_equal(restore(support, stored), dense)
    np.testing.assert_array_equal(support_masks(support), mask)
    np.testing.assert_array_equal(connected_units(support, mask.shape[1]), mask.any(axis=0))

    x = jax.random.normal(jax.random.key(5), (17, 40))
    np.testing.assert_allclose(compact_product(x, stored, support), x @ dense, rtol=1e-4, atol=1e-5)
    found = jax.grad(lambda x, w: jnp.sum(jnp.sin(compact_product(x, w, support))), (0, 1))(x, stored)
    expected = jax.grad(lambda x, w: jnp.sum(jnp.sin(x @ w)), (0, 1))(x, dense)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found[1], store(support, expected[1]), rtol=1e-4, atol=1e-4)


def test_tensors_are_cut_into_tiles_where_it_pays() -> None:
    """By hand: 2048 × 8192 float32 are 64 MiB, two tiles of 32; 4099 is prime."""
    assert tiles_of((2048, 8192), 2048 * 819) == 2
    assert tiles_of((2048, 8192), 2048 * 4096) == 1
    assert tiles_of((1024, 4096), 1024 * 409) == 1
    assert tiles_of((4096, 4099), 4096 * 409) == 1
    assert tiles_of((3, 3, 2048, 8192), 2048 * 819) == 1


@pytest.mark.parametrize("kind", ["simba", "mlp"])
def test_feature_major_is_the_same_network(kind: Kind) -> None:
    network, params, inputs = critic(kind)
    turned = network.clone(feature_major=True)
    again = turned.init(KEY, *inputs)["params"]
    jax.tree.map(np.testing.assert_array_equal, params, again)
    collections = ["activations", "features"]
    value, sown = network.apply({"params": params}, *inputs, mutable=collections)
    other, also = turned.apply({"params": params}, *inputs, mutable=collections)
    np.testing.assert_allclose(value, other, rtol=1e-4, atol=1e-5)
    assert_close(sown, also, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pattern", ["unstructured", "constant_fan_in", "block"])
def test_every_storage_starts_from_the_same_function(pattern: Pattern) -> None:
    network, dense, inputs = critic()
    values = {}
    for storage in STORAGES if pattern == "block" else STORAGES[:2]:
        params, supports = prune(KEY, dense, 0.8, pattern=pattern, storage=storage)
        masks = support_masks(supports)
        jax.tree.map(
            np.testing.assert_array_equal, masks, random_masks(KEY, dense, 0.8, pattern=pattern)
        )
        restored = restore(supports, params)
        jax.tree.map(
            lambda m, p, d: np.testing.assert_array_equal(p, d if m is None else jnp.where(m, d, 0)),
            masks,
            restored,
            dense,
            is_leaf=lambda node: node is None,
        )
        values[storage] = apply(network, params, supports, *inputs)
    np.testing.assert_array_equal(values["masked"], values["compact"])
    for value in values.values():
        np.testing.assert_allclose(value, values["masked"], rtol=1e-4, atol=1e-5)


def train_critic(storage: Storage, updates: int) -> tuple[Any, Any, Any, Any]:
    """AdamW on a SimBa critic with blocks: first gradients, parameters, their norm, predictions."""
    network, dense, inputs = critic()
    network = network.clone(feature_major=storage == "block")
    target = jnp.sin(inputs[0].sum(axis=1))
    params, supports = prune(KEY, dense, 0.8, pattern="block", storage=storage)
    optimiser = optax.adamw(3e-4, weight_decay=1e-2)

    def loss(params: Any) -> Any:
        return jnp.mean(jnp.square(apply(network, params, supports, *inputs) - target))

    @jax.jit
    def step(_: Any, carry: Any) -> Any:
        params, state = carry
        updates, state = optimiser.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    first = jax.jit(jax.grad(loss))(params)
    params, state = jax.lax.fori_loop(0, updates, step, (params, optimiser.init(params)))
    moments = restore(supports, state[0].mu)
    prediction = apply(network, params, supports, *inputs)
    return restore(supports, first), restore(supports, params), moments, prediction


@functools.cache
def masked_critic(updates: int) -> tuple[Any, Any, Any, Any]:
    """Trained once for all: no product of ours is in it."""
    return train_critic("masked", updates)


@pytest.mark.parametrize(
    ("storage", "tile", "xla"),
    [("compact", None, True), ("compact", 4096, True), ("block", None, False), ("block", None, True)],
)
def test_every_storage_learns_as_masked_does(
    storage: Storage, tile: int | None, xla: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradients, and parameters, moments and predictions after 200 AdamW updates."""
    if xla:
        monkeypatch.setattr("sparse_rl.kernels.native.load", lambda: (0, "XLA"))
    if tile:
        monkeypatch.setattr("sparse_rl.pruning.compact.TILE_BYTES", tile)
        monkeypatch.setattr("sparse_rl.pruning.compact.TILED_BELOW_DENSITY", 0.5)
        jax.clear_caches()
        kernel = prune(KEY, critic()[1], 0.8, pattern="block", storage="compact")[1]["trunk"]
        assert kernel["block_0_expand"]["kernel"].tiles > 1
    masked, other = masked_critic(200), train_critic(storage, 200)
    assert_close(masked[0], other[0], rtol=1e-3, atol=1e-5)
    drift = global_norm(jax.tree.map(jnp.subtract, masked[1], other[1])) / global_norm(masked[1])
    assert drift < 1e-3
    assert_close(masked[2], other[2], rtol=0, atol=2e-3)
    np.testing.assert_allclose(masked[3], other[3], atol=1e-2)
    start = masked_critic(0)[3]
    assert float(jnp.abs(masked[3] - start).mean()) > 0.1  # and it did learn


@pytest.mark.parametrize("storage", STORAGES)
def test_costs_are_what_the_storage_holds(make_config: MakeConfig, storage: Storage) -> None:
    """Bytes by hand from the arrays; the plan's exact counts from the masks."""
    pruning = {"pattern": "block", "storage": storage}
    config = make_config(sparsity=0.8, width=40, pruning=pruning)
    loop, (run,) = prepare_pack([config])
    state = jax.jit(loop.init)(run.inputs)
    assert run.costs.state_bytes == sum(leaf.nbytes for leaf in jax.tree.leaves(state.agent))
    masks = support_masks(state.agent.supports)
    for name, network in loop.agent.parameters(state.agent).items():
        dense = restore(state.agent.supports[name], network)
        total = sum(leaf.size for leaf in jax.tree.leaves(dense))
        removed = sum(int((~mask).sum()) for mask in jax.tree.leaves(masks[name]))
        assert run.costs.parameters[name] == (total, total - removed)


@pytest.mark.parametrize(("pattern", "storage"), [("unstructured", "compact"), ("block", "block")])
def test_state_falls_with_the_weights(
    make_config: MakeConfig, pattern: Pattern, storage: Storage
) -> None:
    """Parameters, two moments and targets, index arrays included, at S = 0.9: at most 0.13 of dense."""
    pruning = {"pattern": pattern, "storage": storage}
    dense = prepare_pack([make_config(width=512, agent={"actor_width_ratio": 0.25})])
    sparse = prepare_pack([make_config(width=512, sparsity=0.9, pruning=pruning)])
    assert sparse.runs[0].costs.state_bytes < 0.13 * dense.runs[0].costs.state_bytes
    assert sparse.runs[0].costs.bytes_per_update < dense.runs[0].costs.bytes_per_update


def test_compiled_state_agrees_with_the_plan(make_config: MakeConfig) -> None:
    """What XLA holds as arguments of the update, beside what the plan says: within 15 %."""
    for storage in STORAGES:
        pruning = {"pattern": "block", "storage": storage}
        loop, (run,) = prepare_pack([make_config(width=64, sparsity=0.8, pruning=pruning)])
        state = jax.eval_shape(loop.init, run.inputs)
        memory = jax.jit(loop.init).lower(run.inputs).compile().memory_analysis()
        assert memory is not None
        planned = run.costs.state_bytes + run.costs.replay_bytes
        assert memory.output_size_in_bytes == pytest.approx(planned, rel=0.15)
        shapes = (jax.tree.map(jnp.shape, tree) for tree in (state.agent.target, state.agent.critic))
        assert next(shapes) == next(shapes)


@pytest.mark.parametrize("storage", ["compact", "block"])
def test_large_layers_are_drawn_alone_and_the_same(
    make_config: MakeConfig, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    pattern = "block" if storage == "block" else "unstructured"
    config = make_config(sparsity=0.9, width=256, pruning={"pattern": pattern, "storage": storage})
    loop, inputs = off_policy(config)
    options: dict[str, str | bool] = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}

    def drawn() -> tuple[Any, int]:
        init = jax.jit(lambda key, inputs: loop.agent.init(key, inputs))  # traced anew each time
        compiled = init.lower(jax.random.key(0), inputs).compile(compiler_options=options)
        memory = compiled.memory_analysis()
        assert memory
        return compiled(jax.random.key(0), inputs), memory.temp_size_in_bytes

    monkeypatch.setattr(agents_pruned, "LARGE_BYTES", 1 << 40)
    together, most = drawn()
    monkeypatch.setattr(agents_pruned, "LARGE_BYTES", 1 << 20)  # the critic's 256×1024
    alone, least = drawn()
    jax.tree.map(np.testing.assert_array_equal, alone, together)
    assert least < 0.8 * most


@pytest.mark.parametrize(("pattern", "storage"), [("unstructured", "compact"), ("block", "block")])
def test_a_pack_of_each_storage_trains_alone_as_together_and_batched(
    make_config: MakeConfig, tmp_path: Path, pattern: Pattern, storage: Storage
) -> None:
    pruning = {"pattern": pattern, "storage": storage, "actor_sparsity": 0.5}
    agent = {"network": "mlp", "clipped_double_q": False}
    shape: dict[str, Any] = {"sparsity": 0.8, "pruning": pruning, "agent": agent}
    pack = [make_config(seed=seed, env_steps=100, **shape) for seed in (0, 1)]
    prepared = prepare_pack(pack)
    assert set(train_pack(prepared, tmp_path / "together").values()) == {"done"}
    assert set(train_pack(prepared, tmp_path / "batched", layout="vmap").values()) == {"done"}
    train_pack(prepare_pack(pack[1:]), tmp_path / "alone")
    rows = {
        how: results.read_metrics(tmp_path / how / pack[1].run_id).drop(columns="wall_time")
        for how in ("together", "alone", "batched")
    }
    pd.testing.assert_frame_equal(rows["together"], rows["alone"], check_exact=True)
    pd.testing.assert_frame_equal(rows["together"], rows["batched"], rtol=2e-2, atol=2e-2)
    record = results.read_run(tmp_path / "alone" / pack[1].run_id)
    assert record is not None
    assert (record["pattern"], record["storage"]) == (pattern, storage)
    assert ("products of blocks" in record["versions"]) == (storage == "block")
    assert "convolutions" not in record["versions"]


def test_sparsities_share_a_program_only_with_masks(make_config: MakeConfig) -> None:
    def grid(**pruning: Any) -> list[Any]:
        return [make_config(sparsity=s, seed=i, pruning=pruning) for s in (0.5, 0.8) for i in (0, 1)]

    assert len(packs(grid())) == 1
    assert len(packs(grid(storage="compact"))) == 2
    assert len(packs(grid(pattern="block"))) == 2
    assert len(packs(grid(pattern="block", storage="masked"))) == 2


def test_a_dense_network_is_the_same_whatever_the_pattern(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    patterns = ("unstructured", "block")
    runs = [make_config(pruning={"pattern": p}, agent={"network": "mlp"}) for p in patterns]
    for run in runs:
        train_pack(prepare_pack([run]), tmp_path)
    one, two = (results.read_metrics(tmp_path / run.run_id).drop(columns="wall_time") for run in runs)
    pd.testing.assert_frame_equal(one, two, check_exact=True)


def test_auto_chooses_by_pattern_and_size_and_says_why() -> None:
    assert choose_storage("auto", "block", 64).storage == "block"
    assert choose_storage("auto", "unstructured", 64).storage == "masked"
    assert choose_storage("auto", "constant_fan_in", 4096).storage == "compact"
    assert all(choose_storage("auto", "unstructured", width).reason for width in (64, 4096))
    assert choose_storage("masked", "block", 64).storage == "masked"


@pytest.mark.parametrize("pattern", ["unstructured", "constant_fan_in"])
def test_a_storage_that_the_pattern_does_not_have(make_config: MakeConfig, pattern: Pattern) -> None:
    with pytest.raises(ConfigError, match=r"storage='block'.*choose one of auto, masked, compact"):
        make_config(sparsity=0.5, pruning={"pattern": pattern, "storage": "block"})


def test_a_width_or_sparsity_without_blocks_names_the_nearest_that_work(make_config: MakeConfig) -> None:
    """An actor of 4 units cannot be cut into the ten groups of S = 0.9."""
    config = make_config(sparsity=0.9, width=16, pruning={"pattern": "block"})
    with pytest.raises(ConfigError, match="width=16") as caught:
        prepare_pack([config])
    words = str(caught.value)
    sparsity = float(words.split("nearest sparsity that works is ")[1].split(",")[0])
    width = int(words.split("or width=")[1])
    for values in ({"sparsity": sparsity, "width": 16}, {"sparsity": 0.9, "width": width}):
        prepare_pack([make_config(pruning={"pattern": "block"}, **values)])
    for values in ({"sparsity": sparsity + 0.01, "width": 16}, {"sparsity": 0.9, "width": width - 1}):
        with pytest.raises(ConfigError):
            prepare_pack([make_config(pruning={"pattern": "block"}, **values)])


def test_no_width_helps_a_layer_of_few_inputs(make_config: MakeConfig) -> None:
    """A uniform 0.1 of an embedding that reads 3 or 4 numbers is less than a block, at any width."""
    config = make_config(sparsity=0.9, width=64, pruning={"pattern": "block", "distribution": "uniform"})
    with pytest.raises(ConfigError, match="embed") as caught:
        prepare_pack([config])
    assert "or width" not in str(caught.value)
    assert "nearest sparsity" in str(caught.value)


def test_the_error_names_the_layer() -> None:
    with pytest.raises(BlockError, match=r"sparsity=0\.95: small/kernel"):
        plan_budget({"small/kernel": (8, 8)}, 0.95, distribution="uniform", pattern="block")


def test_units_without_inputs_are_known_in_every_storage() -> None:
    mask = jnp.zeros((5, 4), bool).at[2, 1].set(True).at[3, 3].set(True)
    for storage in ("masked", "compact"):
        found = connected_units(support_of(mask, storage, 2), 4)
        np.testing.assert_array_equal(found, [False, True, False, True])
    assert connected_units(None, 3).all()


def test_convolutions_are_stored_masked_or_compact() -> None:
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            return nn.Dense(16)(nn.relu(nn.Conv(16, (3, 3))(x)).mean(axis=(1, 2)))

    x = jax.random.normal(KEY, (2, 6, 6, 8))
    dense = Net().init(KEY, x)["params"]
    values = {}
    for storage in ("masked", "compact"):
        params, supports = prune(KEY, dense, 0.75, pattern="block", storage=storage)
        values[storage] = apply(Net(), params, supports, x)
    np.testing.assert_array_equal(values["masked"], values["compact"])
    with pytest.raises(ValueError, match=r"Conv_0/kernel.*masked or compact"):
        prune(KEY, dense, 0.75, pattern="block", storage="block")


def test_the_documented_example_trains_in_every_storage() -> None:
    example = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "prune_a_flax_network.py"))
    held = {}
    for storage in STORAGES:
        error, held[storage] = example["train"](storage, 300)
        assert error < 0.05
    assert held["compact"] < held["block"] < 0.13 * held["masked"]


def test_blocks_are_leaves_of_the_state_never_constants() -> None:
    """Two masks of one program: traced once."""
    traces = []

    @jax.jit
    def total(blocks: Blocks) -> Any:
        traces.append(1)
        return block_layer(jnp.ones(blocks.grid.stored_shape), blocks, jnp.arange(24.0)[:, None])

    grid = BlockGrid(24, 24, 4, 1)
    one, two = (total(draw_blocks(jax.random.key(i), grid)) for i in (0, 1))
    assert len(traces) == 1
    assert (one != two).any()
