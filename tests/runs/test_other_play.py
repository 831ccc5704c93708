"""The lever game: who trained together agrees on what a stranger cannot know, unless names change."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
from interrupting import train

from sparse_rl.envs.teams.relabelling import Relabelled
from sparse_rl.loops import OnPolicyLoop, rounds
from sparse_rl.runs import cross_play, prepare_pack
from sparse_rl.settings.run import RunConfig, run_config
from sparse_rl.settings.schema import ConfigError

QUICK = {
    "name": "pqn_vdn", "network": "mlp", "num_envs": 4, "num_steps": 2, "minibatches": 1, "epochs": 1,
    "learning_rate": 0.1, "learning_rate_schedule": "constant", "discount": 0.0,
    "final_exploration": 0.3,
}  # fmt: skip


def config_of(seed: int, other_play: bool) -> RunConfig:
    env = {"source": "probe", "task": "levers", "eval_episodes": 4}
    budget = {"env_steps": 16000, "log_every": 8000, "eval_every": 16000}
    agent = QUICK | {"other_play": other_play}
    return run_config({"agent": agent, "env": env, "width": 8, "seed": seed, **budget})


def played(study: Path, other_play: bool) -> tuple[list[float], list[float]]:
    """What three seeds earn by themselves, and with each other."""
    train([config_of(seed, other_play) for seed in range(3)], study, every=8000)
    rows = pd.DataFrame(cross_play([study], episodes=2, pairs="within", sample=None, say=lambda _: None))
    rows = rows[rows["policy"] == "greedy"]
    alone, apart = (rows[rows["self_play"] == own]["return_mean"].round(5) for own in (True, False))
    return alone.tolist(), apart.tolist()


def test_strangers_agree_on_the_one_lever_that_has_no_other_name(tmp_path: Path) -> None:
    """Of five seeds that trained by themselves four earned 1, one 0.9, and all nothing with each other;
    five that trained so earned 0.9 with everybody."""
    alone, apart = played(tmp_path / "self", other_play=False)
    assert all(value in (0.9, 1.0) for value in alone)
    assert max(alone) == 1.0
    assert sum(apart) / 6 < 0.4  # a ninth, of who chose among nine; all nine alike would be 1
    alone, apart = played(tmp_path / "other", other_play=True)
    assert alone == [0.9] * 3
    assert apart == [0.9] * 6


def test_evaluations_name_things_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """With likeliest and with drawn actions; training does not."""
    played_in: list[Any] = []

    def play(config: Any, env: Any, *rest: Any) -> dict[str, Any]:
        played_in.append(env)
        return {}

    monkeypatch.setattr(rounds, "play", play)
    loop, (run,) = prepare_pack([config_of(0, other_play=True)])
    assert isinstance(loop, OnPolicyLoop)
    state = jax.eval_shape(loop.init, run.inputs)
    assert isinstance(state.envs.env, Relabelled)
    jax.eval_shape(loop.evaluate, jax.ShapeDtypeStruct((), np.int32), state)
    assert [env.reset.__module__ for env in played_in] == ["sparse_rl.envs.levers"] * 2


def test_what_has_no_other_name_is_refused() -> None:
    asked = {"name": "ippo", "other_play": True}
    config = run_config({"agent": asked, "env": {"source": "jaxmarl", "task": "switch_riddle"}})
    with pytest.raises(ConfigError, match=r"no such thing is told; choose one of probe/levers, jaxmarl"):
        prepare_pack([config])
