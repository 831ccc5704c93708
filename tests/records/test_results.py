"""Atomic writes."""

from pathlib import Path

import pandas as pd
import pytest

from sparse_rl.records import results


def test_a_write_that_breaks_leaves_the_old_file_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results.write_metrics(tmp_path, [{"env_steps": 1, "return_mean": 0.5}])

    def broken(self: pd.DataFrame, path: Path, **options: object) -> None:
        path.write_bytes(b"half a fi")
        raise OSError("no space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", broken)
    with pytest.raises(OSError, match="no space"):
        results.write_metrics(tmp_path, [{"env_steps": 2, "return_mean": 0.7}])
    assert results.read_metrics(tmp_path)["env_steps"].tolist() == [1]
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.parquet"]


def test_nothing_yet_reads_as_nothing(tmp_path: Path) -> None:
    assert results.read_run(tmp_path) is None
    assert results.read_metrics(tmp_path).empty
    assert results.run_dirs(tmp_path) == []


def test_missing_evaluations_stay_missing(tmp_path: Path) -> None:
    results.write_metrics(tmp_path, [{"env_steps": 1}, {"env_steps": 2, "return_mean": 3.0}])
    frame = results.read_metrics(tmp_path)
    assert frame["return_mean"].isna().tolist() == [True, False]
    assert frame["env_steps"].dtype == "int64"


def test_a_configuration_cannot_execute_code(tmp_path: Path) -> None:
    (tmp_path / results.CONFIG).write_text("!!python/object/apply:os.system ['touch hacked']")
    with pytest.raises(Exception, match="could not determine a constructor"):
        results.read_config(tmp_path)
