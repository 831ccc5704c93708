"""Factors of a coordinate check, worked by hand."""

import math

import pandas as pd
import pytest

from sparse_rl.analysis.coordinates import draw, factors, words

CHECK = {
    "env": "gymnax/Pendulum-v1", "agent": "sac", "network": "mlp", "initial_scale": "dense",
    "distribution": "erdos_renyi", "learning_rate": 3e-4, "layer": "critic/0/value",
}  # fmt: skip
SIZES = {
    # (width, sparsity) → sizes of seeds 3 and 4, before and after
    (64, 0.0): ((2.0, 2.0), (3.0, 5.0)),
    (64, 0.8): ((2.0, 3.0), (4.0, 4.0)),
    (256, 0.0): ((2.0, 2.5), (9.0, 2.0)),
}


def table(change: float = 1.0) -> pd.DataFrame:
    rows = [
        CHECK | {"parametrisation": name, "width": width, "sparsity": sparsity, "seed": seed,
                 "updates": updates, "preactivation": size * (change if name == "smup" else 1.0)}
        for name in ("standard", "smup")
        for (width, sparsity), looks in SIZES.items()
        for updates, sizes in zip((0, 7), looks, strict=True)
        for seed, size in zip((3, 4), sizes, strict=True)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def of(found: pd.DataFrame, parametrisation: str, updates: int) -> dict[str, float]:
    chosen = found[(found["parametrisation"] == parametrisation) & (found["updates"] == updates)]
    (row,) = chosen.to_dict("records")
    return {str(name): value for name, value in row.items()}


def test_factors_are_of_the_cells_means_and_of_each_seed() -> None:
    """After 7 updates geometric means are √15, 4 and √18; seed 3 has 3, 4, 9 and seed 4 has 5, 4, 2."""
    found = of(factors(table()), "smup", 7)
    assert found["factor"] == pytest.approx(math.sqrt(18 / 15))
    assert (found["low"], found["high"], found["seeds"]) == (2.5, 3.0, 2)
    before = of(factors(table()), "standard", 0)
    assert before["factor"] == pytest.approx(math.sqrt(1.5))
    assert (before["low"], before["high"]) == (1.0, 1.5)


def test_a_layer_that_makes_nothing_is_infinitely_far_off_and_no_number_is_none() -> None:
    rows = table()
    rows.loc[rows["preactivation"] == 9.0, "preactivation"] = 0.0
    found = of(factors(rows), "smup", 7)
    assert found["factor"] == found["high"] == math.inf
    assert found["low"] == 2.5
    lost = factors(table(math.nan))
    assert math.isnan(of(lost, "smup", 7)["factor"])
    assert not math.isnan(of(lost, "standard", 7)["factor"])


def test_it_is_said_and_drawn_for_each_check_and_layer() -> None:
    said = list(words(table()))
    assert "widths 64, 256 and sparsities 0, 0.8, after 7 updates" in said[0]
    assert [line for line in said if "1.10 (2.50 to 3.00)" in line] == [
        "  critic/0/value: 1.10 (2.50 to 3.00)"
    ] * 2
    figure = draw(table())
    assert len(figure.axes) == 2  # two parametrisations, one layer
    lines = [line for line in figure.axes[1].lines if len(line.get_xdata())]  # type: ignore[arg-type]
    assert sorted(len(line.get_xdata()) for line in lines) == [1, 1, 2, 2]  # type: ignore[arg-type]
