"""Factors of a parametrisation against numbers worked by hand, and against what networks draw."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_rl.networks import (
    Critic,
    Encoder,
    Layer,
    Mixer,
    RecurrentCritic,
    Scale,
    kept_scales,
    scales,
    wiring_of,
)
from sparse_rl.networks.parametrisation import variance
from sparse_rl.pruning import path_name, prunable_shapes

PATHS = dict.fromkeys(
    f"{layer}/{part}"
    for layer in ("trunk/dense_0", "trunk/dense_1", "value")
    for part in ("kernel", "bias")
)
LAYERS = {
    # inputs and units, at the base; density, at the base
    "trunk/dense_0/kernel": Layer((5, 24), (5, 8), 0.6, 0.9),
    "trunk/dense_1/kernel": Layer((24, 24), (8, 8), 0.25, 0.8),
    "value/kernel": Layer((24, 1), (8, 1), 0.7, 0.4),
}
CRITIC = wiring_of(Critic("mlp", 24, 1))


def close(found: Scale, *wanted: float | None) -> bool:
    """Whether factors are these, to the rounding of float64."""
    return all(
        (one is None) == (two is None) and (one is None or math.isclose(one, two or 0.0, rel_tol=1e-12))
        for one, two in zip(found, wanted, strict=True)
    )


def test_factors_are_those_worked_by_hand() -> None:
    """Variances of draws are 1/8 at the base and 1/24 here. dense_0 reads the network's inputs,
    m = (5/5)(.6/.9) = 2/3; dense_1, m = 3·(.25/.8) = .9375; the output, m = 3·(.7/.4) = 5.25."""
    found = scales("critic", CRITIC, LAYERS, PATHS)
    assert close(found["trunk/dense_0/kernel"], math.sqrt(3 / (2 / 3)), None, 1.5)
    assert close(found["trunk/dense_1/kernel"], math.sqrt(3 / 0.9375), None, 1 / 0.9375)
    assert close(found["value/kernel"], math.sqrt(3) / 5.25, 1 / 5.25, 1 / 5.25)
    assert all(found[path] == Scale() for path in PATHS if path.endswith("bias"))


def test_where_gradients_size_counts_it_is_that_of_the_base() -> None:
    """RMSProp with a large ε: all gradients but the output bias's are as 1/5.25, the output's m."""
    found = scales("critic", CRITIC, LAYERS, PATHS, by_size=True)
    assert close(found["trunk/dense_1/kernel"], math.sqrt(3 / 0.9375), 5.25, 1 / 0.9375)
    assert close(found["value/kernel"], math.sqrt(3) / 5.25, 1.0, 1 / 5.25)
    assert close(found["trunk/dense_0/bias"], None, 5.25, None)
    assert found["value/bias"] == Scale()


def test_uniform_draws_are_as_wide_as_at_the_base() -> None:
    """±1/√n of weights and biases: variance 1/(3n), whatever the units."""
    found = scales("critic", CRITIC, LAYERS, PATHS, uniform=True)
    assert close(found["trunk/dense_0/kernel"], math.sqrt(1 / (2 / 3)), None, 1.5)
    assert close(found["trunk/dense_1/bias"], math.sqrt(3), None, None)
    assert close(found["trunk/dense_0/bias"], 1.0, None, None)


def test_a_layer_that_keeps_nothing_is_scaled_as_a_dense_one() -> None:
    assert Layer((24, 24), (8, 8), 0.0, 0.4).multiplier == 3.0
    assert Layer((24, 24), (8, 8), 0.4, 0.0).multiplier == 3.0


def test_what_an_encoder_makes_is_no_output() -> None:
    wiring = wiring_of(Encoder("drq_strided", 8, (18, 17, 3)))
    paths = {wire.kernel: None for wire in wiring.layers}
    layers = dict.fromkeys(paths, Layer((72, 8), (18, 2)))
    found = scales("encoder", wiring, layers, paths)
    assert close(found["trunk/conv_3/kernel"], 1.0, None, 0.25)  # 18/72; the draw has it already
    assert close(scales("critic", wiring, layers, paths)["trunk/conv_3/kernel"], 0.5, 0.25, 0.25)


def test_weights_that_a_mixer_makes_are_those_of_an_output() -> None:
    """Widths of 6 units that mix and 20 under them beside 2 and 5: what sums over the units that mix is
    a third each; the team's bias is an output of the layer of 6."""
    network, small = Mixer(3, 6, 20), Mixer(3, 2, 5)
    wiring, (here, base) = wiring_of(network), (_shapes(x, (1, 3), (1, 7)) for x in (network, small))
    layers = {path: Layer(shape, base[path]) for path, shape in here.items()}
    biases = {path.replace("kernel", "bias"): None for path in here}
    found = scales("mixer", wiring, layers, here | biases)
    assert close(found["weights_in/kernel"], math.sqrt(20 / 6 / 4), None, 0.25)  # 20 × 18 beside 5 × 6
    assert close(found["weights_out/kernel"], 1 / 3, 1 / 3, 0.25 / 3)
    assert close(found["weights_out/bias"], 1 / 3, 1 / 3, 1 / 3)
    assert close(found["bias_out/kernel"], math.sqrt(3) / 3, 1 / 3, 1 / 3)
    assert close(found["bias_in/kernel"], math.sqrt(1), None, 1.0)
    assert found["bias_in/bias"] == Scale()


def test_kept_restores_what_a_mask_takes() -> None:
    found = kept_scales(
        {"a/kernel": 0.16, "b/kernel": 0.0}, dict.fromkeys(("a/kernel", "a/bias", "b/kernel"))
    )
    assert close(found["a/kernel"], 2.5, None, None)
    assert close(found["b/kernel"], 1.0, None, None)
    assert found["a/bias"] == Scale()


def _shapes(network: Any, *inputs: tuple[int, ...]) -> dict[str, tuple[int, int]]:
    params = jax.eval_shape(
        lambda: network.init(jax.random.key(0), *(jnp.zeros(shape) for shape in inputs))
    )["params"]
    return {path: (shape[0], shape[1]) for path, shape in prunable_shapes(params).items()}


RECURRENT = RecurrentCritic("mlp", 6, 1, "gru", 40), RecurrentCritic("mlp", 40, 1, "gru", 6)
DRAWN: dict[str, tuple[Any, Any, tuple[tuple[int, ...], ...]]] = {
    "simba": (Critic("simba", 3, 1), Critic("simba", 36, 1), ((1, 7),)),
    "gru": (*RECURRENT, ((1, 0), (1, 7))),
    "mixer": (Mixer(3, 4, 9), Mixer(3, 8, 30), ((1, 3), (1, 7))),
}


@pytest.mark.parametrize("name", DRAWN)
def test_draws_have_the_variance_that_is_taken_for_theirs(name: str) -> None:
    """Mean squares of 40 draws of each kernel, in units of what is said of them: the same at both sizes.

    An orthogonal matrix has its mean square exactly; of n numbers of variance v it is within five
    standard errors, √(2/n) of it each, or less for truncated ones."""
    small, large, shapes = DRAWN[name]

    def ratios(network: Any) -> dict[str, tuple[float, int]]:
        seen = list(shapes)
        if name == "gru":
            seen[0] = (1, network.memory_width)

        def draw(key: Any) -> Any:
            params = network.init(key, *(jnp.zeros(shape) for shape in seen))["params"]
            return jax.tree.map(lambda x: jnp.mean(jnp.square(x)), params), params

        squares, params = jax.vmap(draw)(jax.random.split(jax.random.key(3), 40))
        found = {
            path_name(p): float(np.mean(x)) for p, x in jax.tree_util.tree_leaves_with_path(squares)
        }
        sizes = {path_name(p): x.shape[1:] for p, x in jax.tree_util.tree_leaves_with_path(params)}
        return {
            wire.kernel: (
                found[wire.kernel] / variance(wire, sizes[wire.kernel], False),
                40 * math.prod(sizes[wire.kernel]),
            )
            for wire in wiring_of(network).layers
        }

    one, two = ratios(small), ratios(large)
    drawn = {wire.kernel: wire.drawn for wire in wiring_of(small).layers}
    for kernel, (first, n) in one.items():
        second, m = two[kernel]
        error = 5 * math.sqrt(2 / n + 2 / m) if drawn[kernel] == "fan_in" else 1e-5
        assert abs(second / first - 1) < error, kernel
