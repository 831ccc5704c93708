"""What is said of a run while it trains."""

from typing import Any

import pytest

from sparse_rl.runs.lockstep import NOT_COMPILED, Lockstep, Policy, Progress, Run
from sparse_rl.runs.remarks import remarks
from sparse_rl.settings.run import RunConfig, run_config


def recurrent(**agent: Any) -> RunConfig:
    ppo = {"name": "ppo", "memory": "gru", "num_envs": 4, "num_steps": 4, "minibatches": 1, **agent}
    return run_config({"agent": ppo, "env": {"source": "gymnax", "task": "CartPole-v1"}})


@pytest.mark.parametrize(
    ("share", "said"), [(0.0, False), (0.98, False), (0.99, True), (1.0, True), (None, False)]
)
def test_a_critic_at_its_bounds_is_told_of(share: float | None, said: bool) -> None:
    row = {"saturation/actor": 1.0} | ({} if share is None else {"saturation/critic": share})
    words = remarks(recurrent(), row, 640)
    assert ("saturated critic" in words) is said
    if said:
        assert f"saturation/critic is {share:.2f} at env_steps=640" in words["saturated critic"]
        assert "agent.normalise_rewards=true" in words["saturated critic"]


def test_no_advice_is_given_that_was_taken() -> None:
    (words,) = remarks(recurrent(normalise_rewards=True), {"saturation/critic": 1.0}, 640).values()
    assert "normalise_rewards" not in words


def test_each_thing_is_said_once_of_each_run() -> None:
    """Both remarks of a run, and the same again of another, however often they are found."""
    none: Any = None
    said: list[Progress] = []
    runs = [recurrent(), recurrent(discount=0.9)]
    lockstep = Lockstep(
        none, NOT_COMPILED, [Run(r, none, none) for r in runs], none, "map", "none", said.append,
        Policy(), none,
    )  # fmt: skip
    saturated, one = {"saturation/critic": 1.0}, {"eval_episodes_distinct": 1.0}
    for row in (saturated, saturated | one, saturated | one):
        for run in runs:
            lockstep._remark(run, row, 640)
    assert [p.run_id for p in said] == [r.run_id for r in runs] * 2
    assert [("saturation" in str(p.note), "distinct" in str(p.note)) for p in said] == [
        (True, False), (True, False), (False, True), (False, True),
    ]  # fmt: skip
