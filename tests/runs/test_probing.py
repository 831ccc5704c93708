"""The probe: what starts anew, cosines by projection, and the command on a study."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from conftest import MakeConfig, off_policy, places

from sparse_rl import probe
from sparse_rl.agents.gradients import cosines, sketch
from sparse_rl.loops.probing import TREATMENTS, treated
from sparse_rl.pruning import support_masks
from sparse_rl.pruning.tree import path_name
from sparse_rl.records import checkpoints
from sparse_rl.runs import probing
from sparse_rl.runs.lockstep import Policy
from sparse_rl.runs.pack import prepare_pack, train_pack

pytestmark = pytest.mark.usefixtures("programs_once")

KEY = jax.random.key(0)


def test_a_treatment_takes_exactly_its_part(make_config: MakeConfig) -> None:
    loop, inputs = off_policy(make_config(sparsity=0.5))
    trained, fresh = (loop.agent.init(jax.random.key(i), inputs) for i in (1, 2))
    trained = trained._replace(optimisers=jax.tree.map(lambda x: x + 1, trained.optimisers))

    def changed(treatment: str) -> set[str]:
        after = treated(treatment, trained, fresh)
        leaves = jax.tree_util.tree_leaves_with_path((after, trained))
        half = len(leaves) // 2
        return {
            path_name(path[1:])
            for (path, new), (_, old) in zip(leaves[:half], leaves[half:], strict=True)
            if np.any(np.asarray(new) != np.asarray(old))
        }

    assert changed("none") == set()
    assert {name.split("/")[0] for name in changed("actor")} == {"actor", "optimisers"}
    assert {name.split("/")[0] for name in changed("critic")} == {"critic", "target", "optimisers"}
    assert changed("both") == changed("actor") | changed("critic")
    last = changed("last layers")
    assert "critic/0/value/kernel" in last
    assert "actor/mean/kernel" in last
    assert not any("trunk" in name or name.endswith("count") for name in last)
    after = treated("both", trained, fresh)
    masks = support_masks(after.supports)
    assert not places(masks["critic"], after.critic).any()
    assert set(TREATMENTS) == {"none", "last layers", "actor", "critic", "both"}


def test_sketches_keep_cosines() -> None:
    keys = jax.random.split(KEY, 3)
    a, b, c = (jax.random.normal(key, (200, 100)) for key in keys)
    trees: list[Any] = [{"x": a}, {"x": 0.6 * a + 0.8 * b}, {"x": -a}, {"x": c}]
    found = cosines(jnp.stack([sketch(tree, KEY) for tree in trees]))
    np.testing.assert_allclose(found[0], [1.0, 0.6, -1.0, 0.0], atol=0.06)
    np.testing.assert_array_equal(cosines(jnp.zeros((2, 3))), np.zeros((2, 2)))


def train(make_config: MakeConfig, study: Path, seed: int, *, keep: bool) -> None:
    for sparsity in (0.0, 0.5):
        config = make_config(width=8, sparsity=sparsity, seed=seed)
        statuses = train_pack(prepare_pack([config]), study, policy=Policy(keep=keep))
        assert set(statuses.values()) == {"done"}


def test_the_command_probes_what_kept_its_state(
    make_config: MakeConfig, tmp_path: Path, capsys: Any
) -> None:
    train(make_config, tmp_path / "probed", 0, keep=True)
    train(make_config, tmp_path / "probed", 1, keep=False)
    study = tmp_path / "probed"
    kept = [d for d in study.iterdir() if d.is_dir() and checkpoints.steps(d)]
    assert [checkpoints.steps(run_dir) for run_dir in kept] == [[200], [200]]
    probe.main([str(study), "--updates", "20", "--batches", "4"])
    said = capsys.readouterr().out
    assert said.count("train it with keep_state=true") == 2
    table = pd.read_parquet(study / "probe.parquet")
    assert sorted(table["sparsity"]) == [0.0, 0.5]
    assert table["policy_churn"].gt(0).all()
    for run_dir in kept:
        found = json.loads((run_dir / probing.PROBE).read_text())
        matrix = np.array(found["gradient_cosine"]["critic"])
        np.testing.assert_allclose(np.diag(matrix), 1.0, rtol=1e-5)
        np.testing.assert_allclose(matrix, matrix.T, rtol=1e-5)
        losses = {name: row["loss/critic"] for name, row in found["retrained"].items()}
        assert len(set(losses.values())) == len(TREATMENTS)
    probe.main([str(study), "--updates", "20", "--batches", "4"])  # nothing is probed twice
    assert f"{kept[0].name}\n" not in capsys.readouterr().out


def test_a_folder_that_is_no_study_is_refused(tmp_path: Path, capsys: Any) -> None:
    for option in ("--updates", "--batches"):
        with pytest.raises(SystemExit):
            probe.main([str(tmp_path), option, "0"])
        assert f"{option} takes a whole number > 0, got 0" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        probe.main([str(tmp_path)])
    assert ended.value.code == 2
    assert "no runs in" in capsys.readouterr().err
