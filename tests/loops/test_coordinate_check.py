"""A coordinate check: what it measures against numpy, and that it measures what learning does."""

from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
from conftest import MakeConfig

from sparse_rl.diagnostics import preactivations
from sparse_rl.networks import Critic, Policy
from sparse_rl.networks.convolutions import convolve
from sparse_rl.runs import LOOKS, coordinates_of
from sparse_rl.settings.schema import ConfigError
from sparse_rl.sweeps import coordinates as command

KEY = jax.random.key(2)


def rms(x: Any) -> float:
    return float(np.sqrt(np.mean(np.square(np.asarray(x, np.float64)))))


def random_like(params: Any) -> Any:
    """Biases that are not 0."""
    return jax.tree.map(lambda x: jax.random.normal(jax.random.fold_in(KEY, x.size), x.shape), params)


@pytest.mark.parametrize("feature_major", [False, True])
def test_sizes_are_those_before_the_nonlinearity(feature_major: bool) -> None:
    network, x = Critic("mlp", 5, 1, feature_major), jax.random.normal(KEY, (7, 3))
    params = random_like(jax.eval_shape(network.init, KEY, x)["params"])
    found, h = preactivations(network, params, x), np.asarray(x, np.float64)
    for layer in ("trunk/dense_0", "trunk/dense_1", "value"):
        *parents, last = layer.split("/")
        of = (params[parents[0]] if parents else params)[last]
        y = h @ np.asarray(of["kernel"], np.float64) + np.asarray(of["bias"], np.float64)
        np.testing.assert_allclose(found[layer], rms(y), rtol=1e-5)
        h = np.maximum(y, 0.0)
    assert len(found) == 3


def test_a_convolution_is_measured_at_every_place() -> None:
    network = Policy("minatar", 16, 1, 2, False, picture=(5, 4, 3))
    x = jax.random.normal(KEY, (6, 60))
    params = random_like(jax.eval_shape(network.init, KEY, x)["params"])
    conv = params["trunk"]["conv"]
    wanted = convolve(x.reshape(6, 5, 4, 3), conv["kernel"], 3) + conv["bias"]
    found = preactivations(network, params, x)
    np.testing.assert_allclose(found["trunk/conv"], rms(wanted), rtol=1e-5)
    assert set(found) == {"trunk/conv", "trunk/dense", "logits"}


def test_a_check_shows_what_updates_do_and_nothing_else(make_config: MakeConfig) -> None:
    """Two runs of one program: where the rate is next to nothing sizes stay, elsewhere they move."""
    agent = {"network": "mlp", "parametrisation": "smup", "base_width": 4, "actor_width_ratio": 1.0}
    rates = (1e-12, 3e-2)
    configs = [
        make_config(width=8, sparsity=0.4, agent=agent | {"learning_rate": rate, "weight_decay": 0.0})
        for rate in rates
    ]
    rows = pd.DataFrame(list(coordinates_of(configs)))
    layers = ["trunk/dense_0", "trunk/dense_1"]
    networks = ["actor/" + x for x in (*layers, "mean", "log_std")]
    networks += ["critic/" + x for x in (*layers, "value")]
    assert sorted(rows["layer"].unique()) == sorted(networks)
    assert list(rows["updates"].unique()) == list(LOOKS)
    assert len(rows) == len(networks) * len(LOOKS) * 2
    sizes = rows.pivot(index=["layer", "learning_rate"], columns="updates", values="preactivation")
    still, moved = (sizes.xs(rate, level="learning_rate") for rate in rates)
    assert (still[0] > 0.01).all()
    np.testing.assert_allclose(still.to_numpy(), np.repeat(still[[0]].to_numpy(), 5, axis=1), rtol=1e-6)
    np.testing.assert_allclose(moved[0], still[0], rtol=1e-6)  # the same draw
    assert (abs(moved[10] / moved[0] - 1) > 1e-3).all()
    assert (abs(moved[1] / moved[0] - 1) > 1e-5).all()


MAZE = {"env": {"source": "maze", "task": "5"}, "curriculum": {"method": "dr"}}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"agent": {"name": "ppo"}}, "makes 6 updates at once"),
        ({"agent": {"name": "paac"}} | MAZE, "without a curriculum"),
    ],
)
def test_what_cannot_be_looked_at_update_by_update_is_refused(
    make_config: MakeConfig, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        next(coordinates_of([make_config(**changes)]))


def test_the_command_writes_table_and_picture(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def found(configs: Any) -> Any:
        for config in configs:
            for updates in (0, 10):
                yield {
                    "env": "e", "agent": "sac", "network": "mlp", "parametrisation": "standard",
                    "initial_scale": "dense", "distribution": "uniform", "learning_rate": 0.1,
                    "width": config.width, "sparsity": config.sparsity, "seed": config.seed,
                    "layer": "critic/value", "updates": updates,
                    "preactivation": 3.0 + config.width / 16 * updates,
                }  # fmt: skip

    monkeypatch.setattr(command, "coordinates_of", found)
    job = {
        "agent": {"name": "sac"}, "env": {"source": "gymnax", "task": "Pendulum-v1"},
        "results_dir": str(tmp_path), "name": "check", "plan": False, "env_steps": 1000,
    }  # fmt: skip
    assert command.check([job | {"width": width} for width in (16, 48)]) == 0
    assert "critic/value: 2.54 (2.54 to 2.54)" in capsys.readouterr().out  # 33/13
    rows = pd.read_parquet(tmp_path / "check" / "coordinates.parquet")
    pd.testing.assert_frame_equal(rows, pd.read_csv(tmp_path / "check" / "coordinates.csv"))
    assert (tmp_path / "check" / "coordinates.png").stat().st_size > 5000
    assert command.check([job | {"width": 16, "plan": True, "name": "other"}]) == 0
    assert not (tmp_path / "other").exists()
