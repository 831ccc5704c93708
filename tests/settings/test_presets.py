"""Every preset of every agent gives a run in every preset of an environment."""

import functools
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import MakeConfig

import sparse_rl
from sparse_rl.settings.agents import build_agent
from sparse_rl.settings.envs import build_env
from sparse_rl.settings.on_policy import PaacConfig
from sparse_rl.settings.run import rounding, run_config

CONF = Path(sparse_rl.__file__).parent / "conf"
AGENTS = sorted(path.stem for path in (CONF / "agent").glob("*.yaml"))
ENVS = sorted(
    path.relative_to(CONF / "env").with_suffix("").as_posix() for path in (CONF / "env").rglob("*.yaml")
)


@functools.cache
def preset(group: str, name: str) -> dict[str, Any]:
    """What Hydra makes of a preset: the files it builds on, then its own keys."""
    data: dict[str, Any] = yaml.safe_load((CONF / group / f"{name}.yaml").read_text())
    found: dict[str, Any] = {}
    for base in data.pop("defaults", []):
        found |= {} if base == "_self_" else preset(group, base.removesuffix("@_here_"))
    return found | data


TASKS = [name for name in ENVS if preset("env", name)["task"] != "???"]


@pytest.mark.parametrize("agent", AGENTS)
def test_an_agent_plans_in_every_environment(agent: str) -> None:
    assert len(TASKS) > 120
    for task in TASKS:
        asked = {"agent": preset("agent", agent), "env": preset("env", task)}
        config = run_config(asked)
        assert config.log_every % config.frames_per_round == 0
        assert config.eval_every % config.log_every == 0
        assert config.env_steps % config.log_every == 0
        fits = (config.env_steps, config.log_every) == (config.env.env_steps, config.env.log_every)
        assert (rounding(asked, config) is None) == (fits and config.eval_every == config.env.eval_every)


def test_what_is_no_whole_number_of_rounds_is_rounded_up_and_said() -> None:
    asked: dict[str, Any] = {
        "agent": preset("agent", "ppo"),
        "env": preset("env", "playground/cheetah_run"),  # 1,000,000 frames, log points every 10,000
    }
    config = run_config(asked)  # 8 actors × 128 interactions × 2 frames = 2,048
    assert (config.log_every, config.eval_every, config.env_steps) == (10_240, 10_240, 1_003_520)
    assert rounding(asked, config) == (
        "ppo on playground/CheetahRun, in whole rounds of agent.num_envs × agent.num_steps × "
        "env.action_repeat (= 2048): env_steps=1000000 is 1003520, log_every=10000 is 10240, "
        "eval_every=10000 is 10240"
    )
    whole = asked | {"env_steps": 1_003_520, "log_every": 10_240, "eval_every": 10_240}
    assert run_config(whole).run_id == config.run_id
    assert rounding(whole, config) is None


def test_whoever_asks_for_less_than_a_round_gets_one(make_config: MakeConfig) -> None:
    config = make_config(agent={"num_envs": 8}, env_steps=1, log_every=1, eval_every=1)
    assert (config.env_steps, config.log_every, config.eval_every) == (8, 8, 8)
    config = make_config(env_steps=250, eval_every=150)  # log points every 100
    assert (config.env_steps, config.log_every, config.eval_every) == (300, 100, 200)


@pytest.mark.parametrize(
    ("env_steps", "found"),
    [
        (10_500, (10_500, 5_250)),  # two log points, not 20,000 frames
        (21_001, (21_003, 7_001)),  # three: at most two frames too many
        (96_000, (100_000, 10_000)),  # a twenty-fourth more: log points stay
        (95_000, (95_000, 9_500)),
        (200_000, (200_000, 10_000)),
    ],
)
def test_log_points_move_together_where_a_run_would_become_much_longer(
    make_config: MakeConfig, env_steps: int, found: tuple[int, int]
) -> None:
    free = {"log_every": None, "eval_every": None}
    asked = {"env": {"env_steps": 1_000_000, "log_every": 10_000}}
    config = make_config(env_steps=env_steps, **free, **asked)
    assert (config.env_steps, config.log_every) == found
    again = make_config(env_steps=config.env_steps, **free, **asked)
    assert again.run_id == config.run_id
    kept = make_config(env_steps=env_steps, log_every=10_000, eval_every=None, **asked)
    assert kept.log_every == 10_000, "log points that were asked for stay"


def test_a_run_of_whole_rounds_is_the_same_however_it_was_asked_for(make_config: MakeConfig) -> None:
    """PPO in rounds of 50 frames, log points every 400: 2,010 frames are 41 rounds in 6 log points."""
    free = {"log_every": None, "eval_every": None}
    env = {"env_steps": 4_000, "log_every": 400, "eval_every": 400}
    config = make_config(agent={"name": "ppo"}, env_steps=2_010, env=env, **free)
    assert (config.frames_per_round, config.env_steps, config.log_every) == (50, 2_100, 350)
    assert make_config(agent={"name": "ppo"}, env_steps=2_100, env=env, **free).run_id == config.run_id
    assert make_config(agent={"name": "ppo"}, env_steps=2_051, env=env, **free).run_id == config.run_id


def test_whole_numbers_may_be_written_with_an_exponent(make_config: MakeConfig) -> None:
    plain = make_config(env_steps=2000, width=100, agent={"batch_size": 20}, env={"eval_episodes": 10})
    asked = make_config(env_steps=2e3, width=1e2, agent={"batch_size": 2e1}, env={"eval_episodes": 1e1})
    assert asked.run_id == plain.run_id
    assert asked.env_steps == 2000
    assert isinstance(asked.env_steps, int)
    paac = make_config(agent={"name": "paac", "num_envs": 1e1})
    assert paac.run_id == make_config(agent={"name": "paac"}).run_id
    assert paac.agent.learning_rate == pytest.approx(0.0007 * 10)


def test_rewards_are_clipped_on_atari_and_nowhere_else() -> None:
    clipped = {name for name in AGENTS if preset("agent", name).get("reward_clip") is not None}
    assert clipped == {"dqn_atari", "paac_atari", "ppo_atari"}
    for name in ("paac", "dqn", "ppo"):
        agent: Any = build_agent({"name": name})
        assert agent.reward_clip is None


def test_minatar_has_sticky_actions_and_nothing_else_that_is_compiled() -> None:
    sticky = {name for name in TASKS if preset("env", name).get("sticky_actions")}
    minatar = {name for name in TASKS if preset("env", name)["task"].endswith("MinAtar")}
    assert len(minatar) == 4
    assert {name for name in sticky if not name.startswith("atari/")} == minatar
    assert {build_env(preset("env", name)).options["sticky_actions"] for name in minatar} == {0.1}


def test_paac_is_its_paper_s_and_on_atari_its_code_s() -> None:
    """Critic: the code's 0.25 (R − V)² is 0.5 of the ½ (R − V)² here."""
    found: list[tuple[Any, ...]] = []
    for name in ("paac", "paac_atari"):
        agent = build_agent(preset("agent", name))
        assert isinstance(agent, PaacConfig)
        found.append(
            (
                agent.max_grad_norm,
                agent.entropy_coefficient,
                agent.loss_scale,
                agent.value_coefficient,
                agent.initialisation,
                agent.learning_rate,
            )
        )
    assert found == [
        (40.0, 0.01, 1.0, 0.5, "orthogonal", pytest.approx(0.0224)),
        (3.0, 0.02, 5.0, 0.5, "uniform", pytest.approx(0.0224)),
    ]
