"""Weights and masks of flax networks under torch's names, in torch's layout."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

LAST = {"kernel": "weight", "scale": "weight", "embedding": "weight"}
"""Last part of a flax path → what torch calls it."""


def torch_name(path: str) -> str:
    """``trunk/embed/kernel`` → ``trunk.embed.weight``."""
    *parts, last = path.split("/")
    return ".".join([*parts, LAST.get(last, last)])


def torch_array(path: str, array: np.ndarray) -> Tensor:
    """An array in torch's layout: a kernel ``[inputs, units]`` as ``[units, inputs]``, one of a
    convolution ``[h, w, channels, units]`` as ``[units, channels, h, w]``; the rest as it is."""
    if path.rpartition("/")[2] == "kernel":
        array = np.moveaxis(array, (-1, -2), (0, 1))
    return torch.tensor(np.ascontiguousarray(array))


def state_dict(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """flax path → array, as what a torch module of the same names loads."""
    return {torch_name(path): torch_array(path, array) for path, array in arrays.items()}
