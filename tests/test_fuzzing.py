"""A slice of ``make fuzz``: another one each day."""

import itertools
import random
import time
from collections import Counter
from pathlib import Path

import pytest
from fuzzing import files, lines

SEED = int(time.time() // 86400)
FINE = {"refused", "unchanged"}


def test_damaged_files_are_noticed(tmp_path: Path) -> None:
    print(f"seed {SEED}")
    told = Counter(itertools.islice(files.damaged(random.Random(SEED), tmp_path), 400))
    assert {what for _, what in told} <= FINE, told
    assert {name for name, what in told if what == "refused"} == {
        kind.name for kind in files.kinds(tmp_path / "whole")
    }


def test_command_lines_are_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    print(f"seed {SEED}")
    monkeypatch.chdir(tmp_path)
    came = []
    for line in itertools.islice(lines.command_lines(random.Random(SEED)), 60):
        found = lines.outcome(line)
        assert lines.complaint(line, found) is None, (line, found)
        came.append(found.status)
    assert came.count(2) > 30
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["agent.width=256", "sparsity=0"], "agent.width changes nothing here"),
        (["agent=null"], "unknown agent 'null'"),
        (["agent=[]"], "'agent=[]' names no agent"),
        (["results_dir=[a]"], "results_dir=['a'] is not allowed"),
        (["--resolve"], "--resolve"),
        (["--run"], "--run trains nothing"),
        (["foo"], "'foo' is no setting; give key=value"),
        (["name=größe"], "'name=größe' cannot be read"),
        (["name=${nothing}"], "Interpolation key 'nothing' not found"),
        (["seed=range(0)"], "'seed=range(0)' has 0 values"),
        (["seed=range(1e9)"], "1,000,000,000 values; give 1 to 1,000,000"),
        (["seed=range(0,2000)", "mask_seed=range(0,2000)"], "are more than 1,000,000 runs"),
        (["width=" + "9" * 30], "is out of range; allowed: below 2**53"),
        (["agent.learning_rate=" + "9" * 400], "agent.learning_rate="),
        (["agent.clip_ratio=0.3"], "unknown key 'agent.clip_ratio'"),
        (["hydra.mode=RUN"], "'hydra.mode=RUN' means nothing here"),
        (["hydra.sweep.dir=x"], "means nothing here"),
        (["hydra/launcher=basic"], "unknown hydra/launcher 'basic'"),
        (["+hydra.launcher.workers=8"], "give hydra/launcher=processes beside it"),
        (["hydra/launcher=processes", "hydra.launcher.workers=x"], "hydra.launcher.workers='x'"),
        (["hydra/launcher=slurm", "hydra.launcher.retries=abc"], "hydra.launcher.retries='abc'"),
        (["hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1,2"], "holds for the whole sweep"),
    ],
)
def test_what_was_tried_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    found = lines.outcome([*line, "plan=true"])
    assert found.status == 2
    assert lines.complaint(line, found) is None
    assert said in found.said


def test_what_is_right_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["width=8", "agent.batch_size=17", "sparsity=0.5", "seed=3", "pruning.min_fan_in=2"]
    (config,) = lines.outcome([*given, "plan=true"]).configs
    assert (config.width, config.agent.batch_size, config.pruning.min_fan_in) == (8, 17, 2)  # type: ignore[union-attr]
