"""The page that follows a study while it trains, and what it leaves alone."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_status import study

from sparse_rl import status
from sparse_rl.records import results
from sparse_rl.sweeps import live
from sparse_rl.sweeps.status import survey


@pytest.fixture
def followed(tmp_path: Path) -> Path:
    """Of five runs the first is done, and the second has three rows, one of them without a return."""
    folder = study(tmp_path / "some & study")
    rows = [{"env_steps": 100 * i, "return_mean": 10.0 * i} for i in range(1, 11)]
    results.write_metrics(folder / "run0", rows)
    rows[1]["return_mean"] = float("nan")
    results.write_metrics(folder / "run1", rows[:3])
    return folder


def curves(text: str) -> dict[str, int]:
    """Title of each curve → its points."""
    found = re.findall(r"<title>(\w+, .*?)</title><polyline points=\"(.*?)\"", text)
    return {title: len(points.split()) for title, points in found}


def test_curves_progress_and_failures_by_hand(followed: Path) -> None:
    text = live.page(survey(followed), live.reader(followed), 5.0)
    assert curves(text) == {
        "run0, done: 100 at 1,000 env steps": 10,
        "run1, preempted: 30 at 300 env steps": 2,
    }
    assert '<meta http-equiv="refresh" content="5">' in text
    assert "some &amp; study" in text
    # the done one has 1000 of 1000 env steps, the others 600, 300, 0 and 0
    assert 'value="1900" max="5000" aria-label="env steps of the study"' in text
    assert 'value="1900" max="3000" aria-label="width 8, 0.9"' in text
    assert "2 preempted, 1 done" in text
    assert '<td>run3</td><td>failed</td><td class="words">MemoryError: 4 TB</td>' in text
    assert "http" not in re.sub(r"http-equiv", "", text)


def test_a_point_stands_where_its_value_is(followed: Path) -> None:
    """Returns from 10 to 100 of a budget of 1000: x from 52 to 332, y from 180 up to 8."""
    text = live.page(survey(followed), live.reader(followed), 5.0)
    found = re.search(r'<title>run0.*?points="(.*?)"', text)
    assert found
    first, *_, last = found[1].split()
    assert first == "80.0,180.0"
    assert last == "332.0,8.0"


def test_rows_are_read_again_when_they_have_changed(followed: Path) -> None:
    read = live.reader(followed)
    (run,) = (run for run in survey(followed)["runs"] if run["run_id"] == "run0")
    first = read(run)
    assert first
    assert len(first.value) == 10
    assert read(run) is not None
    results.write_metrics(followed / "run0", [{"env_steps": 100, "return_mean": 7.0}])
    again = read(run)
    assert again
    assert again.value.tolist() == [7.0]
    (followed / "run0" / results.METRICS).write_bytes(b"half a file")
    assert read(run) is None


def test_watching_ends_with_the_study_and_changes_no_run(
    followed: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for i in range(5):
        record = results.read_run(followed / f"run{i}") or {"status": "done"}
        results.write_run(followed / f"run{i}", record | {"status": "failed" if i == 3 else "done"})
    before = {path: path.read_bytes() for path in followed.rglob("*") if path.is_file()}
    status.main([str(followed), "--watch"])
    after = {path: path.read_bytes() for path in followed.rglob("*") if path.is_file()}
    page = followed / live.PAGE
    assert after == before | {page: page.read_bytes()}
    assert "refresh" not in page.read_text()
    assert "all runs have ended" in page.read_text()
    assert str(page.resolve().as_uri()) in capsys.readouterr().out
    other = tmp_path / "elsewhere.html"
    status.main([str(followed), "--watch", "--page", str(other)])
    assert other.exists()


def test_what_makes_no_sense_is_refused(
    followed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        status.main([str(followed), "--page", "x.html"])
    assert "--page says where --watch writes" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        status.main([str(tmp_path / "none"), "--watch"])
    assert "no study in" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_status_loads_no_jax(followed: Path) -> None:
    check = (
        "import sys; from sparse_rl import status; status.main([sys.argv[1], '--once']);"
        "from sparse_rl.sweeps import live; sys.exit('jax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", check, str(followed)]).returncode == 0
