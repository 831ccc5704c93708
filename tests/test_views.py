"""Weights & Biases as a view beside the rows on disk."""

import sys
from pathlib import Path

import pytest
from conftest import MakeConfig

from sparse_rl import results, views
from sparse_rl.experiment import prepare_pack, train_pack


@pytest.mark.filterwarnings("ignore::DeprecationWarning:wandb")
def test_wandb_offline_shows_the_rows(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="extra wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    pack = [make_config(seed=seed) for seed in (0, 1)]
    statuses = train_pack(prepare_pack(pack), tmp_path, logging="wandb")
    assert set(statuses.values()) == {"done"}
    for config in pack:
        (log,) = (tmp_path / config.run_id).rglob("*.wandb")
        content = log.read_bytes()
        assert b"return_mean" in content
        assert config.run_id.encode() in content
        assert len(results.read_metrics(tmp_path / config.run_id)) == 2


def test_a_missing_package_is_named_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'sparse_rl\[wandb\]'"):
        views.check_available("wandb")
    views.check_available("none")
