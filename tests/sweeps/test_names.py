"""Runs are found again: those of archives, of earlier versions, and those that were typed otherwise."""

import dataclasses
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeConfig
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from sparse_rl.records import results
from sparse_rl.settings.run import named, run_config
from sparse_rl.settings.schema import ConfigError
from sparse_rl.sweeps.compose import as_read
from sparse_rl.sweeps.names import as_on_disk
from sparse_rl.sweeps.presets import CONF
from sparse_rl.sweeps.tasks import Settings, read_task, status_of, write_task

ROOT = Path(__file__).parents[2]
ARCHIVES = sorted((ROOT / "docs" / "results").glob("*.tar.xz"))
Load = Callable[[list[str]], DictConfig]


def unpacked(archive: Path, folder: Path) -> list[Path]:
    """Run folders of an archive, with configurations, records and rows."""
    with tarfile.open(archive) as tar:
        some = [m for m in tar if m.name.endswith((results.CONFIG, results.RUN, results.METRICS))]
        tar.extractall(folder, some, filter="data")
    return [path.parent for path in sorted(folder.glob(f"*/*/{results.RUN}"))]


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda path: path.name.partition(".")[0])
def test_every_run_of_the_archives_is_found_again(archive: Path, tmp_path: Path) -> None:
    """By its id, or by what its configuration says; and its rows can be read."""
    by_study: dict[Path, list[Path]] = {}
    for run_dir in unpacked(archive, tmp_path):
        by_study.setdefault(run_dir.parent, []).append(run_dir)
    assert by_study
    for study, run_dirs in by_study.items():
        asked = [run_config(results.read_config(run_dir)) for run_dir in run_dirs]
        found = [config.run_id for config in as_on_disk(asked, study)]
        assert found == [run_dir.name for run_dir in run_dirs]
        assert {status_of(study, run_id) for run_id in found} == {"done"}
        rows = results.read_rows(run_dirs[0])
        assert rows is not None
        assert rows.num_rows == asked[0].env_steps // asked[0].log_every


def test_a_run_that_was_told_apart_by_what_it_does_not_read_is_found(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    before = make_config(seed=3, mask_seed=8, env={"env_steps": 77})
    now = [make_config(seed=seed) for seed in (2, 3)]
    run_dir = tmp_path / before.run_id
    results.write_config(run_dir, dataclasses.asdict(before))
    results.write_run(run_dir, {"status": "done"})
    assert before.run_id != now[1].run_id
    assert [c.run_id for c in as_on_disk(now, tmp_path)] == [now[0].run_id, before.run_id]
    # a run that is there under its own name keeps that, and a folder is one run's
    results.write_run(tmp_path / now[1].run_id, {"status": "done"})
    assert as_on_disk(now, tmp_path) == now
    assert [c.run_id for c in as_on_disk(now, tmp_path)] == [c.run_id for c in now]
    (run_dir / results.CONFIG).write_text("")
    (tmp_path / now[1].run_id).rename(tmp_path / "elsewhere")
    assert [c.run_id for c in as_on_disk(now, tmp_path)] == [c.run_id for c in now]
    assert as_on_disk(now, tmp_path / "none") == now
    other = make_config(seed=3, agent={"batch_size": 33})  # of the same width and seed
    results.write_config(tmp_path / other.run_id, dataclasses.asdict(other))
    assert [c.run_id for c in as_on_disk(now, tmp_path)] == [c.run_id for c in now]


def test_workers_know_a_run_by_the_name_of_its_folder(make_config: MakeConfig, tmp_path: Path) -> None:
    config = named(make_config(), "w16_s0_seed0_before")
    assert config == make_config()
    write_task(tmp_path / "task.json", [config], Settings(tmp_path))
    ((again,), _) = read_task(tmp_path / "task.json")
    assert again.run_id == "w16_s0_seed0_before"


@pytest.fixture
def load() -> Load:
    def composed(overrides: list[str]) -> DictConfig:
        config = hydra_compose("sweep", ["study=single", "agent=sac_small", *overrides])
        return OmegaConf.merge({"hydra": {}}, config)  # type: ignore[return-value]

    return composed


@pytest.mark.parametrize(
    ("jobs", "typed", "message"),
    [
        ([["width=8", "agent.width=256"]], {"agent.width", "width"}, r"^agent.width changes.*width="),
        ([["env_steps=500", "env.env_steps=600"]], {"env.env_steps"}, "give env_steps="),
        ([["mask_seed=3"], ["mask_seed=4"]], {"mask_seed"}, "mask_seed changes nothing here"),
        (
            [["sparsity=0.5", "pruning.change_every=50"], ["sparsity=0", "pruning.change_every=50"]],
            {"pruning.change_every"},
            "pruning.method=static does not ask for it; no network is sparse",
        ),
    ],
)  # fmt: skip
def test_what_no_run_reads_is_refused(
    load: Load, jobs: list[list[str]], typed: set[str], message: str
) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        with pytest.raises(ConfigError, match=message):
            as_read(load, jobs, typed)
        as_read(load, jobs, {"width"})  # a study's own grid is its author's affair


def test_what_some_runs_read_is_left_out_of_the_others(load: Load) -> None:
    """Four typed runs, three to train: masks of a dense network have no seed."""
    jobs = [[f"sparsity={s}", f"mask_seed={m}"] for s in (0, 0.5) for m in (3, 4)]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        made: list[dict[str, Any]] = as_read(load, jobs, {"mask_seed", "sparsity"})
        (plain,) = map(run_config, as_read(load, [["sparsity=0"]], ()))
    ids = [run_config(one).run_id for one in made]
    assert len(set(ids)) == 3
    assert ids[0] == ids[1] == plain.run_id
    assert [run_config(one).mask_seed for one in made[2:]] == [3, 4]
