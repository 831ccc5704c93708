"""What users add without a fork: the recipes of docs/add_your_own.md, run as a package of its own."""

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import recipes

import sparse_rl
from sparse_rl import envs, extensions
from sparse_rl.extensions import CodeError, OwnCode
from sparse_rl.networks.observing import observed
from sparse_rl.records import results
from sparse_rl.settings.run import run_config
from sparse_rl.settings.schema import ConfigError
from sparse_rl.sweeps.arguments import check_arguments


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the package of the recipes, as if it were installed there, and their presets."""
    recipes.write(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(extensions, "_IMPORTED", {})
    importlib.invalidate_caches()
    observed.cache_clear()
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith(("my_package", "trunk_", "broken"))]:
        del sys.modules[name]


def trained(here: Path, **more: Any) -> Any:
    return sparse_rl.train(
        config_dir=here / "my_conf", study="single", agent="ppo_mine", env="point", width=8,
        sparsity=0.5, env_steps=100, log_every=50, results_dir=str(here / "results"), quiet=True, **more,
    )  # fmt: skip


def test_the_recipes_train_and_their_run_is_opened_with_their_code_alone(here: Path) -> None:
    """An environment by its entry point, a network, and a preset from another folder."""
    rows = trained(here)
    assert list(rows["env_steps"]) == [50, 100]
    assert set(rows["status"]) == {"done"}
    digest = extensions.digest_of("my_package")
    assert set(rows["env"]) == {f"own/my_package:make_env@{digest}"}
    assert set(rows["network"]) == {f"my_package:MyTrunk@{digest}"}
    last = rows.iloc[-1]
    # Kernels [2, 8], [8, 16] and [16, 8], biases, a norm; heads of one output, the deviation.
    assert last["parameters_total/actor"] == 16 + 128 + 128 + (8 + 16 + 8) + 16 + (8 + 1) + 1
    assert last["parameters_total/critic"] == 16 + 128 + 128 + (8 + 16 + 8) + 16 + (8 + 1)
    assert -2.0 * 20 <= last["return_mean"] < 0.0
    for health in ("dormant_ratio/actor/expand", "srank/critic", "unread_inputs/actor"):
        assert 0.0 <= last[health] <= 8.0
    (run,) = (here / "results").glob("*/*/run.json")
    policy = sparse_rl.load(run.parent)
    action, _ = policy(np.array([[0.5, 0.5], [-0.5, 0.5]]))
    assert action.shape == (2, 1)
    assert len(np.unique(action)) == 2
    source = here / "my_package" / "__init__.py"
    source.write_text(source.read_text() + "\n")
    with pytest.raises(CodeError, match=f"is other code now .* than this run's .{digest}"):
        sparse_rl.load(run.parent)
    with pytest.raises(CodeError, match="my_package has changed since it was imported here"):
        trained(here)
    kept = run_config(results.read_config(run.parent))
    assert kept.run_id == run.parent.name, "a run that is read keeps the code that it names"


def test_layers_are_found_to_read_what_they_read(here: Path) -> None:
    found = observed(extensions.pinned("my_package:MyTrunk"))
    assert found.layers == {
        "embed": (("inputs",),), "expand": (("embed",),), "project": (("expand",),)
    }  # fmt: skip
    assert found.out == (("embed", "project"),)


TRUNK = """
import flax.linen as nn
import jax.numpy as jnp

class T(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x):
        a = nn.relu(nn.Dense(4, name="a")(x)){after_a}
        b = nn.Dense(5, name="b")(x)
        c = {c}
        self.sow("activations", "{sown}_activation", a)
        self.sow("features", "trunk", c)
        return c
"""
BESIDE = 'nn.Dense(self.width, name="c")(jnp.concatenate([b, x, a], axis=-1))'


def trunk(here: Path, **parts: str) -> str:
    """The name of a trunk in a module of its own."""
    number = len(list(here.glob("trunk_*.py")))
    parts = {"after_a": "", "c": BESIDE, "sown": "a"} | parts
    (here / f"trunk_{number}.py").write_text(TRUNK.format(**parts))
    importlib.invalidate_caches()
    return extensions.pinned(f"trunk_{number}:T")


def test_layers_beside_each_other_are_told_apart_by_their_rows(here: Path) -> None:
    found = observed(trunk(here))
    assert found.layers["c"] == (("b",), ("inputs",), ("a",))
    assert found.out == (("c",),)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"c": BESIDE.replace("[b, x, a]", "[a, b[:, :2]]")}, "c reads 2 numbers of b"),
        (
            {"c": 'nn.Conv(self.width, (1,), name="c")(a)'},
            r"beside those of nn.Dense layers: .*c/kernel",
        ),
        ({"c": "a"}, r"puts out \[4\] numbers of a sample, not its width"),
        ({"sown": "nobody"}, r"self.sow\('activations', '<layer>_activation', x\), of one of a, b, c"),
        ({"after_a": "; a = nn.Dense(4, name='d')(nn.Dense(4, name='e')(a)) * x[:, :1]"}, "a"),
    ],
)
def test_what_is_no_network_of_whole_layers_is_refused(
    here: Path, parts: dict[str, str], message: str
) -> None:
    if "after_a" in parts:  # a gate by an input: its layer's rows depend on both, and widths differ
        with pytest.raises(CodeError, match=r"reads .* numbers of"):
            observed(trunk(here, **parts))
        return
    with pytest.raises(CodeError, match=message):
        observed(trunk(here, **parts))


def test_own_environments_are_typed_as_they_are_called(here: Path) -> None:
    own = ["env=own", "++env.task=my_package:make_env"]
    assert check_arguments(["env=my_package:make_env"]) == [own[0], own[1].lstrip("+")]
    assert check_arguments(["+env=point"]) == check_arguments(["env=my_package:make_env"])
    two = check_arguments(["env=my_package:make_env,point"])
    assert two == ["env=own", "env.task=my_package:make_env,my_package:make_env"]
    assert check_arguments(["agent.network=my_package:MyTrunk"]) == ["agent.network=my_package:MyTrunk"]
    with pytest.raises(ConfigError, match="apart from others"):
        check_arguments(["env=gymnax/pendulum,my_package:make_env"])
    with pytest.raises(ConfigError, match="unknown env 'pont'"):
        check_arguments(["env=pont"])


OWN = {"name": "ppo", "network": "my_package:MyTrunk", "num_envs": 4, "num_steps": 10, "minibatches": 2}
ENV = {"source": "own", "task": "my_package:make_env", "env_steps": 100, "log_every": 100}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"env": ENV | {"task": "no_package:make_env"}}, "there is no module no_package"),
        ({"env": ENV | {"task": "make_env"}}, "'make_env' is not allowed; give my_package:name"),
        (
            {"agent": {"name": "ppo", "network": "mpl"}},
            "network='mpl' is not allowed; give one of simba",
        ),
        ({"agent": OWN | {"memory": "gru"}}, "agent.memory=gru is for networks of ours"),
        ({"agent": OWN, "products": "bfloat16"}, "products=bfloat16 is for"),
        ({"agent": OWN, "sparsity": 0.5, "pruning": {"pattern": "block"}}, "give masked or compact"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(
    here: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run_config({"env": ENV} | settings)


def test_an_environment_that_breaks_the_contract_is_named(here: Path) -> None:
    source = here / "my_package" / "__init__.py"
    broken = source.read_text().replace("observation_size=2", "observation_size=3")
    (here / "broken.py").write_text(broken + "\n\ndef none(): return 3\nnumber = 3\n")
    importlib.invalidate_caches()
    for name, message in (
        ("make_env", r"what reset observes is \(\(2,\), 'float32'\), and must be \(\(3,\), 'float32'\)"),
        ("none", "made a int, and no Env"),
        ("number", "is no function"),
        ("nobody", "broken has no nobody"),
    ):
        with pytest.raises(CodeError, match=message):
            envs.make("own", extensions.pinned(f"broken:{name}"))


def test_the_hash_is_of_all_files_of_a_package_and_of_no_other(here: Path) -> None:
    before = extensions.digest_of("my_package")
    (here / "elsewhere.py").write_text("x = 1")
    assert extensions.digest_of("my_package.inner") == before
    (here / "my_package" / "inner.py").write_text("y = 1\n")
    within = extensions.digest_of("my_package")
    assert within != before
    (here / "my_package" / "inner.py").rename(here / "my_package" / "other.py")
    assert extensions.digest_of("my_package") not in (before, within)
    assert re.fullmatch("[0-9a-f]{12}", within)
    assert isinstance(f"my_package:x@{within}", OwnCode)
    assert not isinstance("my_package", OwnCode)
    assert extensions.pinned("my_package:x@0123456789ab") == "my_package:x@0123456789ab"
