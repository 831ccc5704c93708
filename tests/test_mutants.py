"""The faults that are tried, and a slice of them tried."""

import json
import random
import time
from collections import Counter
from pathlib import Path

import pytest
from mutation import syntax
from mutation.__main__ import KILLERS, key_of
from mutation.faults import ROOT, Fault, argued, listed
from mutation.page import living, score
from mutation.reach import Reach
from mutation.trial import affordable, attempt, copied, killer_of, passes

SLICE_SECONDS = 150.0
"""The slice ends after the fault that is tried then."""
ROOMS = {"pruning", "agents", "experience", "loops", "envs", "analysis", "records"}


def test_our_list_fits_the_code() -> None:
    faults = listed()
    assert len(faults) >= 150
    assert {fault.room for fault in faults} >= ROOMS
    assert len({key_of(fault) for fault in faults}) == len(faults)


def test_what_is_argued_is_a_line_of_the_code_or_would_be() -> None:
    for (file, lines), (verdict, why) in argued().items():
        assert (ROOT / file).exists(), file
        assert verdict in ("equivalent", "lives"), lines
        assert why, lines


def test_a_slice_of_the_faults_is_noticed() -> None:
    """As many as fit into its time, another slice each day, by the tests that noticed them."""
    killers = json.loads(KILLERS.read_text())
    faults = [fault for fault in listed() if key_of(fault) in killers]
    seed = int(time.time() // 86400)
    print(f"seed {seed}")
    random.Random(seed).shuffle(faults)
    unseen, tried, begun = [], 0, time.monotonic()
    with copied() as copy:
        assert passes(copy, killers[key_of(faults[0])])
        for fault in faults:
            outcome = attempt(fault, copy, [killers[key_of(fault)]], timeout=300.0)
            tried += 1
            unseen += [] if outcome.killed else [key_of(fault)]
            if time.monotonic() - begun > SLICE_SECONDS:
                break
    assert tried >= 1
    assert not unseen


@pytest.mark.parametrize(
    ("line", "now", "kind"),
    [
        ("a < b", "a <= b", "comparison"),
        ("a * (b - c)", "a / (b - c)", "sign"),
        ("a * (b - c)", "a * (b + c)", "sign"),
        ("-a", "a", "sign"),
        ("f(x, axis=-1)", "f(x, axis=0)", "axis"),
        ("x.mean(axis=0)", "x.mean(axis=1)", "axis"),
        ("jnp.log(x)", "x", "dropped call"),
        ("where(γ, x, y)", "where(x, γ, y)", "swapped arguments"),
        ("fold_in(key, 3)", "key", "key"),
        ("a[0]", "a[1]", "constant"),
        ("f(x, keepdims=True)", "f(x, keepdims=False)", "constant"),
    ],
)
def test_changes_of_the_syntax(tmp_path: Path, line: str, now: str, kind: str) -> None:
    file = tmp_path / "sparse_rl" / "room.py"
    file.parent.mkdir()
    text = f'"""γ."""\n\ny = {line}\n'
    file.write_text(text)
    made = {(fault.lines(text)[1], fault.gives) for fault in syntax.all_of(file, tmp_path)}
    assert (f"y = {now}", kind) in made


def test_annotations_and_messages_stay(tmp_path: Path) -> None:
    file = tmp_path / "room.py"
    file.write_text('def f(a: "list[int]", b: Literal[3]) -> Literal[4]:\n    raise E(f"{a - b} 5")\n')
    assert syntax.all_of(file, tmp_path) == []


def test_a_draw_is_of_every_kind_and_begins_with_the_smaller_one() -> None:
    drawn = syntax.drawn(35, seed=3)
    assert drawn[:20] == syntax.drawn(20, seed=3)
    counts = Counter(fault.gives for fault in drawn)
    assert max(counts.values()) - min(counts.values()) <= 2
    assert len(counts) == 7


def place(root: Path, text: str) -> Fault:
    """A tree with one room of one line, its test, and the fault ``4`` for ``3`` in it."""
    (root / "sparse_rl").mkdir()
    (root / "sparse_rl" / "room.py").write_text("x = 3\n")
    (root / "tests").mkdir()
    (root / "tests" / "test_room.py").write_text(text)
    return Fault("sparse_rl/room.py", 4, "3", "4", "a wrong x")


READS = "from pathlib import Path\n\n\ndef test_x():\n    text = Path('sparse_rl/room.py').read_text()\n"


@pytest.mark.parametrize(("claim", "killed"), [("'3' in text", True), ("'x' in text", False)])
def test_a_fault_is_killed_by_a_test_that_reads_the_number(
    tmp_path: Path, claim: str, killed: bool
) -> None:
    fault = place(tmp_path, f"{READS}    assert {claim}\n")
    with copied(tmp_path, ["pytest"]) as copy:
        outcome = attempt(fault, copy, ["tests/test_room.py"], timeout=60.0)
        assert (copy.folder / fault.file).read_text() == "x = 3\n"
    assert (outcome.killed, outcome.asked) == (killed, 1)
    assert outcome.killer == ("tests/test_room.py::test_x" if killed else "")


def test_no_test_at_all_is_no_survival(tmp_path: Path) -> None:
    fault = place(tmp_path, "")
    with copied(tmp_path, ["pytest"]) as copy:
        with pytest.raises(RuntimeError, match="pytest ended with 5"):
            attempt(fault, copy, ["tests/test_room.py"], timeout=60.0)
        with pytest.raises(RuntimeError, match="pytest ended with 4"):
            attempt(fault, copy, ["tests/test_room.py::test_gone"], timeout=60.0)


def test_an_error_of_pytest_s_own_is_no_kill() -> None:
    assert killer_of(1, "Traceback\nPytestAssertRewriteWarning: Module already imported\n") is None
    assert killer_of(0, "1 passed") is None
    assert (
        killer_of(1, "FAILED tests/test_room.py::test_x - assert 4 == 3\n")
        == "tests/test_room.py::test_x"
    )


def test_one_that_hangs_is_noticed(tmp_path: Path) -> None:
    fault = place(tmp_path, "import time\n\n\ndef test_x():\n    time.sleep(60)\n")
    with copied(tmp_path, ["pytest"]) as copy:
        outcome = attempt(fault, copy, ["tests/test_room.py"], timeout=2.0)
    assert outcome.killed
    assert outcome.seconds < 30.0


def test_tests_of_the_own_room_run_first_then_the_quick_ones() -> None:
    seconds = {
        "tests/agents/test_a.py::seen": 9.0,
        "tests/agents/test_a.py::other": 2.0,
        "tests/room/test_b.py::seen": 30.0,
        "tests/loops/test_c.py::not_asked": 1.0,
    }
    told = Reach({("sparse_rl/room.py", 1): {t for t in seconds if t.endswith("seen")}}, seconds)
    fault = Fault("sparse_rl/room.py", 4, "3", "4", "")
    asked = [
        "tests/room/test_b.py::seen",
        "tests/agents/test_a.py::seen",
        "tests/agents/test_a.py::other",
    ]
    assert told.of(fault, "x = 3\n") == asked
    assert affordable(asked, seconds, 39.5) == asked[:2]
    assert affordable(asked, seconds, 1.0) == asked[:1]


def test_a_line_that_no_test_reached_is_asked_of_its_room() -> None:
    told = Reach({}, {"tests/room/test_b.py::x": 1.0, "tests/loops/test_c.py::y": 1.0})
    assert told.of(Fault("sparse_rl/room/b.py", 4, "3", "4", ""), "x = 3\n") == [
        "tests/room/test_b.py::x"
    ]


def test_the_page_counts_by_room_and_names_what_lives() -> None:
    file = "sparse_rl/experience/advantage.py"
    text = (ROOT / file).read_text()
    start = text.index("discount * (gae_lambda")
    faults = {str(k): Fault(file, start, "discount", str(k), "") for k in range(4)}
    verdicts = {
        "0": ("killed", ""),
        "1": ("killed", ""),
        "2": ("lives", "too small to see."),
        "3": ("not tried", ""),
    }
    assert next(iter(score(verdicts, faults))) == "| experience | 2 | 1 | 67 % | 0 | 1 |"
    (line,) = living(verdicts, faults)
    assert "onwards = 2 * (gae_lambda if acts is None" in line
    assert line.endswith("too small to see.")
