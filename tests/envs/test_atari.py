"""Real Atari through ale-py: what its environments do, and that runs on them can be disturbed."""

import dataclasses
import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import interrupting
import numpy as np
import pytest
from conftest import MakeConfig

from sparse_rl import envs
from sparse_rl.envs import atari
from sparse_rl.kernels import native
from sparse_rl.loops.hosted import sessions as hosted
from sparse_rl.loops.hosted.on_policy import HostLoop
from sparse_rl.records import results
from sparse_rl.runs.pack import prepare_pack
from sparse_rl.settings.envs import AtariConfig, build_env
from sparse_rl.settings.run import RunConfig, run_config
from sparse_rl.settings.schema import ConfigError

pytest.importorskip("ale_py", reason="needs the extra atari")
SETTINGS = AtariConfig("atari", "breakout")


def test_pictures_come_in_blocks_with_all_their_pixels() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 4, 84, 84)).astype(np.uint8)
    blocks = atari.in_blocks(frames).reshape(2, *atari.PICTURE)
    row, column, frame, i, j = 3, 20, 2, 1, 3
    channel = (frame * 4 + i) * 4 + j
    np.testing.assert_array_equal(
        blocks[:, row, column, channel], frames[:, frame, 4 * row + i, 4 * column + j]
    )
    np.testing.assert_array_equal(np.sort(blocks.reshape(2, -1)), np.sort(frames.reshape(2, -1)))


def test_the_spec_is_the_games() -> None:
    env = envs.make("atari", "ms_pacman")
    assert (env.observation_size, env.action_size, env.discrete) == (28224, 9, True)
    assert env.observation_dtype is np.uint8
    with pytest.raises(ValueError, match=r"'tennis2' is unknown; choose one of .*breakout.*pong"):
        envs.make("atari", "tennis2")


def play(threads: int, before: int, steps: int = 400) -> list[np.ndarray]:
    """What four actors see and get from their second seed on, after some other play."""
    actors = envs.make("atari", "breakout").open(SETTINGS, 4, threads)
    everyone = np.ones(4, bool)
    rng = np.random.default_rng(before)
    actors.seed(np.arange(4), everyone)
    for _ in range(before):
        actors.send(rng.integers(0, 4, 4).astype(np.int32))
        actors.receive()
    seen: list[np.ndarray] = [actors.seed(np.arange(4) + 9, everyone)]
    rng = np.random.default_rng(0)
    for _ in range(steps):
        actors.send(rng.integers(0, 4, 4).astype(np.int32))
        step = actors.receive()
        seen += [step.observation, step.reward, step.terminated, step.truncated]
    return seen


def test_what_an_environment_does_follows_from_its_seed_and_its_actions() -> None:
    """However many threads, and whatever was before; an episode that ends is part of it."""
    first, second = play(1, 0), play(2, 50)
    for ours, theirs in zip(first, second, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert np.stack(first[3::4]).any()  # an episode ended


def test_a_final_observation_is_not_the_next_episodes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atari, "EPISODE_LENGTH", 40)
    actors = envs.make("atari", "pong").open(SETTINGS, 2, 1)
    first = actors.seed(np.arange(2), np.ones(2, bool))
    for t in range(1, 11):
        actors.send(np.zeros(2, np.int32))
        step = actors.receive()
        assert not step.terminated.any()
        assert step.truncated.all() == (t == 10)
    assert (step.final_observation != step.observation).any(axis=1).all()
    assert first.dtype == step.observation.dtype == np.uint8


def test_a_stack_begins_with_the_first_picture_over_and_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a seeding and after an episode, none black; and the end of a short episode likewise."""
    monkeypatch.setattr(atari, "EPISODE_LENGTH", 8)
    actors = envs.make("atari", "pong").open(SETTINGS, 2, 1)

    def stack(seen: np.ndarray) -> np.ndarray:
        return seen.reshape(2, 21, 21, 4, 16).transpose(3, 0, 1, 2, 4)

    def receive() -> Any:
        actors.send(np.zeros(2, np.int32))
        return actors.receive()

    first = stack(actors.seed(np.arange(2), np.ones(2, bool)))
    assert first.any(axis=(1, 2, 3, 4)).all()
    for picture in first:
        np.testing.assert_array_equal(picture, first[3])
    second = stack(receive().observation)
    for picture in second[:3]:
        np.testing.assert_array_equal(picture, first[3])
    assert (second[3] != first[3]).any()
    step = receive()
    assert step.truncated.all()
    final, following = stack(step.final_observation), stack(step.observation)
    np.testing.assert_array_equal(final[:3], np.stack([first[3], first[3], second[3]]))
    assert final[3].any()
    np.testing.assert_array_equal(following[0], following[3])
    one = stack(actors.seed(np.arange(2) + 5, np.array([True, False])))
    np.testing.assert_array_equal(one[0], one[3])


def test_settings_change_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sticky actions and random starts make two seeds differ, and nothing else does; five frames an
    action reach a limit of forty after eight."""
    monkeypatch.setattr(atari, "EPISODE_LENGTH", 40)

    def seen(game: str = "pong", **options: Any) -> tuple[np.ndarray, np.ndarray, int]:
        settings = AtariConfig("atari", game, sticky_actions=0.0, noop_starts=0, action_repeat=5)
        actors = envs.make("atari", game).open(dataclasses.replace(settings, **options), 2, 1)
        first, after = actors.seed(np.array([3, 4]), np.ones(2, bool)), 0
        while True:
            actors.send(np.full(2, 1 + after % 2, np.int32))
            step, after = actors.receive(), after + 1
            if step.truncated.any():
                return first, step.final_observation, after

    def differ(both: np.ndarray) -> bool:
        return bool((both[0] != both[1]).any())

    first, last, after = seen()
    assert (differ(first), differ(last), after) == (False, False, 8)
    first, last, _ = seen(sticky_actions=0.5)
    assert (differ(first), differ(last)) == (False, True)
    assert [differ(seen("freeway", noop_starts=n)[0]) for n in (0, 30)] == [False, True]


def test_all_eighteen_actions_can_be_asked_for() -> None:
    data = {"source": "atari", "task": "pong", "full_action_space": True, "action_repeat": 5}
    full, plain = build_env(data), build_env({"source": "atari", "task": "pong"})
    env = envs.make("atari", "pong", **full.options)
    assert env.action_size == 18
    assert envs.make("atari", "pong", **plain.options).action_size == 6
    actors = env.open(full, 1, 1)
    actors.seed(np.arange(1), np.ones(1, bool))
    actors.send(np.full(1, 17, np.int32))
    assert actors.receive().observation.any()


def config_of(seed: int = 0, **changes: Any) -> RunConfig:
    agent = {"name": "paac", "network": "nips", "num_envs": 4, "num_steps": 5, "learning_rate": 1e-3}
    env = {"source": "atari", "task": "breakout", "action_repeat": 4, "eval_episodes": 2}
    budget = {"env_steps": 480, "log_every": 160, "eval_every": 480}
    data = {"agent": agent | changes.pop("agent", {}), "env": env, "width": 16, "seed": seed}
    return run_config(data | budget | changes)


train = functools.partial(interrupting.train, every=160)


@pytest.mark.parametrize(("agent", "memory"), [("ppo", "none"), ("paac", "none"), ("paac", "gru")])
def test_interrupted_runs_end_with_the_bytes_of_undisturbed_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, agent: str, memory: str
) -> None:
    """Short episodes, so that sessions end: two runs side by side, compact and pruned by half."""
    monkeypatch.setattr(atari, "EPISODE_LENGTH", 60)
    monkeypatch.setattr(atari, "SEED_EVERY", 12)
    settings: dict[str, Any] = {"name": agent, "memory": memory} | (
        {"minibatches": 2, "epochs": 1} if agent == "ppo" else {}
    )
    pruning = {"storage": "compact"}
    pack = [config_of(seed, sparsity=0.5, agent=settings, pruning=pruning) for seed in (0, 1)]
    train(pack, tmp_path / "calm")
    train(pack, tmp_path / "disturbed", 320)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})  # one thread instead of all
    train(pack, tmp_path / "disturbed")
    for config in pack:
        both = [tmp_path / name / config.run_id for name in ("calm", "disturbed")]
        record = results.read_run(both[1])
        assert record is not None
        assert record["versions"]["convolutions"] == native.multiplier()
        assert [attempt["from_env_steps"] for attempt in record["attempts"]] == [0, 320]
        for file in (results.METRICS, results.PARAMETERS):
            assert (both[0] / file).read_bytes() == (both[1] / file).read_bytes()
        rows = results.read_metrics(both[1])
        assert rows["episode_length_mean"].iloc[-1] == 60
        assert rows["grad_norm/critic"].gt(0).all()


def test_frames_are_counted_with_action_repeat(make_config: MakeConfig) -> None:
    loop, (run,) = prepare_pack([config_of()])
    assert isinstance(loop, HostLoop)
    assert run.config.frames_per_interaction == 16
    assert run.costs.updates == 480 // (16 * 5)
    begun = hosted.begin(loop.env, run.config.env, 4)
    assert begun.actions.dtype == np.uint8
    assert begun.actions.shape == (4, atari.SEED_EVERY + 4500)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"agent": {"network": "minatar"}}, r"reads small pictures, and env=atari/breakout shows Atari"),
        ({"agent": {"name": "sac"}}, r"agent=sac needs continuous actions"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_starts(
    changes: dict[str, Any], message: str
) -> None:
    agent = {"name": "paac", "num_envs": 4, "num_steps": 5} | changes["agent"]
    if agent["name"] == "sac":
        agent = {"name": "sac"}
    env = {"source": "atari", "task": "breakout"}
    config = run_config({"agent": agent, "env": env, "env_steps": 400, "log_every": 400})
    with pytest.raises(ConfigError, match=message):
        prepare_pack([config])


def test_settings_of_atari_are_part_of_a_run_and_of_no_other(make_config: MakeConfig) -> None:
    env = {"source": "atari", "task": "pong", "sticky_actions": 0.0, "noop_starts": 30}
    data = {"agent": {"name": "paac"}, "env": env, "env_steps": 6400, "log_every": 6400}
    config = run_config(data)
    assert isinstance(config.env, AtariConfig)
    assert "noop_starts" in json.dumps(config, default=vars)
    assert "noop_starts" not in json.dumps(make_config(), default=vars)
    with pytest.raises(ConfigError, match=r"unknown key 'env.noop_starts'"):
        make_config(env={"noop_starts": 1})


def test_presets_fit_each_other(tmp_path: Path) -> None:
    presets = Path(envs.__file__).parents[1] / "conf" / "env" / "atari"
    games = sorted(path.stem for path in presets.glob("*.yaml") if path.stem != "ale")
    assert "breakout" in games
    assert set(games) <= set(atari._library().roms.get_all_rom_ids())
    chosen = ("agent=ppo_atari,paac_atari,dqn_atari", "env=atari/breakout,atari/pong", "sparsity=0,0.9")
    arguments = ("-m", "sparse_rl.sweep", "study=single", *chosen, "plan=true")
    plan = subprocess.run([sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert plan.returncode == 0, plan.stderr
    assert "rollouts of 8 × 128 interactions, 16 updates on 256 samples after each" in plan.stdout
    assert "environments on the host, in 2 group(s)" in plan.stdout
