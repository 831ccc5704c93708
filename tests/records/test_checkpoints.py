"""Checkpoints: a run that was disturbed at any point ends with the bytes of one that was not."""

import dataclasses
import functools
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import interrupting
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from conftest import CACHE, MakeConfig
from interrupting import outcome

from sparse_rl.experience import replay
from sparse_rl.experience.replay import Transition
from sparse_rl.records import checkpoints, results
from sparse_rl.records.checkpoints import read_arrays, write_arrays
from sparse_rl.runs.lockstep import Layout

pytestmark = pytest.mark.usefixtures("programs_once")
SAC = {"replay_size": 300, "num_envs": 2, "actor_width_ratio": 1.0}
DRQ = {"name": "drq", "replay_size": 150, "num_envs": 2}
PPO = {"name": "ppo", "normalise_observations": True, "normalise_rewards": True, "target_kl": 0.01}


train = functools.partial(interrupting.train, every=100)


@pytest.mark.usefixtures("without_health")
@pytest.mark.parametrize(
    ("agent", "layout", "pattern", "storage"),
    [
        (SAC, "map", "unstructured", "masked"),
        (SAC, "map", "block", "block"),
        (SAC, "vmap", "unstructured", "compact"),
        (DRQ, "vmap", "unstructured", "compact"),
        (PPO, "map", "unstructured", "compact"),
        (PPO, "vmap", "block", "block"),
        ({"name": "paac"}, "map", "unstructured", "masked"),
        ({"name": "dqn"}, "map", "unstructured", "compact"),
        ({"name": "paac", "memory": "gru"}, "map", "unstructured", "masked"),
        (PPO | {"memory": "lstm", "sequence_length": 5}, "vmap", "block", "block"),
    ],
)
def test_interrupted_runs_end_with_the_bytes_of_undisturbed_ones(
    make_config: MakeConfig,
    tmp_path: Path,
    agent: dict[str, Any],
    layout: Layout,
    pattern: str,
    storage: str,
) -> None:
    """Two interruptions; the replay wraps around, episodes end between checkpoints."""
    pruning = {"pattern": pattern, "storage": storage}
    pack = [
        make_config(seed=s, sparsity=0.5, env_steps=600, agent=agent, pruning=pruning) for s in (0, 1)
    ]
    train(pack, tmp_path / "calm", layout=layout)
    reached: dict[str, list[int]] = {config.run_id: [0] for config in pack}
    for until in (200, 400):
        train(pack, tmp_path / "disturbed", until, layout=layout)
        for config in pack:  # side by side, one may be a log point behind the other
            run = results.read_run(tmp_path / "disturbed" / config.run_id)
            assert run is not None
            assert run["status"] == "preempted"
            reached[config.run_id].append(run["progress"]["env_steps"])
    train(pack, tmp_path / "disturbed", layout=layout)
    for config in pack:
        assert outcome(tmp_path / "disturbed", config) == outcome(tmp_path / "calm", config)
        record = results.read_run(tmp_path / "disturbed" / config.run_id)
        assert record is not None
        starts = [attempt["from_env_steps"] for attempt in record["attempts"]]
        assert starts == reached[config.run_id]  # nothing was trained twice
        assert not (tmp_path / "disturbed" / config.run_id / checkpoints.FOLDER).exists()


KILLED = """
import os, signal, sys, threading
from pathlib import Path
import threefry, yaml
from sparse_rl.settings.run import run_config
from sparse_rl.runs import Policy, prepare_pack, train_pack
threefry.use(Path(sys.argv[4]))  # the same programs as here: others round differently
configs = [run_config(c) for c in yaml.safe_load(sys.stdin)]
def watch(progress):
    if progress.env_steps == int(sys.argv[2]):
        threading.Timer(float(sys.argv[3]), os.kill, (os.getpid(), signal.SIGKILL)).start()
train_pack(prepare_pack(configs), Path(sys.argv[1]), policy=Policy(every=100), watch=watch)
"""


def test_runs_killed_at_any_moment_end_with_the_bytes_of_undisturbed_ones(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    """SIGKILL at random moments, writes included; at last the pack is left alone."""
    settings: dict[str, Any] = {
        "sparsity": 0.5,
        "env_steps": 2000,
        "width": 8,
        "agent": {"network": "mlp"},
    }
    pack = [make_config(seed=seed, **settings) for seed in (0, 1)]
    train(pack, tmp_path / "calm")
    seed = int.from_bytes(os.urandom(4))
    print(f"seed of the kills: {seed}")  # shown where the test fails
    rng = np.random.default_rng(seed)
    killed = 0
    for _ in range(3):
        moment = str(rng.integers(1, 15) * 100), str(rng.random() * 0.05)
        process = subprocess.run(
            [sys.executable, "-c", KILLED, str(tmp_path / "killed"), *moment, str(CACHE)],
            input=yaml.safe_dump([dataclasses.asdict(config) for config in pack]),
            text=True,
            check=False,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        killed += process.returncode == -signal.SIGKILL
    train(pack, tmp_path / "killed")
    assert killed
    for config in pack:
        assert outcome(tmp_path / "killed", config) == outcome(tmp_path / "calm", config)


@pytest.mark.usefixtures("without_health")
@pytest.mark.parametrize("damage", ["truncated", "changed", "empty", "rows"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before_and_says_so(
    make_config: MakeConfig, tmp_path: Path, damage: str
) -> None:
    config = make_config(env_steps=600)
    train([config], tmp_path / "calm")
    train([config], tmp_path / "hurt", 400)
    run_dir = tmp_path / "hurt" / config.run_id
    assert checkpoints.steps(run_dir) == [400, 300]
    newest = checkpoints.path_of(run_dir, 400)
    content = bytearray(newest.read_bytes())
    if damage == "truncated":
        newest.write_bytes(content[: len(content) // 2])
    elif damage == "changed":
        content[len(content) // 2] ^= 1
        newest.write_bytes(content)
    elif damage == "empty":
        newest.write_bytes(b"")
    else:
        results.remove_metrics(run_dir)
    told = train([config], tmp_path / "hurt")
    notes = [progress.note for progress in told if progress.note]
    assert "checkpoint at env_steps=400 is of no use" in notes[0]
    record = results.read_run(run_dir)
    assert record is not None
    assert record["attempts"][-1]["from_env_steps"] == (0 if damage == "rows" else 300)
    assert outcome(tmp_path / "hurt", config) == outcome(tmp_path / "calm", config)


@pytest.mark.usefixtures("without_health")
def test_a_full_disk_costs_checkpoints_and_not_the_run(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    config = make_config(env_steps=600)
    train([config], tmp_path / "calm")
    with monkeypatch.context() as disk:
        disk.setattr(checkpoints, "write_arrays", full)
        told = train([config], tmp_path / "full", 200)
    assert any("no checkpoint at env_steps=100: " in (progress.note or "") for progress in told)
    train([config], tmp_path / "full")
    assert outcome(tmp_path / "full", config) == outcome(tmp_path / "calm", config)


def test_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    arrays = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "nan": np.array([np.nan, -0.0], np.float32),
        "flag": np.array(True),
        "none": np.zeros((0, 4), np.int32),
    }
    write_arrays(path, arrays)
    again = read_arrays(path)
    assert list(again) == list(arrays)
    for name, array in arrays.items():
        assert (again[name].shape, again[name].dtype) == (array.shape, array.dtype)
        assert again[name].tobytes() == array.tobytes()


def test_replay_stores_each_successor_once() -> None:
    """Two environments, capacity 8: steps 0–4 wrap around; environment 1 ends an episode at step 3."""
    buffer = replay.init(1, 1, 8)
    for t in range(5):
        seen = np.array([[10.0 + t], [20.0 + t]], np.float32)
        following = seen + 1
        if t == 3:
            following[1] = 99.0
        done = np.array([False, t == 3])
        fields = (seen, np.ones((2, 1), np.float32), np.ones(2, np.float32), following, done)
        buffer = replay.add(buffer, Transition(*map(jnp.asarray, fields)))
    written = replay.to_disk(buffer, num_envs=2)
    # the two newest have no row after them yet (there lies step 1), and one episode ended
    assert sorted(written["other_successors"].ravel()) == [15.0, 25.0, 99.0]
    again = replay.from_disk(written, jax.eval_shape(lambda: replay.init(1, 1, 8)), num_envs=2)
    jax.tree.map(np.testing.assert_array_equal, again, buffer)


def test_the_last_two_checkpoints_are_kept(tmp_path: Path) -> None:
    for env_steps in (100, 200, 900, 1000):
        checkpoints.save(tmp_path, env_steps, {"a": np.array([env_steps])})
    assert checkpoints.steps(tmp_path) == [1000, 900]
    assert int(read_arrays(checkpoints.path_of(tmp_path, 900))["a"][0]) == 900
    checkpoints.remove(tmp_path, [900])
    assert checkpoints.steps(tmp_path) == [1000]
