"""Parts in processes that end, break, hang or are killed, and what is said of them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sparse_rl.selftest import command, lines, page
from sparse_rl.selftest.harness import Outcome, judged, run
from sparse_rl.selftest.lines import NOT_RUN, WRONG
from sparse_rl.selftest.parts import PARTS, Part, limit
from sparse_rl.settings.schema import ConfigError

SAYS = """
import json, os, subprocess, sys, time
def say(**line):
    with open(sys.argv[1], "a") as file:
        file.write(json.dumps(line) + "\\n")
"""
ENDS = "say(row={'width': 3}); say(note='a note'); say(doing='the next'); say(done=True)"
STOPS_SHORT = "say(row={'width': 3})"
BREAKS = "say(row={'width': 3}); say(done=True); raise ValueError('what broke')"
HANGS = """say(row={'width': 3})
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
say(row={'child': child.pid}); time.sleep(60); say(done=True)"""


def part(tmp_path: Path, text: str, seconds: float = 30.0) -> tuple[Outcome, list[str | None]]:
    """How a part of this text went, and what it said that it did next."""
    script, heard = tmp_path / "part.py", list[str | None]()
    script.write_text(SAYS + text)
    said = tmp_path / "part.jsonl"
    every = [sys.executable, str(script), str(said)]
    return run(every, said, seconds, os.environ, lambda _, doing: heard.append(doing)), heard


def is_alive(pid: int) -> bool:
    """Whether there is such a process, and not only what is left of one."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_part_that_ends_has_passed(tmp_path: Path) -> None:
    outcome, heard = part(tmp_path, ENDS)
    assert (outcome.status, outcome.why) == ("passed", "")
    assert (outcome.rows, outcome.notes) == ([{"width": 3}], ["a note"])
    assert "the next" in heard


@pytest.mark.parametrize(("text", "said"), [(STOPS_SHORT, "it wrote nothing"), (BREAKS, "what broke")])
def test_a_part_that_breaks_has_not_passed_whatever_it_measured(
    tmp_path: Path, text: str, said: str
) -> None:
    outcome, _ = part(tmp_path, text)
    assert outcome.status == "broke"
    assert said in outcome.why
    assert outcome.rows == [{"width": 3}]


def test_a_part_is_killed_at_its_limit_with_all_that_it_started(tmp_path: Path) -> None:
    begun = time.monotonic()
    outcome, _ = part(tmp_path, HANGS, seconds=2.0)
    assert time.monotonic() - begun < 20.0
    assert outcome.status == "killed"
    assert outcome.why == "at its limit of 0m02s, after 2 rows"
    assert outcome.rows[0] == {"width": 3}
    child = outcome.rows[1]["child"]
    ends = time.monotonic() + 10.0
    while is_alive(child) and time.monotonic() < ends:
        time.sleep(0.05)
    assert not is_alive(child)


MISSING = {"what": "mazes", NOT_RUN: "mazes not run: pip install them"}
GOOD: dict[str, Any] = {"width": 3}


@pytest.mark.parametrize(
    ("rows", "status", "why"),
    [
        ([GOOD], "passed", ""),
        ([GOOD, MISSING], "passed in part", "mazes not run: pip install them"),
        ([MISSING], "not run", "mazes not run: pip install them"),
        ([], "broke", "it measured nothing"),
        ([GOOD, {WRONG: "too slow"}, {WRONG: "too fast"}], "failed", "too slow, and 1 more"),
        ([MISSING, {WRONG: "too slow"}], "failed", "too slow"),
    ],
)
def test_a_part_is_judged_by_its_rows(
    tmp_path: Path, rows: list[dict[str, Any]], status: str, why: str
) -> None:
    found = judged(Outcome("running", rows=rows), True, False, 0, tmp_path / "log")
    assert (found.status, found.why) == (status, why)


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        (["passed", "passed in part", "not run"], 0),
        (["passed", "killed"], 1),
        (["passed", "failed"], 1),
        (["passed", "broke"], 1),
        (["passed", "running"], 1),
        (["not run"], 1),
        ([], 1),
    ],
)
def test_only_parts_that_passed_make_a_success(statuses: list[Any], code: int) -> None:
    found = {PARTS[i]: Outcome(status) for i, status in enumerate(statuses)}
    assert command.status(found) == code


def test_the_page_says_of_each_part_what_became_of_it(tmp_path: Path) -> None:
    """As it was killed; numbers as they were measured; and what was never run is not passed."""
    about = {"kind": "A|B 80GB", "jax": "0.10.2"}
    rows = [{"variant": "block", "ms": 12.3456}, {"variant": "floor", "GB/s": 2345678.9}]
    found = {
        PARTS[1]: Outcome(
            "killed", "at its limit of 0m07s, after 2 rows", 7.1, 7.0, rows, ["So it is."]
        ),
        PARTS[2]: Outcome("not run", "mazes not run: pip install them", 1.0, 5.0, [MISSING]),
    }
    page.write(tmp_path, about, found)
    text = (tmp_path / page.PAGE).read_text()
    assert "# Self-test of A|B 80GB" in text
    assert (
        "storages | Which storage is how fast, beside what the device can do? | killed | 0m07s of 0m07s"
        in text
    )
    assert "**killed**: at its limit of 0m07s, after 2 rows" in text
    assert (
        "| variant | ms | GB/s |\n| --- | --- | --- |\n| block | 12.35 |  |\n| floor |  | 2,345,679 |"
        in text
    )
    assert "- So it is." in text
    assert "| packs | What does a pack of runs gain? | not run |" in text
    assert "passed" not in text
    told = json.loads((tmp_path / page.RESULTS).read_text())
    assert told["about"] == about
    assert told["parts"]["storages"]["status"] == "killed"
    assert told["parts"]["storages"]["rows"] == rows
    assert told["parts"]["storages"]["seconds"] == 7.1


def test_what_a_part_leaves_of_its_time_goes_to_those_after_it() -> None:
    one, two, three = Part("one", "", 0.2), Part("two", "", 0.3), Part("three", "", 0.5)
    assert limit(one, (two, three), 100.0) == pytest.approx(20.0)
    assert limit(two, (three,), 96.0) == pytest.approx(36.0)
    assert limit(three, (), 31.0) == pytest.approx(31.0)
    assert limit(three, (), -4.0) == 5.0
    assert sum(part.share for part in PARTS) == pytest.approx(1.0)


def test_half_a_line_is_read_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "said"
    assert lines.read(path, 0) == ([], 0)
    path.write_text('{"note": "α"}\n{"no')
    found, end = lines.read(path, 0)
    assert found == [{"note": "α"}]
    with path.open("a") as file:
        file.write('te": "b"}\n')
    assert lines.read(path, end)[0] == [{"note": "b"}]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--device", "gpuu"], r"unknown device 'gpuu'\. Did you mean gpu"),
        (["--device", "cpu", "--minutes", "0"], "--minutes 0 is not allowed; give a time above 0"),
        (["--device", "cpu", "--minutes", "nan"], "--minutes nan is not allowed"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        command.main(words)
    assert "\n" not in str(error.value)


def test_results_of_another_self_test_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / page.RESULTS).write_text("{}")
    with pytest.raises(ConfigError, match="has the results of another self-test"):
        command.main(["--device", "cpu", "--out", str(tmp_path)])


def test_a_device_that_is_not_there_is_refused_before_anything_starts(tmp_path: Path) -> None:
    """By a process that asks jax; the command never takes the device itself."""
    if Path("/dev/nvidia0").exists():
        pytest.skip("there is a GPU")
    asked = [sys.executable, "-m", "sparse_rl.selftest", "--device", "gpu", "--out", str(tmp_path / "o")]
    ended = subprocess.run(asked, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (2, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith(
        "sparse_rl.selftest: --device gpu: jax finds no gpu here, only a cpu; for NVIDIA"
    )
    assert not (tmp_path / "o" / page.RESULTS).exists()


class Fake:
    """In place of processes of parts: each tells one row, the third is killed."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, float]] = []

    def __call__(self, part: Part, options: Any, seconds: float, watch: Any) -> Outcome:
        self.asked.append((part.name, seconds))
        outcome = Outcome("running", limit=seconds)
        if part.name == "device":
            outcome.rows.append({"kind": "a fake"})
        outcome.rows.append({"width": len(self.asked)})
        watch(outcome, "measuring")
        if part.name != "device":
            told = json.loads((options.out / page.RESULTS).read_text())["parts"]
            assert told[part.name]["status"] == "running"
            assert told[part.name]["rows"] == [{"width": len(self.asked)}]
        outcome.status = "killed" if part.name == "packs" else "passed"
        return outcome


def test_what_was_measured_is_on_disk_while_the_rest_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = Fake()
    monkeypatch.setattr(command, "_run", fake)
    out = tmp_path / "new"
    assert command.main(["--device", "cpu", "--minutes", "2", "--quick", "--out", str(out)]) == 1
    assert [name for name, _ in fake.asked] == ["device", *(part.name for part in PARTS)]
    assert fake.asked[1][1] == pytest.approx(120.0 * PARTS[0].share, rel=0.05)
    assert fake.asked[-1][1] == pytest.approx(120.0, rel=0.05)  # all that was left
    told = json.loads((out / page.RESULTS).read_text())
    assert told["about"]["asked"] == "--device cpu --quick --minutes 2"
    assert {name: each["status"] for name, each in told["parts"].items()} == {
        part.name: "killed" if part.name == "packs" else "passed" for part in PARTS
    }
    said = capsys.readouterr().out
    assert "equal: measuring (1m59s left)" in said or "equal: measuring (2m00s left)" in said
    assert "packs     killed" in said


def test_jax_finds_the_device_first_and_a_cpu_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAX_PLATFORMS", "tpu")
    assert "JAX_PLATFORMS" not in command.environment("gpu")
    assert command.environment("cpu")["JAX_PLATFORMS"] == "cpu"
    assert command.environment("gpu")["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"


def test_a_self_test_that_is_killed_leaves_nothing_running(tmp_path: Path) -> None:
    """The part ends itself, with what it has started, also where its parent goes before it looks."""
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, subprocess, sys, time\n"
        "child = 'import sys, threading, time; from sparse_rl.selftest.child import end_with; '"
        " 'threading.Thread(target=end_with, args=(int(sys.argv[1]),), daemon=True).start(); '"
        " 'time.sleep(300)'\n"
        "words = [sys.executable, '-c', child, str(os.getpid())]\n"
        "part = subprocess.Popen(words, start_new_session=True)\n"
        "print(part.pid, flush=True); time.sleep(300)\n"
    )
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    with parent.stdout:
        pid = int(parent.stdout.readline())
    ends = time.monotonic() + 60.0
    while Path(f"/proc/{pid}/task").exists() and len(list(Path(f"/proc/{pid}/task").iterdir())) < 2:
        assert time.monotonic() < ends
        time.sleep(0.05)
    assert is_alive(pid)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    while is_alive(pid):
        assert time.monotonic() < ends
        time.sleep(0.05)
