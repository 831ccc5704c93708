"""Agents learn to a documented reference within seconds."""

from pathlib import Path

import numpy as np
import yaml

import sparse_rl
from sparse_rl.records import results
from sparse_rl.runs.pack import prepare_pack, train_pack
from sparse_rl.settings.run import run_config

CONF = Path(sparse_rl.__file__).parent / "conf"


def test_ppo_balances_cartpole(tmp_path: Path) -> None:
    """The presets at 60 % of their budget: at least 450 of 500 over three seeds."""
    agent = yaml.safe_load((CONF / "agent/ppo.yaml").read_text())
    env = yaml.safe_load((CONF / "env/gymnax/cartpole.yaml").read_text())
    steps = 122_880
    budget = {"env_steps": steps, "log_every": steps, "eval_every": steps}
    pack = [run_config({"agent": agent, "env": env, "seed": seed, **budget}) for seed in range(3)]
    assert set(train_pack(prepare_pack(pack), tmp_path).values()) == {"done"}
    last = [results.read_metrics(tmp_path / config.run_id)["return_mean"].iloc[-1] for config in pack]
    assert np.mean(last) >= 450
