"""Bad input gets one clear error: what was wrong, where, and what is allowed."""

from typing import Any

import pytest
from conftest import MakeConfig

from sparse_rl.settings.off_policy import SacConfig
from sparse_rl.settings.run import agent_settings, run_config, schema_keys
from sparse_rl.settings.schema import ConfigError


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"widht": 8}, r"unknown key 'widht'. Did you mean width"),
        ({"agent": {"larning_rate": 1.0}}, r"agent.larning_rate.*agent.learning_rate"),
        ({"width": 0}, r"width=0 is out of range; allowed: >= 1"),
        ({"width": 16.5}, r"width=16.5 is not allowed; give a whole number"),
        ({"width": True}, r"width=True is not allowed"),
        ({"width": "wide"}, r"width='wide' is not allowed"),
        ({"sparsity": 1.0}, r"sparsity=1.0 is out of range; allowed: 0 <= value < 1"),
        ({"sparsity": -0.1}, r"sparsity=-0.1 is out of range"),
        ({"sparsity": float("nan")}, r"sparsity=nan is not allowed"),
        ({"seed": -1}, r"seed=-1 is out of range; allowed: 0 <= value < 2\*\*32"),
        ({"pruning": {"pattern": "star"}}, r"pruning.pattern='star'.*unstructured, constant_fan_in"),
        ({"pruning": {"critic_sparsity": 2}}, r"pruning.critic_sparsity=2 is out of range"),
        ({"pruning": {"storage": "block"}}, r"pruning.storage='block'.*auto, masked"),
        ({"agent": {"network": "cnn"}}, r"agent.network='cnn' is not allowed; give one of simba, mlp"),
        ({"agent": {"learning_rate": 0}}, r"agent.learning_rate=0 is out of range; allowed: > 0"),
        ({"env_steps": 250.5}, r"env_steps=250.5 is not allowed; give a whole number"),
        ({"log_every": 0}, r"log_every=0 is out of range; allowed: >= 1"),
        ({"env_steps": 0}, r"env_steps=0 is out of range; allowed: >= 1"),
        ({"eval_every": "x"}, r"eval_every='x' is not allowed; give a whole number"),
        (
            {"env": {"source": "doom"}},
            r"env.source='doom'.*atari, classic, dm_control, dm_control_pixels, gymnasium, gymnax",
        ),
    ],
)
def test_errors_name_the_key_and_what_is_allowed(
    make_config: MakeConfig, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_config(**changes)


def composed(**changes: Any) -> dict[str, Any]:
    return {"env": {"source": "gymnax", "task": "Pendulum-v1", "env_steps": 5000}, **changes}


def test_what_is_not_given_follows_from_the_presets() -> None:
    config = run_config(composed(seed=4, log_every=None, env_steps="???"))
    assert (config.width, config.sparsity, config.mask_seed) == (512, 0.0, 4)
    assert (config.env_steps, config.log_every, config.eval_every) == (5000, 5000, 5000)


def test_the_sweeps_own_settings_are_not_part_of_a_run() -> None:
    assert run_config(composed(name="a", plan=True)) == run_config(composed(results_dir="b"))


def test_a_run_id_changes_with_every_setting_and_with_nothing_else() -> None:
    base = run_config(composed(seed=1))
    assert base.run_id == run_config(composed(seed=1, width=512, sparsity=0)).run_id
    changed = [
        run_config(composed(**{"seed": 1, **change})).run_id
        for change in (
            {"seed": 2},
            {"mask_seed": 2},
            {"sparsity": 0.5},
            {"width": 64},
            {"agent": {"weight_decay": 0.0}},
            {"pruning": {"min_fan_in": 0}},
            {"diagnostics": {"dormant_threshold": 0.0}},
        )
    ]
    assert len({base.run_id, *changed}) == 8


def test_actor_and_critic_sparsity_follow_the_sparsity_unless_told_apart() -> None:
    config = run_config(composed(sparsity=0.9, pruning={"actor_sparsity": 0.0}))
    assert (config.actor_sparsity, config.critic_sparsity) == (0.0, 0.9)


def test_published_defaults() -> None:
    """SYSTEMS: SimBa's SAC on DM Control."""
    agent = agent_settings(run_config(composed()), SacConfig)
    assert (agent.actor_width(512), agent.actor_blocks, agent.critic_blocks) == (128, 1, 2)
    assert (agent.learning_rate, agent.weight_decay, agent.batch_size) == (1e-4, 1e-2, 256)
    assert (agent.replay_size, agent.random_interactions) == (1_000_000, 5000)
    assert (agent.target_rate, agent.initial_temperature) == (0.005, 0.01)
    assert (agent.target_entropy_per_action, agent.updates_per_interaction) == (-0.5, 2.0)
    assert not agent.clipped_double_q


def test_schema_keys_are_dotted() -> None:
    assert {"width", "agent.learning_rate", "pruning.pattern"} <= set(schema_keys())


SHARES = [0.1 * i for i in range(1, 10)]


def test_what_arithmetic_leaves_behind_is_no_other_run() -> None:
    """3 · 0.1 is 0.30000000000000004; 1 − 0.9 is 0.09999999999999998; 0.3 − 3 · 0.1 is −5.6e-17."""
    assert SHARES[2] != 0.3
    for given, meant in ((SHARES[2], 0.3), (1 - 0.9, 0.1), (0.3 - 0.1 * 3, 0.0), (-0.0, 0.0)):
        assert run_config(composed(sparsity=given)).run_id == run_config(composed(sparsity=meant)).run_id
    assert [run_config(composed(sparsity=share)).sparsity for share in SHARES] == [
        0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9,
    ]  # fmt: skip
    one = run_config(composed(agent={"learning_rate": 3 * 1e-4}, pruning={"actor_sparsity": 0.1 * 3}))
    two = run_config(composed(agent={"learning_rate": 3e-4}, pruning={"actor_sparsity": 0.3}))
    assert one.run_id == two.run_id
    assert run_config(composed(sparsity=0.3 + 1e-9)).run_id != run_config(composed(sparsity=0.3)).run_id


def test_whole_numbers_are_numbers_where_none_may_be_given_too() -> None:
    one, two = (run_config(composed(pruning={"actor_sparsity": zero})) for zero in (0, 0.0))
    assert one.run_id == two.run_id
    assert run_config(composed(pruning={"actor_sparsity": None})).pruning.actor_sparsity is None


def test_a_share_that_rounds_to_one_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"sparsity=0.9999999999999999 is out of range"):
        run_config(composed(sparsity=1 - 1e-16))
    with pytest.raises(ConfigError, match=r"agent.learning_rate=1e-17 is out of range; allowed: > 0"):
        run_config(composed(agent={"learning_rate": 1e-17}))


def test_run_ids_are_those_that_they_were() -> None:
    """Of ordinary values: results on disk keep their names."""
    ppo = composed(agent={"name": "ppo"}, width=16, env_steps=2048, log_every=1024)
    assert run_config(composed(seed=1, sparsity=0.9)).run_id == "w512_s0.9_seed1_75c0e14484"
    assert run_config(ppo).run_id == "w16_s0_seed0_02063c1148"


def test_how_often_a_run_learns_and_on_what_by_hand() -> None:
    """A tenth of a short run is random; updates per interaction as a fraction; probe batches."""
    config = run_config(composed(agent={"updates_per_interaction": 0.3, "num_envs": 2}, env_steps=5000))
    agent = agent_settings(config, SacConfig)
    assert config.interactions == 2500
    assert (agent.updates_ratio.numerator, agent.updates_ratio.denominator) == (3, 10)
    assert agent.random_of(2500) == 250
    assert agent.random_of(90_000) == 5000
    samples = config.diagnostics.samples
    assert [samples(width) for width in (16, 128, 300, 1024, 4096)] == [256, 256, 600, 2048, 2048]


def test_frames_of_an_interaction_and_of_a_round() -> None:
    env = {"source": "gymnax", "task": "CartPole-v1", "action_repeat": 3, "env_steps": 6000}
    config = run_config(
        {"agent": {"name": "ppo", "num_envs": 4, "num_steps": 5, "minibatches": 2}, "env": env}
    )
    assert (config.frames_per_interaction, config.frames_per_round) == (12, 60)
    assert config.interactions == 500


def test_what_a_mask_does_not_read_is_no_part_of_a_run() -> None:
    """Static masks never change: how often they would is nothing that decides numbers."""
    plain = run_config(composed())
    assert run_config(composed(pruning={"change_every": 7})).run_id == plain.run_id
    changing = {"method": "set", "change_every": 7}
    assert run_config(composed(sparsity=0.5, pruning=changing)).run_id != (
        run_config(composed(sparsity=0.5, pruning=changing | {"change_every": 8})).run_id
    )
