"""Our networks in numpy, float64 or complex, written apart from the code under test.

Complex numbers give derivatives without a second implementation: of f analytic, f(x + ih) is
f(x) + ih f′(x) up to h², and with h = 10⁻³⁰ nothing is left of h² (Squire and Trapp 1998).
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

Layer = Mapping[str, Any]
Sown = dict[str, np.ndarray]
STEP = 1e-30


def relu(x: np.ndarray) -> np.ndarray:
    return np.where(x.real > 0, x, 0.0)


def dense(x: np.ndarray, layer: Layer) -> np.ndarray:
    return x @ layer["kernel"] + layer["bias"]


def norm(x: np.ndarray, layer: Layer, epsilon: float) -> np.ndarray:
    """LayerNorm over the last axis; of the mean square, no conjugates."""
    centred = x - x.mean(-1, keepdims=True)
    square = (centred**2).mean(-1, keepdims=True)
    return centred / np.sqrt(square + epsilon) * layer["scale"] + layer["bias"]


def convolution(x: np.ndarray, layer: Layer, size: int, stride: int) -> np.ndarray:
    """Window after window of NHWC; the kernel's rows are in the order row, column, channel."""
    rows, columns = ((side - size) // stride + 1 for side in x.shape[1:3])
    kernel = layer["kernel"].reshape(size, size, x.shape[3], -1)
    y = np.zeros((len(x), rows, columns, kernel.shape[3]), np.result_type(x, kernel))
    for i in range(rows):
        for j in range(columns):
            window = x[:, i * stride : i * stride + size, j * stride : j * stride + size]
            y[:, i, j] = np.einsum("nabc,abcu->nu", window, kernel)
    return y + layer["bias"]


def simba(trunk: Layer, x: np.ndarray, blocks: int) -> tuple[np.ndarray, Sown]:
    """What the heads see, and each layer's activations (Lee et al. 2024, §4)."""
    sown = {}
    x = dense(x, trunk["embed"])
    for b in range(blocks):
        h = norm(x, trunk[f"block_{b}_norm"], 1e-6)
        h = relu(dense(h, trunk[f"block_{b}_expand"]))
        sown[f"block_{b}_expand"] = h
        x = x + dense(h, trunk[f"block_{b}_project"])
    return norm(x, trunk["norm"], 1e-6), sown


def mlp(trunk: Layer, x: np.ndarray) -> tuple[np.ndarray, Sown]:
    first = relu(dense(x, trunk["dense_0"]))
    second = relu(dense(first, trunk["dense_1"]))
    return second, {"dense_0": first, "dense_1": second}


def minatar(trunk: Layer, x: np.ndarray, picture: tuple[int, int, int]) -> tuple[np.ndarray, Sown]:
    seen = relu(convolution(x.reshape(-1, *picture), trunk["conv"], 3, 1))
    made = relu(dense(seen.reshape(len(seen), -1), trunk["dense"]))
    return made, {"conv": seen.reshape(-1, seen.shape[-1]), "dense": made}


def minigrid(
    trunk: Layer, x: np.ndarray, picture: tuple[int, int, int], dense_layers: int
) -> tuple[np.ndarray, Sown]:
    """minimax's: a picture through a convolution, the rest through a linear layer, then both."""
    size = int(np.prod(picture))
    seen = relu(convolution(x[:, :size].reshape(-1, *picture), trunk["conv"], 3, 1))
    sown = {"conv": seen.reshape(-1, seen.shape[-1])}
    made = np.concatenate([seen.reshape(len(seen), -1), dense(x[:, size:], trunk["beside"])], axis=1)
    for name in (f"dense_{i}" for i in range(dense_layers)):
        made = sown[name] = relu(dense(made, trunk[name]))
    return made, sown


def in_blocks(pixels: np.ndarray, block: int) -> np.ndarray:
    """Pixel by pixel: channels of a block in the order row, column, channel."""
    n, rows, columns, channels = pixels.shape
    found = np.zeros((n, rows // block, columns // block, block * block * channels), pixels.dtype)
    for i in range(rows):
        for j in range(columns):
            first = (i % block * block + j % block) * channels
            found[:, i // block, j // block, first : first + channels] = pixels[:, i, j]
    return found


def atari(
    trunk: Layer, pixels: np.ndarray, layers: list[tuple[str, int, int]]
) -> tuple[np.ndarray, Sown]:
    """Published convolutions ``(name, size, stride)`` on pixels, from kernels that are held for blocks:
    rows in the order block row, block column, row, column, channel."""
    x, sown = pixels, {}
    for name, size, stride in layers:
        k, held = size // stride, trunk[name]["kernel"]
        kernel = held.reshape(k, k, stride, stride, x.shape[3], -1).transpose(0, 2, 1, 3, 4, 5)
        flat = {"kernel": kernel.reshape(held.shape), "bias": trunk[name]["bias"]}
        x = relu(convolution(x, flat, size, stride))
        sown[name] = x.reshape(-1, x.shape[-1])
    made = relu(dense(x.reshape(len(x), -1), trunk["dense"]))
    return made, sown | {"dense": made}


def encoder(trunk: Layer, pictures: np.ndarray, strides: tuple[int, ...]) -> tuple[np.ndarray, Sown]:
    """DrQ-v2's: bytes become shares of 255, less a half."""
    x, sown = pictures / 255.0 - 0.5, {}
    for i, stride in enumerate(strides):
        name = "conv" if i == 0 else f"conv_{i + 1}"
        x = relu(convolution(x, trunk[name], 3, stride))
        sown[name] = x.reshape(-1, x.shape[-1])
    return x.reshape(len(x), -1), sown


def few(trunk: Layer, seen: np.ndarray) -> np.ndarray:
    return np.tanh(norm(dense(seen, trunk["feature"]), trunk["norm"], 1e-5))


def twin(params: Layer, seen: np.ndarray, action: np.ndarray) -> tuple[np.ndarray, Sown]:
    """DrQ-v2's two critics: values ``[2, n]``."""
    trunk = params["trunk"]
    read = few(trunk, seen)
    values, sown = [], {"feature": read}
    for head in ("first", "second"):
        x = np.concatenate([read, action], axis=1)
        for name in (f"{head}_dense_0", f"{head}_dense_1"):
            x = relu(dense(x, trunk[name]))
            sown[name] = x
        values.append(dense(x, params[f"{head}_value"])[:, 0])
    return np.stack(values), sown


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


def gate(cell: Layer, names: tuple[str, str], x: np.ndarray, h: np.ndarray) -> np.ndarray:
    """What a gate reads of the trunk and of the memory; either may have no biases."""
    both = zip(names, (x, h), strict=True)
    return sum((y @ cell[n]["kernel"] + cell[n].get("bias", 0.0) for n, y in both), np.zeros(()))


def gru(cell: Layer, h: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Cho et al. 2014 (arXiv 1406.1078), with cuDNN's place of the reset gate."""
    r, z = (sigmoid(gate(cell, (f"i{g}", f"h{g}"), x, h)) for g in "rz")
    new = np.tanh(dense(x, cell["in"]) + r * dense(h, cell["hn"]))
    return (1.0 - z) * new + z * h


def lstm(cell: Layer, memory: Any, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hochreiter and Schmidhuber 1997, with forget gates: the cell and what is seen of it."""
    c, h = memory
    i, f, g, o = (gate(cell, (f"i{g}", f"h{g}"), x, h) for g in "ifgo")
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return c, sigmoid(o) * np.tanh(c)


def as_float64(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def gradients(function: Callable[[Any], Any], tree: Any) -> Any:
    """Of a real, analytic function of a pytree of float64 arrays: one entry after the other."""
    leaves, form = jax.tree.flatten(tree)
    leaves = [leaf.astype(np.complex128) for leaf in leaves]
    found = []
    for leaf in leaves:
        grad = np.zeros(leaf.shape)
        for place in np.ndindex(*leaf.shape):
            leaf[place] += STEP * 1j
            grad[place] = function(jax.tree.unflatten(form, leaves)).imag / STEP
            leaf[place] = leaf[place].real
        found.append(grad)
    return jax.tree.unflatten(form, found)


def drawn_like(shapes: Any, seed: int = 0, scale: float = 0.5) -> Any:
    """float32 parameters of these shapes, biases and norms included, none of them 0 or 1."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: np.float32(scale * rng.standard_normal(leaf.shape) + 0.1), shapes)
