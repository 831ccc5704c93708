"""Each network beside the same one in float64 numpy, every parameter drawn: outputs, what is sown, how
it starts, and how many numbers it has."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpy_networks as by_numpy
import pytest

from sparse_rl.networks import (
    Critic,
    DeterministicActor,
    Encoder,
    GaussianActor,
    PixelActor,
    Policy,
    TwinCritic,
    drq_patch_bytes,
)
from sparse_rl.networks.convolutions import atari_parameters, fold, positions
from sparse_rl.networks.counts import (
    actor_parameters,
    critic_parameters,
    policy_parameters,
    trunk_parameters,
    trunk_units,
    value_parameters,
)
from sparse_rl.networks.dense import (
    applications,
    conv_channels,
    he_normal,
)
from sparse_rl.networks.drq import (
    encoded_size,
    encoder_parameters,
    pixel_actor_parameters,
    twin_critic_parameters,
)

KEY = jax.random.key(0)
RNG = np.random.default_rng(5)
OBSERVATION, ACTION = RNG.standard_normal((6, 5)), RNG.standard_normal((6, 2))
PIXELS = RNG.integers(0, 256, (3, 44, 36, 2))
"""Of 4×4 blocks 11 × 9: neither square nor full in the last layer."""
NIPS = [("conv", 8, 4), ("conv_2", 4, 2)]
NATURE = [*NIPS, ("conv_3", 3, 1)]
Expected = Callable[[Any], tuple[Any, np.ndarray | None, dict[str, np.ndarray]]]


class Case(NamedTuple):
    network: nn.Module
    inputs: tuple[Any, ...]
    expected: Expected
    """Parameters in float64 → output or outputs, features (``None``: none are sown), activations."""


def headed(trunk: Callable[[Any], Any], *heads: Callable[[Any, np.ndarray], Any]) -> Expected:
    """Heads on a trunk; each makes one output."""

    def made(params: Any) -> tuple[Any, np.ndarray | None, dict[str, np.ndarray]]:
        seen, sown = trunk(params["trunk"])
        outputs = tuple(head(params, seen) for head in heads)
        return (outputs if len(outputs) > 1 else outputs[0]), seen, sown

    return made


def linear(name: str) -> Callable[[Any, np.ndarray], np.ndarray]:
    return lambda params, seen: by_numpy.dense(seen, params[name])


def scalar(params: Any, seen: np.ndarray) -> np.ndarray:
    return by_numpy.dense(seen, params["value"])[:, 0]


def squashed(params: Any, seen: np.ndarray) -> np.ndarray:
    return np.tanh(by_numpy.dense(seen, params["mean"]))


def log_std(params: Any, seen: np.ndarray) -> np.ndarray:
    """From −10 to 2, and −4 in the middle."""
    return -4.0 + 6.0 * np.tanh(by_numpy.dense(seen, params["log_std"]))


def pixel_actor(params: Any) -> tuple[Any, np.ndarray | None, dict[str, np.ndarray]]:
    trunk, sown = params["trunk"], {"feature": by_numpy.few(params["trunk"], SEEN)}
    x = sown["feature"]
    for name in ("dense_0", "dense_1"):
        x = sown[name] = by_numpy.relu(by_numpy.dense(x, trunk[name]))
    return squashed(params, x), x, sown


SEEN = RNG.standard_normal((6, 11))
READ = np.concatenate([OBSERVATION, ACTION], axis=1)
SMALL, LARGE = RNG.integers(0, 256, (4, 19, 15, 3)), RNG.integers(0, 256, (2, 15, 18, 2))
GRID = (RNG.random((4, 7 * 5 * 3)) < 0.4).astype(float)
FOLDED = np.float32(by_numpy.in_blocks(PIXELS / 255.0, 4).reshape(3, -1))
CASES = {
    "simba critic": Case(
        Critic("simba", 6, 2),
        (OBSERVATION, ACTION),
        headed(lambda trunk: by_numpy.simba(trunk, READ, 2), scalar),
    ),
    "simba critic, features first": Case(
        Critic("simba", 6, 2, feature_major=True),
        (OBSERVATION, ACTION),
        headed(lambda trunk: by_numpy.simba(trunk, READ, 2), scalar),
    ),
    "mlp, several actions": Case(
        Critic("mlp", 7, 3, actions=3),
        (OBSERVATION,),
        headed(lambda trunk: by_numpy.mlp(trunk, OBSERVATION), linear("value")),
    ),
    "gaussian actor": Case(
        GaussianActor("mlp", 7, 1, 2),
        (OBSERVATION,),
        headed(lambda trunk: by_numpy.mlp(trunk, OBSERVATION), linear("mean"), log_std),
    ),
    "deterministic actor": Case(
        DeterministicActor("simba", 5, 1, 3, feature_major=True),
        (OBSERVATION,),
        headed(lambda trunk: by_numpy.simba(trunk, OBSERVATION, 1), squashed),
    ),
    "policy of logits": Case(
        Policy("minatar", 24, 1, 4, False, picture=(7, 5, 3)),
        (GRID,),
        headed(lambda trunk: by_numpy.minatar(trunk, GRID, (7, 5, 3)), linear("logits")),
    ),
    "minigrid": Case(
        Critic("minigrid", 24, 1, picture=(5, 4, 3)),
        (GRID[:, :66],),
        headed(lambda trunk: by_numpy.minigrid(trunk, GRID[:, :66], (5, 4, 3), 1), scalar),
    ),
    "gaussian policy": Case(
        Policy("mlp", 7, 1, 2, True),
        (OBSERVATION,),
        headed(
            lambda trunk: by_numpy.mlp(trunk, OBSERVATION),
            linear("mean"),
            lambda params, seen: params["log_std"],
        ),
    ),
    "nips": Case(
        Critic("nips", 32, 1, picture=(11, 9, 32)),
        (FOLDED,),
        headed(lambda trunk: by_numpy.atari(trunk, PIXELS / 255.0, NIPS), scalar),
    ),
    "nature": Case(
        Critic("nature", 48, 1, picture=(11, 9, 32)),
        (FOLDED,),
        headed(lambda trunk: by_numpy.atari(trunk, PIXELS / 255.0, NATURE), scalar),
    ),
    "drq encoder": Case(
        Encoder("drq", 4, (15, 18, 2)),
        (np.uint8(LARGE),),
        lambda params: _encoded(params, LARGE, (2, 1, 1, 1)),
    ),
    "drq encoder, strided": Case(
        Encoder("drq_strided", 5, (19, 15, 3)),
        (np.uint8(SMALL).reshape(4, -1),),
        lambda params: _encoded(params, SMALL, (2, 2, 1)),
    ),
    "drq actor": Case(PixelActor(8, 4, 3), (SEEN,), pixel_actor),
}


def _encoded(params: Any, pictures: np.ndarray, strides: tuple[int, ...]) -> Any:
    made, sown = by_numpy.encoder(params["trunk"], pictures, strides)
    return made, None, sown


def inputs_of(case: Case) -> list[Any]:
    return [jnp.asarray(x if x.dtype == np.uint8 else np.float32(x)) for x in case.inputs]


def close(one: Any, two: Any) -> None:
    np.testing.assert_allclose(one, two, rtol=2e-5, atol=2e-5)


def applied(network: nn.Module, params: Any, inputs: list[Any]) -> tuple[Any, Any]:
    collections = ["activations", "features"]
    made = jax.jit(lambda p, xs: network.apply({"params": p}, *xs, mutable=collections))(params, inputs)
    return made[0], made[1]


@pytest.mark.parametrize("name", CASES)
def test_a_network_is_the_one_in_numpy_and_sows_what_it_says(name: str) -> None:
    case = CASES[name]
    inputs = inputs_of(case)
    params = by_numpy.drawn_like(jax.eval_shape(case.network.init, KEY, *inputs)["params"])
    outputs, sown = applied(case.network, params, inputs)
    expected, features, activations = case.expected(by_numpy.as_float64(params))
    jax.tree.map(close, outputs, expected)
    found = {key.removesuffix("_activation"): x for key, (x,) in sown["activations"]["trunk"].items()}
    assert found.keys() == activations.keys()
    for layer, values in activations.items():
        close(found[layer], values)
        assert np.any(values != 0), layer
    if features is None:
        assert "features" not in sown
    else:
        (seen,) = sown["features"]["trunk"]["trunk"]
        close(seen, features)


def test_twin_critics_read_the_few_numbers_and_then_the_action() -> None:
    network, inputs = TwinCritic(7, 4), [jnp.float32(SEEN), jnp.float32(ACTION)]
    params = by_numpy.drawn_like(jax.eval_shape(network.init, KEY, *inputs)["params"])
    values, sown = applied(network, params, inputs)
    expected, activations = by_numpy.twin(by_numpy.as_float64(params), SEEN, ACTION)
    close(values, expected)
    for layer, made in activations.items():
        close(sown["activations"]["trunk"][f"{layer}_activation"][0], made)
    first, second = sown["features"]["trunk"]["trunk"]
    close(first, activations["first_dense_1"])
    close(second, activations["second_dense_1"])


def test_norms_of_small_numbers_show_their_epsilon() -> None:
    """10⁻⁶ in SimBa (flax's own, as published), 10⁻⁵ in DrQ-v2 (torch's): deviations of some 10⁻³."""
    observation = jnp.float32(OBSERVATION)
    network, actor = Critic("simba", 6, 1), PixelActor(8, 4, 3)
    params = by_numpy.drawn_like(jax.eval_shape(network.init, KEY, observation)["params"])
    for layer in ("embed", "block_0_project"):
        params["trunk"][layer] = jax.tree.map(
            lambda leaf: leaf * np.float32(2e-3), params["trunk"][layer]
        )
    exact = by_numpy.as_float64(params)
    seen, _ = by_numpy.simba(exact["trunk"], OBSERVATION, 1)
    values, _ = applied(network, params, [observation])
    close(values, by_numpy.dense(seen, exact["value"])[:, 0])

    params = by_numpy.drawn_like(jax.eval_shape(actor.init, KEY, jnp.float32(SEEN))["params"])
    feature = params["trunk"]["feature"]
    params["trunk"]["feature"] = jax.tree.map(lambda leaf: leaf * np.float32(2e-3), feature)
    expected, _, _ = pixel_actor(by_numpy.as_float64(params))
    close(applied(actor, params, [jnp.float32(SEEN)])[0], expected)


ROOT = 2.0**0.5
GAINS: list[tuple[nn.Module, tuple[Any, ...], dict[str, float]]] = [
    (Critic("simba", 9, 1), (OBSERVATION, ACTION), {"trunk/embed": 1, "value": 1}),
    (Critic("mlp", 9, 1), (OBSERVATION,), {"trunk/dense_0": ROOT, "trunk/dense_1": ROOT, "value": 1}),
    (GaussianActor("mlp", 9, 1, 2), (OBSERVATION,), {"mean": 1, "log_std": 1}),
    (DeterministicActor("mlp", 9, 1, 2), (OBSERVATION,), {"mean": 1}),
    (Policy("mlp", 9, 1, 3, False), (OBSERVATION,), {"logits": 0.01}),
    (Policy("mlp", 9, 1, 3, True), (OBSERVATION,), {"mean": 0.01}),
    (
        Critic("minatar", 16, 1, picture=(5, 4, 3)),
        (GRID[:, :60],),
        {"trunk/conv": ROOT, "trunk/dense": ROOT, "value": 1},
    ),
    (
        Critic("minigrid", 16, 1, picture=(5, 4, 3)),
        (GRID[:, :66],),
        {"trunk/conv": ROOT, "trunk/beside": 1, "trunk/dense_0": ROOT, "value": 1},
    ),
    (
        Critic("nips", 16, 1, picture=(11, 9, 32)),
        (FOLDED,),
        {"trunk/conv_2": ROOT, "trunk/dense": ROOT},
    ),
    (Encoder("drq_strided", 4, (19, 15, 3)), (np.uint8(SMALL),), {"trunk/conv": ROOT}),
    (
        TwinCritic(7, 4),
        (SEEN, ACTION),
        {"trunk/feature": 1, "trunk/first_dense_0": 1, "trunk/second_dense_1": 1, "second_value": 1},
    ),
    (PixelActor(7, 4, 3), (SEEN,), {"trunk/feature": 1, "trunk/dense_0": 1, "mean": 1}),
]


def scaled_unit(scale: float) -> Callable[..., Any]:
    """One orthogonal matrix for all: those that flax draws take seconds to compile."""
    return lambda key, shape, dtype=jnp.float32: scale * jnp.eye(shape[0], shape[1], dtype=dtype)


@pytest.mark.parametrize(
    ("network", "inputs", "gains"), GAINS, ids=[type(case[0]).__name__ for case in GAINS]
)
def test_layers_start_orthogonal_with_their_gain_and_without_bias(
    network: nn.Module,
    inputs: tuple[Any, ...],
    gains: dict[str, float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nn.initializers, "orthogonal", scaled_unit)
    params = jax.jit(network.init)(KEY, *inputs_of(Case(network, inputs, lambda params: params)))[
        "params"
    ]
    for path, gain in gains.items():
        layer = params
        for name in path.split("/"):
            layer = layer[name]
        kernel = np.asarray(layer["kernel"], np.float64)
        short = kernel if kernel.shape[0] <= kernel.shape[1] else kernel.T
        np.testing.assert_allclose(short @ short.T, gain**2 * np.eye(len(short)), atol=2e-6)
        assert not np.any(layer["bias"])
    if "log_std" in params and not isinstance(params["log_std"], dict):
        np.testing.assert_array_equal(params["log_std"], np.zeros(3))


def test_rows_of_he_normal_are_drawn_each_for_itself() -> None:
    """Variance 2 / inputs, cut at two deviations of the normal before: its variance is known to √(2 / n)
    at most, which a cut makes less."""
    kernel = np.asarray(jax.jit(lambda: he_normal(KEY, (70, 180)))(), np.float64)
    assert kernel.var() == pytest.approx(2 / 70, rel=5 * (2 / kernel.size) ** 0.5)
    assert abs(kernel.mean()) < 5 * (2 / 70 / kernel.size) ** 0.5
    assert abs(kernel).max() <= 2 * (2 / 70) ** 0.5 / 0.8796 + 1e-4  # the cut normal's own deviation
    together = np.corrcoef(kernel) - np.eye(70)
    assert abs(together).max() < 6 / 180**0.5
    widths = np.asarray(he_normal(jax.random.key(1), (3, 400)))
    assert widths.var() == pytest.approx(2 / 3, rel=5 * (2 / 1200) ** 0.5)


def test_numbers_of_parameters_by_hand() -> None:
    """SimBa at W = 3, two blocks: 7·3 + 3, twice 6 + 3·12 + 12 + 12·3 + 3, 6 of the last norm."""
    trunk = 24 + 2 * (6 + 48 + 39) + 6
    assert critic_parameters("simba", 3, 2, 5, 2) == trunk + 4
    assert actor_parameters("simba", 3, 2, 7, 4) == trunk + 2 * 4 * (3 + 1)
    assert value_parameters("mlp", 6, 9, 5, actions=3) == 36 + 42 + 21
    assert policy_parameters("mlp", 6, 9, 5, 4, True) == 36 + 42 + 28 + 4
    assert policy_parameters("mlp", 6, 9, 5, 4, False) == 36 + 42 + 28
    # 3 channels of 3×3 from 2, at 5 × 3 places, and 24 units
    assert (conv_channels(24), conv_channels(7)) == (3, 1)
    assert value_parameters("minatar", 24, 1, 70, (7, 5, 2)) == 57 + (45 * 24 + 24) + 25
    assert applications("minatar", "trunk/conv/kernel", (7, 5, 2)) == 15
    # the same convolution, four numbers beside it, and 45 + 5 for the dense layer
    kernels = 57 + 5 * 5
    assert value_parameters("minigrid", 24, 1, 74, (7, 5, 2)) == kernels + 51 * 24 + 25
    assert trunk_parameters("minigrid", 24, 9, 74, (7, 5, 2), layers=1) == kernels
    assert trunk_parameters("minigrid", 24, 9, 74, (7, 5, 2), layers=3) == kernels + 51 * 24 + 25 * 24
    assert [trunk_units("minigrid", 24, (7, 5, 2), layers) for layers in (1, 2)] == [50, 24]
    assert trunk_units("mlp", 24, None, 1) == 24
    assert applications("minigrid", "trunk/conv/kernel", (7, 5, 2)) == 15
    assert applications("minigrid", "trunk/beside/kernel", (7, 5, 2)) == 1
    # nature on 11 × 11 blocks of two channels: 10², 4², 2² places
    assert positions("nature", (11, 11, 32)) == {"conv": 100, "conv_2": 16, "conv_3": 4}
    kernels = 2 * (64 * 2 + 1) + 4 * (16 * 2 + 1) + 4 * (9 * 4 + 1)
    assert atari_parameters("nature", 32, (11, 11, 32)) == kernels + 32 * (4 * 4 + 1)


def test_numbers_of_drq_by_hand() -> None:
    """19 × 15 of three channels: 9 × 7, 4 × 3 and 2 × 1 places; 15 × 18: 7 × 8, 5 × 6, 3 × 4, 1 × 2."""
    assert encoded_size("drq_strided", 5, (19, 15, 3)) == 10
    assert encoded_size("drq", 4, (15, 18, 2)) == 8
    assert [applications("drq", f"trunk/{n}/kernel", (15, 18, 2)) for n in ("conv", "conv_3")] == [
        56,
        12,
    ]
    assert encoder_parameters("drq_strided", 5, (19, 15, 3)) == 5 * 28 + 2 * 5 * 46
    assert drq_patch_bytes("drq_strided", 5, (19, 15, 3)) == 4 * 9 * 3 * 63
    assert drq_patch_bytes("drq_strided", 50, (19, 15, 3)) == 4 * 9 * 50 * 12
    few = 11 * 4 + 4 + 8
    assert pixel_actor_parameters(11, 7, 4, 3) == few + (28 + 7) + (49 + 7) + 24
    assert twin_critic_parameters(11, 7, 4, 2) == few + 2 * ((42 + 7) + (49 + 7) + 8)


def test_folding_is_pixel_by_pixel() -> None:
    pixels = RNG.standard_normal((2, 6, 9, 2))
    np.testing.assert_array_equal(
        fold(jnp.float32(pixels), 3), by_numpy.in_blocks(pixels.astype(np.float32), 3)
    )
