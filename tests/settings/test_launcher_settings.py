"""Settings of launchers: the schema that all other settings have."""

from typing import Any

import pytest

from sparse_rl.settings.launchers import (
    ProcessesConfig,
    SlurmConfig,
    accelerators_of,
    build_launcher,
    check_job,
    check_together,
    lines,
)
from sparse_rl.settings.schema import ConfigError


@pytest.mark.parametrize(
    ("launcher", "given", "message"),
    [
        (
            "slurm",
            {"mem_gb": "abc"},
            r"^hydra.launcher.mem_gb='abc' is not allowed; give a number or null$",
        ),
        ("slurm", {"cpus_per_task": -1}, r"cpus_per_task=-1 is out of range; allowed: >= 1"),
        ("slurm", {"retries": "abc"}, r"retries='abc' is not allowed; give a whole number"),
        ("slurm", {"setup": 3}, r"setup=3 is not allowed; give a text or a list, each a text"),
        ("slurm", {"setup": ["a", 3]}, r"setup=\['a', 3\] is not allowed"),
        ("slurm", {"use_srun": 1}, r"use_srun=1 is not allowed; give true or false"),
        ("slurm", {"partition": "a\n#SBATCH -o /x"}, r"partition=.* is out of range; allowed: one line"),
        ("slurm", {"gpus_per_node": "a b"}, r"gpus_per_node='a b' is out of range"),
        (
            "slurm",
            {"partitoin": 1},
            r"Did you mean hydra.launcher.partition.* partition \(default: None\)",
        ),
        ("slurm", {"packs_per_job": 0}, r"packs_per_job=0 is out of range; allowed: >= 1"),
        ("slurm", {"packs_per_job": 8}, r"packs_per_job=8 .* at most cpus_per_task \(= 4\)"),
        ("processes", {"packs_per_job": 0}, r"packs_per_job=0 is out of range; allowed: >= 1"),
        ("inprocess", {"packs_per_job": 2}, r"give hydra/launcher=processes or slurm beside it"),
        ("slurm", {"workers": 8}, r"is not of hydra/launcher=slurm; give hydra/launcher=processes"),
        ("slurm", {"additional_parameters": {"a b": 1}}, r"additional_parameters.a b is no option"),
        ("slurm", {"additional_parameters": {"output": "x"}}, r"output is set by the sweep"),
        ("slurm", {"additional_parameters": {"open_mode": "x"}}, r"open_mode is set by the sweep"),
        ("slurm", {"additional_parameters": {"comment": "a\nb"}}, r"allowed: one line"),
        ("slurm", {"additional_parameters": {"comment": [1]}}, r"give names, each with a text or"),
        ("processes", {"workers": 0}, r"hydra.launcher.workers=0 is out of range; allowed: >= 1"),
        ("inprocess", {"workers": 8}, r"give hydra/launcher=processes beside it"),
        ("inprocess", {"retries": 8}, r"give hydra/launcher=processes or slurm beside it"),
        ("inprocess", {"x": 8}, r"unknown key 'hydra.launcher.x'.*hydra/launcher=inprocess: none"),
    ],
)
def test_what_is_wrong_is_named(launcher: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        build_launcher(launcher, given)
    assert "\n" not in str(caught.value)


def test_what_is_right_is_taken() -> None:
    given = {"mem_gb": 1.5, "gpus_per_node": "a100:1", "setup": "module load cuda\nexport A=1"}
    made = build_launcher("slurm", given | {"additional_parameters": {"mail-user": "me"}})
    assert isinstance(made, SlurmConfig)
    assert (made.mem_gb, made.gpus_per_node, made.retries) == (1.5, "a100:1", 3)
    assert lines(made.setup) == ["module load cuda", "export A=1"]
    assert lines(["a\nb", "c"]) == ["a", "b", "c"]
    assert build_launcher("processes", {"workers": 2}) == ProcessesConfig(2, 1, 3)
    for devices, count in ((None, 0), (2, 2), ("2", 2), ("a100", 1), ("a100:2", 2)):
        job = build_launcher("slurm", {"gpus_per_node": devices, "packs_per_job": 2})
        assert isinstance(job, SlurmConfig)
        assert accelerators_of(job) == count


@pytest.mark.parametrize(
    ("gpus", "has"), [(None, 0), (1, 1), (3, 3), ("a100", 1), ("a100:2", 2), ("4", 4), ("a100:12", 12)]
)
def test_a_job_has_the_accelerators_of_its_packs(gpus: Any, has: int) -> None:
    given = build_launcher("slurm", {"gpus_per_node": gpus})
    assert isinstance(given, SlurmConfig)
    check_job(given, max(has, 1))
    with pytest.raises(ConfigError, match=f"gpus_per_node={gpus}; give at least {has + 2} of them"):
        check_job(given, has + 2)
    if has > 1:
        with pytest.raises(ConfigError, match=f"gpus_per_node={gpus} .* at most {has - 1}, for a job"):
            check_job(given, has - 1)


def test_packs_use_all_accelerators_of_a_job() -> None:
    given = build_launcher("slurm", {"gpus_per_node": "a100:3", "packs_per_job": 2})
    assert isinstance(given, SlurmConfig)
    with pytest.raises(ConfigError, match=r"a100:3 .* at most 2, for a job has packs_per_job=2"):
        check_job(given, 1)
    with pytest.raises(ConfigError, match="packs_per_job=2 and devices_per_pack=2 do not go together"):
        check_job(given, 2)
    check_together(1, 2)
    check_together(2, 1)


def test_accelerators_may_be_asked_for_in_other_ways() -> None:
    for other in ({"gres": "gpu:4"}, {"additional_parameters": {"gpus": 4}}, {"exclusive": True}):
        given = build_launcher("slurm", other)
        assert isinstance(given, SlurmConfig)
        check_job(given, 4)
