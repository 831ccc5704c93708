"""Torch modules of every kind: pruned as the matrices they hold, whatever wraps them, or refused."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

pytest.importorskip("torch")
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch_threads import one_thread  # noqa: F401

from sparse_rl.pruning import AxesError, PassedOverWarning
from sparse_rl.torch_modules import (
    apply_masks_,
    module_counts,
    module_dormancy,
    module_masks,
    prune_,
    record_activations,
)

SPARSITY = 0.6


def units_first(mask: Tensor) -> Tensor:
    """``[units, inputs, window]`` → ``[1, units, inputs]``."""
    return mask.flatten(1)[None]


def grouped(mask: Tensor) -> Tensor:
    return mask.flatten(1).unflatten(0, (2, -1))


def transposed(mask: Tensor) -> Tensor:
    """``[inputs, units of a group, window]`` in two groups → ``[groups, units, inputs]``."""
    return mask.unflatten(0, (2, -1)).transpose(1, 2).flatten(2)


class Case(NamedTuple):
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    kernels: dict[str, Callable[[Tensor], Tensor]]
    """Name of each pruned parameter → its mask as bool ``[members, units, inputs]``."""


def tied() -> nn.Module:
    module = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    module[2].weight = module[0].weight
    return module


def half() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.Linear(8, 5)).to(torch.bfloat16)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.cell = nn.LSTM(5, 4, batch_first=True), nn.GRUCell(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.cell(self.rnn(x)[0][:, -1])


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x)[0]


ORIGINAL = "parametrizations.weight.original"
ZOO = {
    "tied": Case(tied, (3, 8), {"0.weight": units_first}),
    "half precision": Case(half, (3, 5), {"0.weight": units_first, "2.weight": units_first}),
    "groups": Case(
        lambda: nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.BatchNorm2d(6), nn.Conv2d(6, 5, 1)),
        (2, 4, 5, 5),
        {"0.weight": grouped, "2.weight": units_first},
    ),
    "transposed": Case(
        lambda: nn.ConvTranspose2d(4, 6, 3, groups=2), (2, 4, 5, 5), {"weight": transposed}
    ),
    "weight norm": Case(
        lambda: parametrizations.weight_norm(nn.Linear(5, 8)), (3, 5), {f"{ORIGINAL}1": units_first}
    ),
    "spectral norm": Case(
        lambda: parametrizations.spectral_norm(nn.Linear(5, 8)), (3, 5), {ORIGINAL: units_first}
    ),
    "recurrent": Case(
        Recurrent,
        (3, 2, 5),
        dict.fromkeys(
            ("rnn.weight_ih_l0", "rnn.weight_hh_l0", "cell.weight_ih", "cell.weight_hh"), units_first
        ),
    ),
    "attention": Case(
        Attending,
        (2, 3, 8),
        dict.fromkeys(("attention.in_proj_weight", "attention.out_proj.weight"), units_first),
    ),
}


@pytest.mark.parametrize("name", ZOO)
def test_counts_fan_in_and_training(name: str) -> None:
    case = ZOO[name]
    module = case.make()
    masks = module_masks(module, 0, SPARSITY)
    assert masks.keys() == case.kernels.keys()
    total = sum(mask.numel() for mask in masks.values())
    assert sum(int(mask.sum()) for mask in masks.values()) == round((1 - SPARSITY) * total)
    for path, view in case.kernels.items():
        members = view(masks[path])
        assert members.any(dim=2).all(), path
        assert np.ptp(members.sum(dim=(1, 2)).numpy()) <= 1, path
    prune_(module, masks)
    optimiser = torch.optim.AdamW(module.parameters(), lr=1e-2, weight_decay=0.1)
    dtype = next(module.parameters()).dtype
    for _ in range(3):
        optimiser.zero_grad()
        (module(torch.randn(case.shape, dtype=dtype)) ** 2).mean().backward()
        optimiser.step()
    for path, mask in masks.items():
        parameter = module.get_parameter(path)
        assert torch.all(parameter[~mask] == 0), path
        assert torch.all(parameter[mask] != 0), path
    if "norm" in name:
        weight = module.weight
        assert isinstance(weight, Tensor)
        assert torch.equal(weight != 0, next(iter(masks.values())))


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, 9), nn.ReLU(), nn.Sequential(nn.Linear(9, 4), nn.ReLU()))


def compiled(module: nn.Module) -> nn.Module:
    made: Any = torch.compile(module, backend="eager")
    assert isinstance(made, nn.Module)
    return made


def inside() -> nn.Module:
    module = network()
    module[2] = compiled(module[2])
    return module


WRAPPED: dict[str, Callable[[], nn.Module]] = {
    "compiled": lambda: compiled(network()),
    "compiled inside": inside,
    "parallel": lambda: nn.DataParallel(network()),
    "averaged": lambda: torch.optim.swa_utils.AveragedModel(network()),
    "both": lambda: nn.DataParallel(inside()),
}


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # which the compiler reads itself
@pytest.mark.parametrize("name", WRAPPED)
def test_wrappers_are_no_part_of_a_name(name: str) -> None:
    """The same masks under the same names, found either way; health is measured inside."""
    module = WRAPPED[name]()
    plain, masks = module_masks(network(), 0, SPARSITY), module_masks(module, 0, SPARSITY)
    assert plain.keys() == masks.keys() == {"0.weight", "2.0.weight"}
    for path in plain:
        assert torch.equal(plain[path], masks[path])
    prune_(module, plain)
    module(torch.randn(3, 5)).sum().backward()
    outside = {path: p for path, p in module.named_parameters() if path.endswith("weight")}
    for (path, parameter), mask in zip(outside.items(), plain.values(), strict=True):
        assert torch.all(parameter[~mask] == 0), path
        assert parameter.grad is not None
        assert torch.all(parameter.grad[~mask] == 0), path
    apply_masks_(network(), dict(zip(outside, plain.values(), strict=True)))
    assert module_counts(module, plain) == module_counts(network(), plain)
    with torch.no_grad(), record_activations(module) as activations:
        module(torch.randn(3, 5))
    assert {layer: tuple(values.shape) for layer, values in activations.items()} == {
        "0": (3, 9),
        "2.0": (3, 4),
    }


def test_a_parametrisation_that_need_not_keep_zeros_is_refused() -> None:
    module = nn.Sequential(parametrizations.orthogonal(nn.Linear(4, 4)), nn.Linear(4, 3))
    with pytest.raises(ValueError, match=r"0\..*original is parametrised by _Orthogonal.*prunable="):
        module_masks(module, 0, 0.5)
    masks = module_masks(module, 0, 0.5, prunable=lambda path, leaf: path == "1/kernel")
    assert masks.keys() == {"1.weight"}
    with pytest.raises(ValueError, match="weight, bias have no shape yet: run the module once"):
        module_masks(nn.LazyLinear(3), 0, 0.5)


class Noisy(nn.Module):
    """A layer of somebody's own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight_mu, self.bias_mu = nn.Parameter(torch.ones(3, 4)), nn.Parameter(torch.ones(3))
        self.stack = nn.Parameter(torch.ones(2, 3, 4))


def test_what_is_not_known_is_an_error_or_named() -> None:
    with pytest.raises(ValueError, match=r"nothing to prune among bias_mu, stack, weight_mu"):
        module_masks(Noisy(), 0, 0.5)
    both = nn.ModuleDict({"noisy": Noisy(), "head": nn.Linear(4, 6)})
    with pytest.warns(PassedOverWarning, match=r"noisy.weight_mu \(3, 4\), noisy.stack \(2, 3, 4\);"):
        masks = module_masks(both, 0, 0.5)
    assert masks.keys() == {"head.weight"}
    masks = module_masks(both, 0, 0.5, prunable=lambda path, leaf: path == "noisy/weight_mu")
    assert {name: int(mask.sum()) for name, mask in masks.items()} == {"noisy.weight_mu": 6}
    with pytest.raises(AxesError, match="noisy/stack"):
        module_masks(both, 0, 0.5, prunable=lambda path, leaf: "noisy" in path)


class Impala(nn.Module):
    """A convolution, pooled, rectified, and a block added to it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool, self.relu = nn.Conv2d(3, 6, 3, padding=1), nn.MaxPool2d(2), nn.ReLU()
        self.inner, self.last = nn.Conv2d(6, 6, 1), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.pool(self.conv(x)))
        return self.last(x + self.inner(x))


def test_channels_are_units_behind_pooling_and_a_sum_must_be_told() -> None:
    """Half of six channels dead: three of six dormant, whatever the picture's columns do."""
    module, pictures = Impala(), torch.randn(5, 3, 8, 4)
    with torch.no_grad():
        module.conv.bias[:3] -= 100.0  # type: ignore[index]
        with record_activations(module, ["relu"]) as activations:
            module(pictures)
        assert activations["conv"].shape == (5 * 4 * 2, 6)
        assert float(module_dormancy(activations).layers["conv"]) == 0.5
        with record_activations(module), pytest.raises(ValueError, match=r'last puts out .*"last": 1'):
            module(pictures)
        with record_activations(module, unit_axis={"last": 1}) as activations:
            module(pictures)
    assert activations["last"].shape == (5 * 4 * 2, 6)
    masks = module_masks(module, 0, 0.5)
    masks["conv.weight"][0] = False
    assert float(module_dormancy(activations, masks).layers["conv"]) == pytest.approx(2 / 5)


def test_dormancy_finds_the_mask_of_a_parametrised_layer() -> None:
    layer: Any = parametrizations.weight_norm(nn.Linear(5, 8))
    module = nn.Sequential(layer, nn.ReLU())
    masks = module_masks(module, 0, 0.5)
    masks[f"0.{ORIGINAL}1"][:2] = False
    with torch.no_grad(), record_activations(module) as activations:
        module(torch.randn(6, 5))
    assert float(module_dormancy(activations, masks).disconnected) == pytest.approx(2 / 8)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_units_of_bilinear_and_grouped_transposed_layers_read_alike(seed: int) -> None:
    """4 units of 3 × 5 pairs, 2 · 3 units of 3 inputs under 3 × 3: each keeps 6 of 15, or 9 of 27,
    whatever the draw."""
    options: dict[str, Any] = {"pattern": "constant_fan_in"}
    mask = module_masks(nn.Bilinear(3, 5, 4), seed, 0.6, **options)["weight"]
    assert tuple(mask.shape) == (4, 3, 5)
    assert mask.flatten(1).sum(1).tolist() == [6, 6, 6, 6]
    mask = module_masks(nn.ConvTranspose2d(6, 6, 3, groups=2), seed, 2 / 3, **options)["weight"]
    assert transposed(mask).sum(2).tolist() == [[9, 9, 9], [9, 9, 9]]


def test_what_survives_keeps_its_gradient_and_passes_are_put_together() -> None:
    """A surviving weight may be 0 for a moment. Two passes of 2 and 3 samples are five, in order; of the
    first unit all inputs are pruned, so means are 4 and 0.5 of the others, τ · 2.25 between them."""
    layer = nn.Linear(2, 3)
    module = nn.Sequential(layer, nn.ReLU())
    masks = {"0.weight": torch.tensor([[False, False], [True, True], [True, False]])}
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[9.0, 9.0], [1.0, 0.0], [0.125, 9.0]]))
        layer.bias.copy_(torch.tensor([50.0, 0.0, 0.0]))
    apply_masks_(module, masks)
    layer.weight.grad = torch.ones(3, 2)
    apply_masks_(module, masks)
    assert layer.weight.grad.tolist() == [[0.0, 0.0], [1.0, 1.0], [1.0, 0.0]]
    assert module_counts(module, masks) == (9, 6)
    first, second = torch.tensor([[8.0, 7.0], [0.0, 7.0]]), torch.tensor([[4.0, 7.0]] * 3)
    with torch.no_grad(), record_activations(module) as activations:
        module(first)
        module(second)
    assert activations["0"][:, 1].tolist() == [8.0, 0.0, 4.0, 4.0, 4.0]
    found = module_dormancy(activations, masks, 0.25)
    assert float(found.network) == 0.5
    assert float(found.disconnected) == pytest.approx(1 / 3)
    assert float(module_dormancy(activations, masks, 0.2).network) == 0.0
