"""What a run's environments begin with: a key that nothing else of the run has."""

from typing import Any

import crew
import jax
import numpy as np
import pytest
from conftest import MakeConfig

from sparse_rl.agents.contract import Streams
from sparse_rl.envs import vector
from sparse_rl.kernels.keys import key_of
from sparse_rl.runs.pack import prepare_pack


class _Begun(Exception):  # noqa: N818
    """Environments are to begin with a key."""


@pytest.mark.parametrize(("name", "num_envs"), [("sac", 4), ("ppo", 5), ("iql", 2), ("stream_q", 1)])
def test_environments_begin_with_a_key_of_their_own_stream(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, name: str, num_envs: int
) -> None:
    def reset(env: Any, key: Any, number: int) -> Any:
        raise _Begun(key, number)

    crew.install(monkeypatch)
    env = {"source": "jaxmarl", "task": "crew", "eval_episodes": 1} if name == "iql" else {}
    many = {} if name == "stream_q" else {"num_envs": num_envs}
    loop: Any
    loop, (run,) = prepare_pack([make_config(seed=7, env=env, agent={"name": name, **many})])
    monkeypatch.setattr(vector, "reset", reset)
    with pytest.raises(_Begun) as begun:
        loop.init(run.inputs)
    key, number = begun.value.args
    assert number == num_envs
    expected = jax.random.fold_in(key_of(7), Streams.ENV)
    np.testing.assert_array_equal(jax.random.key_data(key), jax.random.key_data(expected))
