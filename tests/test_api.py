"""From Python: a grid is trained as by the command, a run acts, and torch gets what it trained."""

import dataclasses
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import crew
import jax
import numpy as np
import pandas as pd
import pytest
from conftest import MakeConfig
from numpy_networks import dense, relu

import sparse_rl
from sparse_rl.api import as_typed
from sparse_rl.records import results
from sparse_rl.records.arrays import read_arrays, write_arrays
from sparse_rl.records.checkpoints import to_arrays
from sparse_rl.runs import CannotTryError
from sparse_rl.runs.pack import prepare_pack
from sparse_rl.settings.run import RunConfig
from sparse_rl.settings.schema import ConfigError
from sparse_rl.sweeps.arguments import check_arguments

ROOT = Path(sparse_rl.__file__).resolve().parents[1]
ASKED: dict[str, Any] = {
    "study": "single", "agent": "sac_mlp", "width": 8, "sparsity": 0.5, "env_steps": 2e2,
    "log_every": 100, "agent__batch_size": np.int64(16), "pruning__storage": "compact", "name": 7,
}  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs in compact storage."""
    folder = tmp_path_factory.mktemp("results")
    rows = sparse_rl.train(**ASKED, seed=range(2), results_dir=str(folder), quiet=True)
    assert list(rows["env_steps"]) == [100, 200, 100, 200]
    assert set(rows["seed"]) == {0, 1}
    assert set(rows["status"]) == {"done"}
    assert list(rows["return_mean"].notna()) == [False, True, False, True]  # evaluated at the end
    return folder / "7"


def test_the_face_is_light_until_it_is_used() -> None:
    check = (
        "import sys, sparse_rl\n"
        "assert {'train', 'load', 'to_torch'} <= set(sparse_rl.__all__)\n"
        "sys.exit(bool({'jax', 'pandas', 'hydra'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", check], cwd=ROOT).returncode == 0
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        sparse_rl.trian  # noqa: B018


def test_keywords_are_what_would_be_typed() -> None:
    typed = as_typed(
        {
            "width": [64, 256], "sparsity": np.array([0.0, 0.9]), "seed": range(3),
            "agent": ["ppo", "sac"], "agent__learning_rate": 1e-3, "agent__reward_clip": None,
            "keep_state": True,
            "name": "it's 3", "launcher": "processes", "env_steps": np.float64(2e5),
        }
    )  # fmt: skip
    assert check_arguments(typed) == [
        "width=64,256", "sparsity=0.0,0.9", "seed=0,1,2", "agent=ppo,sac", "agent.learning_rate=0.001",
        "agent.reward_clip=null", "keep_state=true", "name='it\\'s 3'", "hydra/launcher=processes",
        "env_steps=200000.0",
    ]  # fmt: skip
    for wrong in (object(), [], [[1]]):
        with pytest.raises(ConfigError, match=r"^width="):
            as_typed({"width": wrong})


def test_what_is_wrong_is_said_before_anything_starts(tmp_path: Path) -> None:
    for settings, message in (
        ({"widht": 8}, "unknown key 'widht'. Did you mean width"),
        ({"agent": "pppo"}, "unknown agent 'pppo'"),
        ({"width": "range(3)"}, "width='range\\(3\\)' is not allowed; give a whole number"),
        ({"config_dir": tmp_path / "none"}, "none' is no folder"),
    ):
        with pytest.raises(ConfigError, match=message):
            sparse_rl.train("study=single", results_dir=str(tmp_path), quiet=True, **settings)
    with pytest.raises(ConfigError, match="'--help' is for the command line"):
        sparse_rl.train("--help")
    assert not list(tmp_path.iterdir())


def test_what_is_finished_is_read_and_nobody_else_s_rows(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in study.glob("*/*")}
    rows = sparse_rl.train(**ASKED, seed=1, results_dir=str(study.parent))
    assert set(rows["seed"]) == {1}
    assert {path: path.stat().st_mtime_ns for path in study.glob("*/*")} == before
    assert "1 of 1 runs are finished and will be skipped" in capsys.readouterr().out
    whole = pd.read_parquet(next(study.glob("*seed1*")) / results.METRICS)
    np.testing.assert_array_equal(rows["return_mean"], whole["return_mean"])
    planned = sparse_rl.train(**ASKED, seed=[1, 5], plan=True, results_dir=str(study.parent), quiet=True)
    assert set(planned["seed"]) == {1}
    nothing = sparse_rl.train(**ASKED, plan=True, results_dir=str(study.parent / "no"), quiet=True)
    assert nothing.empty


def whole(arrays: dict[str, np.ndarray], layer: str, shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """A layer of the actor from a file in compact storage: values, and their flat places."""
    kernel = np.zeros(shape[0] * shape[1])
    kernel[arrays[f"supports/actor/{layer}/kernel/place"]] = arrays[f"parameters/actor/{layer}/kernel"]
    return {"kernel": kernel.reshape(shape), "bias": arrays[f"parameters/actor/{layer}/bias"]}


SHAPES = {"trunk/dense_0": (3, 8), "trunk/dense_1": (8, 8), "mean": (8, 1)}


def by_hand(run: Path, seen: np.ndarray) -> np.ndarray:
    """SAC's action from what is on disk: normalised, two layers, tanh; float64."""
    arrays = read_arrays(run / results.PARAMETERS)
    layers = [whole(arrays, layer, shape) for layer, shape in SHAPES.items()]
    count = arrays["normaliser/seen"]
    assert count > 100
    deviation = np.sqrt(arrays["normaliser/squares/high"].astype(float) / count + 1e-8)
    x = (seen - arrays["normaliser/mean/high"]) / deviation
    return np.tanh(dense(relu(dense(relu(dense(x, layers[0])), layers[1])), layers[2]))


def test_a_run_acts_as_what_is_on_disk_says(study: Path) -> None:
    run = next(study.glob("*seed0*"))
    policy = sparse_rl.load(run)
    seen = np.random.default_rng(3).normal(size=(5, 3)) * 2.0
    action, memory = policy(seen)
    assert isinstance(action, np.ndarray)
    assert action.dtype == np.float32
    assert action.shape == (5, 1)
    np.testing.assert_allclose(action, by_hand(run, seen), atol=1e-5)
    assert np.ptp(action) > 0.01
    one, _ = policy(seen[2], memory)
    assert one.shape == (1,)
    np.testing.assert_allclose(one, action[2], atol=1e-6)
    assert policy.held["parameters"]["actor"]["trunk"]["dense_1"]["kernel"].ndim == 1, (
        "stored as in training"
    )
    for wrong in (np.zeros(4), np.zeros((2, 4)), np.zeros((2, 2, 3))):
        with pytest.raises(ValueError, match=r"an observation of gymnax/Pendulum-v1 is \[3\]"):
            policy(wrong)


def test_drawn_actions_come_from_the_seed_and_the_step(study: Path) -> None:
    run = next(study.glob("*seed0*"))
    drawing, other = (sparse_rl.load(run, greedy=False, seed=seed) for seed in (4, 5))
    first, memory = drawing(np.ones(3))
    second, _ = drawing(np.ones(3), memory)
    np.testing.assert_array_equal(first, drawing(np.ones(3))[0])
    assert len({float(first[0]), float(second[0]), float(other(np.ones(3))[0][0])}) == 3


def test_torch_computes_the_same_action(study: Path) -> None:
    torch: Any = pytest.importorskip("torch", reason="extra torch is not installed")
    run = next(study.glob("*seed1*"))
    policy = sparse_rl.load(run)
    state, masks = sparse_rl.to_torch(policy)
    nn = torch.nn
    trunk = nn.ModuleDict({"dense_0": nn.Linear(3, 8), "dense_1": nn.Linear(8, 8)})
    module = nn.ModuleDict({"trunk": trunk, "mean": nn.Linear(8, 1), "log_std": nn.Linear(8, 1)})
    module.load_state_dict(state)  # strict: every name, every shape
    held = policy.held["normaliser"]
    deviation = np.sqrt(np.asarray(held.squares.high) / int(held.seen) + 1e-8)
    seen = np.random.default_rng(3).normal(size=(5, 3)).astype(np.float32)
    x = torch.tensor((seen - np.asarray(held.mean.high)) / deviation)
    x = trunk["dense_1"](trunk["dense_0"](x).relu()).relu()
    np.testing.assert_allclose(module["mean"](x).tanh().detach().numpy(), policy(seen)[0], atol=1e-5)
    assert set(masks) == {f"{layer.replace('/', '.')}.weight" for layer in (*SHAPES, "log_std")}
    for name, mask in masks.items():
        assert mask.dtype == torch.bool
        assert mask.shape == state[name].shape
        assert not state[name][~mask].any()
    assert sum(int(mask.sum()) for mask in masks.values()) == 15 + 21 + 8 + 8
    with pytest.raises(ConfigError, match="this run has actor, critic"):
        sparse_rl.to_torch(run, "mixer")
    critics = sparse_rl.to_torch(run, "critic").state
    assert critics["1.value.weight"].shape == (1, 8)


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last cell compares what torch makes of the weights with what the policy does."""
    pytest.importorskip("torch", reason="extra torch is not installed")
    text = (ROOT / "docs" / "from_python.py").read_text()
    for asked, small in (
        ("env_steps=2e3, eval_every=1e3", "env_steps=100, log_every=100"),
        ("[0, 0.9]", "0.9"),
    ):
        assert asked in text
        text = text.replace(asked, small)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notebook.py").write_text(text)
    found = runpy.run_path("notebook.py")
    assert found["rows"]["env_steps"].tolist() == [100]
    assert set(found["masks"]) >= {"trunk.embed.weight", "mean.weight"}
    assert found["action"].shape == (1,)


def test_the_notebook_that_is_shown_is_of_this_text_and_has_run() -> None:
    jupytext = pytest.importorskip("jupytext", reason="extra report is not installed")
    written, shown = (jupytext.read(ROOT / "docs" / f"from_python.{end}") for end in ("py", "ipynb"))
    assert [cell["source"] for cell in shown["cells"]] == [cell["source"] for cell in written["cells"]]
    told = [cell["outputs"] for cell in shown["cells"] if cell["cell_type"] == "code"]
    assert not [output for outputs in told for output in outputs if output["output_type"] == "error"]
    assert "torque" in str(told)


def untrained(config: RunConfig, folder: Path) -> Path:
    """A run that ended as it began: its folder."""
    loop: Any
    loop, (run,) = prepare_pack([config])
    run_dir = folder / config.run_id
    results.write_config(run_dir, dataclasses.asdict(config))
    results.write_run(run_dir, {"status": "done"})
    write_arrays(run_dir / results.PARAMETERS, loop.trained(jax.jit(loop.init)(run.inputs)))
    return run_dir


def test_a_policy_that_remembers_is_given_what_it_carried(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    agent = {"name": "ppo", "memory": "gru", "num_envs": 4, "num_steps": 5, "minibatches": 2}
    policy = sparse_rl.load(untrained(make_config(agent=agent, width=8), tmp_path))
    seen = np.random.default_rng(0).normal(size=(3, 2, 3))
    first, one = policy(seen[0])
    second, two = policy(seen[1], one)
    assert two.step == 2
    assert np.asarray(two.network).shape[0] == 2
    anew = policy(seen[1])[0]
    assert np.abs(second - anew).max() > 1e-6, "memory is not looked at"
    again = policy(seen[1], policy(seen[0], policy.begin(2))[1])[0]
    np.testing.assert_array_equal(again, second)
    assert first.shape == (2, 1)
    with pytest.raises(ValueError, match="memory of 2 actors beside observations of 1"):
        policy(seen[0][0], one)


def test_a_team_acts_together_and_keeps_to_what_is_allowed(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crew.install(monkeypatch)
    env = {"source": "jaxmarl", "task": "crew"}
    config = make_config(agent={"name": "ippo", "identify": True}, env=env, width=8, env_steps=40)
    policy = sparse_rl.load(untrained(config, tmp_path))
    agents, size, choices = policy.env.agents, policy.env.observation_size, policy.env.action_size
    seen = np.zeros((4, agents, size))
    legal = np.zeros((4, agents, choices), bool)
    legal[..., 1] = True
    action, _ = policy(seen, legal=legal)
    assert action.shape == (4, agents)
    assert action.dtype == np.int32
    assert (action == 1).all()
    assert policy(seen[0])[0].shape == (agents,)


def test_what_is_no_finished_run_is_not_opened(
    study: Path, make_config: MakeConfig, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match=f"no run in {study}: expected"):
        sparse_rl.load(study)
    config = make_config(width=8)
    results.write_config(tmp_path / "run", dataclasses.asdict(config))
    results.write_run(tmp_path / "run", {"status": "running"})
    with pytest.raises(CannotTryError, match=r"^it is running"):
        sparse_rl.load(tmp_path / "run")
    results.write_run(tmp_path / "run", {"status": "done"})
    write_arrays(tmp_path / "run" / results.PARAMETERS, to_arrays({"parameters": np.zeros(3)}))
    with pytest.raises(CannotTryError, match="its parameters cannot be read"):
        sparse_rl.load(tmp_path / "run")
    ddpg = untrained(make_config(agent={"name": "ddpg", "network": "mlp"}, width=8), tmp_path)
    with pytest.raises(CannotTryError, match="agent=ddpg has one action for what it sees"):
        sparse_rl.load(ddpg, greedy=False)
