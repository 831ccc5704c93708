"""Products of operands rounded to bfloat16: what is rounded, what is not, and what it changes."""

import shutil
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilations import PROGRAMS, count_compilations
from conftest import MakeConfig, batch_of, off_policy

from sparse_rl.agents.contract import RunInputs
from sparse_rl.analysis import load_runs
from sparse_rl.diagnostics import global_norm
from sparse_rl.kernels.products import product
from sparse_rl.loops.off_policy import OffPolicyLoop
from sparse_rl.loops.on_policy import OnPolicyLoop
from sparse_rl.networks.dense import Critic, Dense
from sparse_rl.pruning import restore, store, support_masks
from sparse_rl.pruning.blocks import BlockGrid, block_layer, draw_blocks
from sparse_rl.pruning.compact import compact, compact_product
from sparse_rl.runs.pack import prepare_pack, train_pack
from sparse_rl.settings.run import RunConfig
from sparse_rl.settings.schema import ConfigError
from sparse_rl.sweeps.grid import packs

KEY = jax.random.key(11)


def close(one: Any, two: Any) -> None:
    """Up to the order of sums of some hundred products of rounded numbers."""
    np.testing.assert_allclose(one, two, rtol=2e-5, atol=2e-5)


def rounded(x: Any) -> np.ndarray:
    return np.asarray(jnp.asarray(x).astype(jnp.bfloat16).astype(jnp.float32), np.float64)


def drawn(*shapes: tuple[int, ...]) -> list[Any]:
    return [jax.random.normal(key, s) for key, s in zip(jax.random.split(KEY, 9), shapes, strict=False)]


def by_hand(a: Any, b: Any, d: Any) -> list[np.ndarray]:
    """The product of what is rounded, and its two gradients, in float64."""
    a, b, d = rounded(a), rounded(b), rounded(d)
    turn = (*range(a.ndim - 2), -1, -2)
    return [a @ b, d @ b.transpose(turn), a.transpose(turn) @ d]


def found(function: Any, a: Any, b: Any, d: Any) -> list[Any]:
    y, pull = jax.vjp(function, a, b)
    return [y, *pull(d)]


def test_rounding_by_hand() -> None:
    """bfloat16 keeps eight bits: 1 + 2⁻⁸ is a tie that goes to 1; 1 + 2⁻⁷ stays. Sums keep 24."""
    a, b = jnp.array([[1 + 2**-8, 1 + 2**-7]]), jnp.array([[1.0], [2**-10]])
    expected = 1 + (1 + 2**-7) * 2**-10
    assert float(product(a, b, "bfloat16")[0, 0]) == expected
    assert float(product(a, b, "float32")[0, 0]) == pytest.approx(expected + 2**-8, rel=1e-7)


@pytest.mark.parametrize(
    "shapes",
    [
        ((32, 7), (7, 48)),
        ((32, 96), (96, 160)),
        ((1, 5), (5, 8)),  # one observation
        ((9, 40), (40, 1)),
        ((3, 10, 41), (3, 41, 32)),
        ((3, 41, 10), (3, 10, 32)),
    ],
)
def test_the_product_and_its_gradients_are_those_of_rounded_operands(shapes: Any) -> None:
    a, b = drawn(*shapes)
    (d,) = drawn((a @ b).shape)

    @jax.jit
    def all_of(a: Any, b: Any, d: Any) -> Any:
        return found(lambda a, b: product(a, b, "bfloat16"), a, b, d)

    for mine, expected in zip(all_of(a, b, d), by_hand(a, b, d), strict=True):
        assert mine.dtype == jnp.float32
        close(mine, expected)
    assert np.abs(np.asarray(a @ b) - by_hand(a, b, d)[0]).max() > 1e-3  # rounding is there


def test_in_batches_and_loops_it_is_the_same_product() -> None:
    """``vmap`` over both operands and over one, inside a scan; results that are turned afterwards."""
    a, b = drawn((4, 16, 24), (4, 24, 32))

    def step(carry: Any, a: Any) -> Any:
        y = jax.vmap(product, (None, 0, None))(a, b, "bfloat16")
        return carry + jnp.sum(y), jnp.swapaxes(y, -1, -2)

    _, in_loop = jax.jit(lambda a: jax.lax.scan(step, 0.0, a))(a)
    for i in range(4):
        for j in range(4):
            close(in_loop[i, j].T, rounded(a[i]) @ rounded(b[j]))

    def loss(a: Any, b: Any) -> Any:
        return jnp.sum(jnp.sin(product(a, b, "bfloat16")))

    grads = jax.jit(jax.vmap(jax.grad(loss, (0, 1))))(a, b)
    for i in range(4):
        alone = jax.grad(loss, (0, 1))(a[i], b[i])
        jax.tree.map(lambda x, y: close(x[i], y), grads, alone)  # noqa: B023


def differently(one: Any, two: Any) -> float:
    return max(float(np.abs(np.subtract(x, y)).max()) for x, y in zip(one, two, strict=True))


def test_later_programs_read_what_numpy_reads() -> None:
    """One result whose layout was asked for, beside others that XLA would rather turn: jax 0.10 took the
    others for what they were not."""
    a, b, d = drawn((3, 4), (4, 200), (3, 200))
    later = jax.jit(lambda tree: jax.tree.map(lambda x: x + 0.0, tree))

    def loss(a: Any, b: Any) -> Any:
        return jnp.sum(product(a, b, "bfloat16") * d)

    def turned(a: Any, b: Any) -> Any:
        y = product(a, b, "bfloat16")
        return y, y.T

    expected = by_hand(a, b, d)
    for program, right in (
        (jax.grad(loss, (0, 1)), expected[1:]),
        (turned, (expected[0], expected[0].T)),
        (jax.vmap(turned, (1, None), 1), None),
    ):
        operand = jnp.stack([a, a], axis=1) if right is None else a
        made = jax.jit(program)(operand, b)
        assert differently(jax.device_get(made), jax.device_get(later(made))) == 0.0
        for x, y in zip(made, right or made, strict=True):
            close(x, y)


@pytest.mark.parametrize("feature_major", [False, True])
def test_dense_layers_round_in_both_layouts(feature_major: bool) -> None:
    layer = Dense(40, feature_major=feature_major, products="bfloat16")
    x, d = drawn((16, 24), (16, 40))
    if feature_major:
        x, d = x.T, d.T
    params = layer.init(KEY, x)["params"]
    like = Dense(40, feature_major=feature_major).init(KEY, x)["params"]
    jax.tree.map(np.testing.assert_array_equal, params, like)
    y, pull = jax.vjp(lambda p, x: layer.apply({"params": p}, x), params, x)
    to_params, to_x = jax.jit(pull)(d)
    rows = (x.T, d.T, y.T, to_x.T) if feature_major else (x, d, y, to_x)
    expected = by_hand(rows[0], params["kernel"], rows[1])
    close(rows[2], expected[0])
    close(rows[3], expected[1])
    close(to_params["kernel"], expected[2])
    close(to_params["bias"], rows[1].sum(axis=0))  # no product


@pytest.mark.parametrize(("inputs", "units", "groups", "k"), [(64, 64, 10, 1), (103, 50, 10, 3)])
def test_blocks_round_what_they_multiply(inputs: int, units: int, groups: int, k: int) -> None:
    blocks = draw_blocks(KEY, BlockGrid(inputs, units, groups, k))
    mask = support_masks(blocks)
    dense, x, d = drawn((inputs, units), (inputs, 17), (units, 17))
    dense = jnp.where(mask, dense, 0.0)
    values = store(blocks, dense)
    y, to_values, to_x = jax.jit(
        lambda v, x, d: found(lambda v, x: block_layer(v, blocks, x, products="bfloat16"), v, x, d)
    )(values, x, d)
    expected = by_hand(dense.T, x, d)
    close(y, expected[0])
    close(restore(blocks, to_values), np.where(mask, expected[1].T, 0.0))
    close(to_x, expected[2])


def test_tiles_round_what_they_multiply(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparse_rl.pruning.compact.TILE_BYTES", 2048)
    mask = jax.random.bernoulli(KEY, 0.1, (40, 60))
    support = compact(mask, int(mask.sum()))
    assert support.tiles > 1
    dense, x, d = drawn((40, 60), (17, 40), (17, 60))
    dense = jnp.where(mask, dense, 0.0)
    y, to_x, to_stored = jax.jit(
        lambda x, v, d: found(lambda x, v: compact_product(x, v, support, "bfloat16"), x, v, d)
    )(x, store(support, dense), d)
    expected = by_hand(x, dense, d)
    close(y, expected[0])
    close(to_x, expected[1])
    close(to_stored, store(support, jnp.asarray(expected[2], jnp.float32)))


UPDATES = 50


def trained(config: RunConfig) -> tuple[Any, Any, Any]:
    """Masks, dense parameters and everything float after updates of SAC on one batch after the other."""
    loop, inputs = off_policy(config)
    batch = batch_of(64)

    @jax.jit
    def train(inputs: RunInputs) -> Any:
        state = loop.init(inputs).agent
        keys = jax.random.split(KEY, UPDATES)
        return jax.lax.scan(lambda s, key: (loop.agent.update(s, batch, key)[0], None), state, keys)[0]

    state = train(inputs)
    supports = loop.agent.supports(state)
    dense = restore(supports, loop.agent.parameters(state))
    moments = restore(supports, {name: state.optimisers[name][0].mu for name in supports})
    return support_masks(supports), dense, moments


def config_of(make: MakeConfig, storage: str, **changes: Any) -> RunConfig:
    pruning = {"pattern": "block", "storage": storage}
    return make(width=40, sparsity=0.7, pruning=pruning, agent={"network": "mlp"}, **changes)


def relative(one: Any, two: Any) -> float:
    return float(global_norm(jax.tree.map(jnp.subtract, one, two)) / global_norm(two))


def test_every_storage_trains_the_same_rounded_networks(make_config: MakeConfig) -> None:
    """Storages differ in the order of sums alone. Where that changes how an operand is rounded it grows
    to a few ten-thousandths of the parameters; in float32 they end at another place."""
    masks, masked, moments = trained(config_of(make_config, "masked", products="bfloat16"))
    for storage in ("compact", "block"):
        _, other, _ = trained(config_of(make_config, storage, products="bfloat16"))
        assert relative(other, masked) < 1e-3
    exact = trained(config_of(make_config, "masked"))[1]
    assert relative(exact, masked) > 1e-4
    for tree in (masked, moments):
        for mask, leaf in zip(
            jax.tree.leaves(masks, is_leaf=lambda m: m is None), jax.tree.leaves(tree), strict=True
        ):
            assert leaf.dtype == jnp.float32
            if mask is not None:
                assert not np.asarray(leaf)[~np.asarray(mask)].any()


def test_float32_is_the_program_that_it_was() -> None:
    """Of dense layers, flax's own; the setting's default, and not a product of it."""
    x = jnp.ones((8, 5))
    params = nn.Dense(7).init(KEY, x)

    def text(layer: nn.Dense) -> str:
        return jax.jit(lambda p, x: layer.apply(p, x)).lower(params, x).as_text()

    assert text(Dense(7)) == text(Dense(7, products="float32")) == text(nn.Dense(7))
    assert "bf16" not in text(Dense(7))
    assert "bf16" in text(Dense(7, products="bfloat16"))


@pytest.mark.parametrize("name", ["sac", "ddpg", "ppo", "paac", "dqn"])
def test_every_agent_hands_the_setting_to_its_networks(make_config: MakeConfig, name: str) -> None:
    def bfloat16_products(products: str) -> int:
        config = make_config(agent={"name": name, "network": "mlp"}, products=products)
        loop, (run,) = prepare_pack([config])
        state = jax.eval_shape(loop.init, run.inputs)
        assert isinstance(loop, OffPolicyLoop | OnPolicyLoop)
        text = jax.jit(loop.chunk).lower(jnp.int32(0), state).as_text()
        return sum("dot_general" in line and "bf16" in line for line in text.splitlines())

    assert bfloat16_products("float32") == 0
    assert bfloat16_products("bfloat16") >= 6


def test_it_is_part_of_a_run_and_of_its_program(make_config: MakeConfig) -> None:
    configs = [make_config(products=p, seed=s) for p in ("float32", "bfloat16") for s in (0, 1)]
    assert make_config().products == "float32"
    assert len({config.run_id for config in configs}) == 4
    assert [[c.products for c in pack] for pack in packs(configs)] == [["float32"] * 2, ["bfloat16"] * 2]


def test_wrong_formats_and_networks_are_refused(make_config: MakeConfig) -> None:
    with pytest.raises(ConfigError, match=r"products='float16'.*float32, bfloat16"):
        make_config(products="float16")
    drq = {"name": "drq"}
    with pytest.raises(ConfigError, match=r"agent\.network=simba and mlp; drq_strided multiplies"):
        make_config(agent=drq, products="bfloat16")
    with pytest.raises(ConfigError, match="linear multiplies in float32"):
        make_config(agent={"name": "azopg"}, env={"source": "lqr", "task": "chain"}, products="bfloat16")
    make_config(agent=drq, products="float32")
    with pytest.raises(ValueError, match="float32 only"):
        Critic("minatar", 8, 1, picture=(10, 10, 4), products="bfloat16").init(KEY, jnp.ones((1, 400)))


def test_a_batched_pack_is_three_programs_and_analysis_tells_it_apart(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    """In the layout that asks most of the products: memory orders are fixed under ``vmap``. Beside a run
    whose record says float32 it is another variant."""
    shape: Any = {"width": 24, "agent": {"network": "mlp", "clipped_double_q": False}}
    pack = [make_config(products="bfloat16", seed=s, **shape) for s in (0, 1)]
    with count_compilations() as compiled:
        statuses = train_pack(prepare_pack(pack), tmp_path, layout="vmap")
    assert set(statuses.values()) == {"done"}
    assert sorted(name for name in compiled if name in PROGRAMS) == sorted(PROGRAMS)
    runs = load_runs(tmp_path)
    assert set(runs["products"]) == {"bfloat16"}
    told, other = pack[0].run_id, "the_same_in_float32"
    shutil.copytree(tmp_path / told, tmp_path / other)
    for name in ("run.json", "config.yaml"):
        text = (tmp_path / other / name).read_text()
        unsealed = "\n".join(line for line in text.splitlines() if "sha256" not in line)
        mended = unsealed.replace("bfloat16", "float32").replace(told, other)
        (tmp_path / other / name).write_text(mended)
    runs = load_runs(tmp_path)
    variants = {row.products: row.variant for row in runs[runs["seed"] == 0].itertuples()}
    assert variants == {name: f"products={name}" for name in ("float32", "bfloat16")}
