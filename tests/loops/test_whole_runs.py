"""One run of each on-policy agent, of which every number about its episodes is known beforehand."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tides
from conftest import MakeConfig

from sparse_rl.envs import Env, Step
from sparse_rl.records import results
from sparse_rl.runs.pack import prepare_pack, train_pack


def clockwork(discrete: bool) -> Env:
    """Rewards 20, 17, 14, 11 and 8, whatever is done; then the episode ends by itself."""

    def show(time: jax.Array) -> jax.Array:
        return jnp.stack([1.0 * time, 0.3 * time, 2.0 + 0.0 * time])

    def step(key: jax.Array, time: jax.Array, action: jax.Array) -> tuple[jax.Array, Step]:
        time = time + 1
        return time, Step(show(time), jnp.float32(23.0) - 3.0 * time, time >= 5)

    return Env(
        name="probe/tides", observation_size=3, action_size=3 if discrete else 2, episode_length=40,
        reset=lambda key: (jnp.int32(0), show(jnp.int32(0))), step=step, discrete=discrete,
    )  # fmt: skip


AGENTS: dict[str, tuple[dict[str, Any], int]] = {
    "ppo": ({"epochs": 2, "minibatches": 4}, 8),
    "paac": ({}, 1),
    "dqn": ({"final_exploration": 0.1, "exploration_share": 0.6}, 1),
}
"""Settings of each, and its updates on each rollout."""


@pytest.mark.parametrize("name", AGENTS)
def test_every_number_of_a_run_is_what_its_configuration_says(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    """Two actors, two frames an interaction: 2 + 2 + 1 frames and 37 + 25 + 8 = 70 an episode. Rollouts
    of four interactions are 16 frames, three of them a chunk of 48, and 240 frames five chunks.
    Evaluations are due after 96 and 192 frames, and at the end."""
    more, updates = AGENTS[name]
    tides.install(monkeypatch, clockwork(name == "dqn"))
    config = make_config(
        agent={"name": name, "num_envs": 2, "num_steps": 4, "learning_rate": 1e-9, **more},
        env={"source": "probe", "task": "tides", "action_repeat": 2, "eval_episodes": 3},
        width=3,
        env_steps=240,
        log_every=48,
        eval_every=96,
    )
    pack = prepare_pack([config])
    assert pack.runs[0].costs.updates == 15 * updates
    assert train_pack(pack, tmp_path) == {config.run_id: "done"}
    rows = results.read_metrics(tmp_path / config.run_id)
    assert rows["env_steps"].tolist() == [48, 96, 144, 192, 240]
    assert rows["updates"].tolist() == [3 * updates * i for i in (1, 2, 3, 4, 5)]
    np.testing.assert_allclose(rows["train_return_mean"], 70.0, rtol=1e-6)
    evaluated = [False, True, False, True, True]
    for column, expected in (
        ("return_mean", 70.0), ("return_std", 0.0), ("episode_length_mean", 6.0),
        (results.EPISODES_DISTINCT, 1.0),
    ):  # fmt: skip
        np.testing.assert_allclose(rows[column], np.where(evaluated, expected, np.nan), err_msg=column)
    if name == "dqn":  # from 1 to 0.1 in the first nine of fifteen rollouts
        falls = 1.0 - 0.9 * np.minimum(np.arange(15) / 9, 1.0)
        np.testing.assert_allclose(rows["exploration"], falls.reshape(5, 3).mean(1), rtol=1e-5)
        return
    entropy = 2 * 0.5 * np.log(2 * np.pi * np.e)  # of two Gaussians of deviation 1
    np.testing.assert_allclose(rows["entropy"], entropy, rtol=1e-5)
    if name == "ppo":
        np.testing.assert_array_equal(rows["clip_fraction"], 0.0)
        np.testing.assert_allclose(rows["approx_kl"], 0.0, atol=1e-6)
