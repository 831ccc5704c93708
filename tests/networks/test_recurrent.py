"""Networks that remember, beside plain numpy."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy_networks import as_float64, dense, gru, lstm

from sparse_rl.agents.remembering import unroll
from sparse_rl.networks import RecurrentCritic, RecurrentPolicy, before, empty, forget, wiring_of
from sparse_rl.networks.recurrent import recurrent_parameters, spanned
from sparse_rl.pruning import in_layer, prune, restore, weights

CELLS = ("gru", "lstm")


def numbers(params: Any, seed: int) -> Any:
    """The same parameters, each with numbers of its own, biases too."""
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(random.normal(0.0, 0.6, x.shape), jnp.float32), params)


def policy(cell: Any = "gru", kind: Any = "mlp") -> RecurrentPolicy:
    return RecurrentPolicy(kind, 7, 1, cell, 5, action_size=3)


@pytest.mark.parametrize("cell", CELLS)
def test_three_steps_are_those_of_the_papers(cell: str) -> None:
    network, seen = policy(cell), np.random.default_rng(1).normal(size=(3, 2, 4))
    params = network.init(jax.random.key(0), empty(network, 2), jnp.zeros((2, 4)))["params"]
    params = numbers(params, 2)
    plainly = as_float64(params)
    memory, plain = empty(network, 2), np.zeros((2, 5))
    pair = (plain, plain)
    for x in seen:
        logits, memory = network.apply({"params": params}, memory, jnp.asarray(x, jnp.float32))
        hidden = np.maximum(dense(x, plainly["trunk"]["dense_0"]), 0.0)
        if cell == "gru":
            plain = gru(plainly["cell"], plain, hidden)
        else:
            pair = lstm(plainly["cell"], pair, hidden)
            plain = pair[1]
        expected = dense(plain, plainly["logits"])
        np.testing.assert_allclose(np.asarray(logits), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("kind", ["mlp", "simba"])
def test_parameters_are_counted_in_closed_form(cell: Any, kind: Any) -> None:
    made: list[tuple[Any, int, bool]] = [
        (RecurrentCritic(kind, 7, 2, cell, 5), 1, False),
        (RecurrentCritic(kind, 7, 2, cell, 5, actions=6), 6, False),
        (RecurrentPolicy(kind, 7, 2, cell, 5, action_size=3), 3, False),
        (RecurrentPolicy(kind, 7, 2, cell, 5, action_size=3, gaussian=True), 3, True),
    ]
    for network, outputs, gaussian in made:
        params = jax.eval_shape(network.init, jax.random.key(0), empty(network, 1), jnp.zeros((1, 4)))[
            "params"
        ]
        count = sum(leaf.size for leaf in jax.tree.leaves(params))
        assert count == recurrent_parameters(kind, 7, 2, cell, 5, 4, outputs, gaussian=gaussian)


def test_a_unit_of_the_memory_is_read_by_the_heads_and_by_itself() -> None:
    wiring = wiring_of(policy("gru"))
    reads = {wire.layer: wire.reads for wire in wiring.layers}
    memory = tuple(f"cell/{k}" for k in ("ir", "iz", "in", "hr", "hz", "hn"))
    assert reads["trunk/dense_0"] == (("inputs",),)
    assert reads["cell/iz"] == (("trunk/dense_0",),)
    assert reads["cell/hn"] == reads["logits"] == (memory,)
    assert wiring.heads == ("logits",)
    assert wiring.first == ("trunk/dense_0/kernel",)


@pytest.mark.parametrize("cell", CELLS)
def test_a_sequence_is_its_steps_and_forgets_where_an_episode_begins(cell: str) -> None:
    network, random = policy(cell), np.random.default_rng(3)
    seen = jnp.asarray(random.normal(size=(6, 2, 4)), jnp.float32)
    first = jnp.asarray([[0, 1], [0, 0], [1, 0], [0, 0], [0, 1], [1, 0]], bool)
    params = network.init(jax.random.key(0), empty(network, 2), seen[0])["params"]
    params = numbers(params, 4)
    start = jax.tree.map(lambda x: x + 0.3, empty(network, 2))
    said, after = unroll(network, params, {}, start, first, seen)
    earlier, memory = before(start, after, first), start
    for t in range(6):
        memory = forget(memory, first[t])
        for kept, own in zip(jax.tree.leaves(earlier), jax.tree.leaves(memory), strict=True):
            np.testing.assert_allclose(kept[t], own, atol=1e-6)
        logits, memory = network.apply({"params": params}, memory, seen[t])
        np.testing.assert_allclose(said[t], logits, atol=1e-6)
        for kept, own in zip(jax.tree.leaves(after), jax.tree.leaves(memory), strict=True):
            np.testing.assert_allclose(kept[t], own, atol=1e-6)
    assert float(jnp.abs(jax.tree.leaves(earlier)[0][2, 0]).max()) == 0.0


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_of_a_sequence_are_those_of_its_steps(cell: Any) -> None:
    """Of every parameter, of what was seen and of the memory before, beside flax step by step."""
    network, random = policy(cell), np.random.default_rng(6)
    seen, first = jnp.asarray(random.normal(size=(5, 3, 4)), jnp.float32), np.zeros((5, 3), bool)
    first[[0, 2, 4], [1, 0, 2]] = True
    params = network.init(jax.random.key(0), empty(network, 3), seen[0])["params"]
    params, start = numbers(params, 7), jax.tree.map(lambda x: x + 0.4, empty(network, 3))
    weigh = [jnp.asarray(random.normal(size=(5, 3, k)), jnp.float32) for k in (3, 5)]

    def weighed(said: Any, after: Any) -> jax.Array:
        return jnp.sum(weigh[0] * said) + sum(jnp.sum(weigh[1] * x) for x in jax.tree.leaves(after))

    def at_once(params: Any, start: Any, seen: jax.Array) -> jax.Array:
        return weighed(*unroll(network, params, {}, start, jnp.asarray(first), seen))

    def by_steps(params: Any, memory: Any, seen: jax.Array) -> jax.Array:
        found = []
        for t in range(5):
            memory = forget(memory, jnp.asarray(first[t]))
            logits, memory = network.apply({"params": params}, memory, seen[t])
            found.append((logits, memory))
        return weighed(*jax.tree.map(lambda *x: jnp.stack(x), *found))

    together, apart = (
        jax.jit(jax.grad(f, argnums=(0, 1, 2)))(params, start, seen) for f in (at_once, by_steps)
    )
    for one, other in zip(jax.tree.leaves(together), jax.tree.leaves(apart), strict=True):
        assert float(jnp.abs(other).max()) > 1e-2
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_a_sequence_of_blocks_is_that_of_the_matrices_that_they_make(cell: Any) -> None:
    """Blocks are multiplied at every step by flax's cell; its matrices, made dense, before and after."""
    network, random = RecurrentPolicy("mlp", 64, 1, cell, 64, action_size=3), np.random.default_rng(8)
    seen = jnp.asarray(random.normal(size=(4, 2, 16)), jnp.float32)
    first = jnp.asarray([[0, 0], [0, 1], [1, 0], [0, 0]], bool)
    start = jax.tree.map(lambda x: x + 0.3, empty(network, 2))
    dense = network.init(jax.random.key(0), empty(network, 2), seen[0])["params"]
    options: Any = {"pattern": "block", "storage": "block", "prunable": in_the_cell}
    params, supports = prune(jax.random.key(1), numbers(dense, 9), 0.5, **options)
    assert all(in_layer(gate["kernel"]) for gate in supports["cell"].values())
    made = weights(supports, params)
    of_blocks = jax.jit(lambda: unroll(network, made, supports, start, first, seen))()
    plain = jax.jit(lambda: unroll(network, restore(supports, params), {}, start, first, seen))()
    for one, other in zip(jax.tree.leaves(of_blocks), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def in_the_cell(path: str, leaf: Any) -> bool:
    return path.startswith("cell/") and leaf.ndim == 2


def test_units_keep_from_one_step_to_the_span() -> None:
    many = {"cell": {"iz": {"bias": jnp.zeros(4000)}}}
    biases = spanned(many, "gru", 40, jax.random.key(5))["cell"]["iz"]["bias"]
    steps = np.exp(np.asarray(biases, np.float64))  # σ(b) keeps e^b of what it lets go
    assert steps.min() >= 1.0
    assert steps.max() <= 39.0
    error = 38.0 / np.sqrt(12 * steps.size)
    assert steps.mean() == pytest.approx(20.0, abs=4 * error)
    assert steps.std() == pytest.approx(38.0 / np.sqrt(12), rel=0.05)


def test_an_lstm_that_keeps_much_takes_little() -> None:
    network = policy("lstm")
    params = network.init(jax.random.key(0), empty(network, 1), jnp.zeros((1, 3)))["params"]
    cell = spanned(params, "lstm", 9, jax.random.key(5))["cell"]
    np.testing.assert_array_equal(cell["hf"]["bias"], -cell["hi"]["bias"])
    assert float(cell["hf"]["bias"].min()) >= 0.0
    np.testing.assert_array_equal(cell["ho"]["bias"], params["cell"]["ho"]["bias"])
    np.testing.assert_array_equal(cell["hf"]["kernel"], params["cell"]["hf"]["kernel"])


@pytest.mark.parametrize("cell", CELLS)
def test_before_a_cell_pictures_and_what_is_beside_them_have_no_dense_layer(cell: Any) -> None:
    """The published numbers at width 128 and memory 256: 448 + 25, then 144 + 5 for the cell."""
    network = RecurrentPolicy("minigrid", 128, 1, cell, 256, picture=(5, 5, 3), action_size=7)
    inputs = (empty(network, 2), jnp.zeros((2, 79)))
    params = jax.eval_shape(network.init, jax.random.key(0), *inputs)["params"]
    assert set(params["trunk"]) == {"conv", "beside"}
    gates = {"gru": 3, "lstm": 4}[cell]
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert count == 448 + 25 + gates * 256 * (149 + 256) + 4 * 256 + 7 * 257
    assert count == recurrent_parameters("minigrid", 128, 1, cell, 256, 79, 7, (5, 5, 3))
    shapes = {name: part["kernel"].shape for name, part in params["cell"].items()}
    assert {shape[0] for name, shape in shapes.items() if name.startswith("i")} == {149}
