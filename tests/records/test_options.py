"""Numbers of command lines that can mean nothing are refused."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from sparse_rl import report
from sparse_rl.records.options import check_numbers


@pytest.mark.parametrize(
    ("kind", "value", "takes"),
    [
        ("counts", 0, "a whole number > 0, got 0"),
        ("counts", -3, "a whole number > 0, got -3"),
        ("positive", 0.0, "a number > 0, got 0"),
        ("positive", float("inf"), "a number > 0, got inf"),
        ("positive", float("nan"), "a number > 0, got nan"),
        ("finite", float("-inf"), "a number, got -inf"),
        ("finite", [2.5, float("nan")], "a number, got nan"),
    ],
)
def test_a_number_that_means_nothing_is_named_with_what_is_allowed(
    kind: str, value: Any, takes: str
) -> None:
    with pytest.raises(ValueError, match=f"^--how-many takes {takes}$"):
        check_numbers(Namespace(how_many=value), **{kind: ["how_many"]})


def test_other_numbers_pass_and_what_was_not_given() -> None:
    options = Namespace(n=1, least=1e-300, level=-7.5, many=[0.0, -1.0], none=None)
    check_numbers(
        options, counts=["n", "none"], positive=["least", "none"], finite=["level", "many", "none"]
    )


@pytest.mark.parametrize("option", ["--margin", "--thresholds"])
def test_a_report_is_not_begun_with_such_a_number(
    tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        report.main([str(tmp_path), option, "nan"])
    assert ended.value.code == 2
    assert f"sparse_rl.report: {option} takes a number" in capsys.readouterr().err
