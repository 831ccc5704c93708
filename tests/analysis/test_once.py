"""Equal numbers are worked out once, and none that differ are taken for equal."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from sparse_rl.analysis import once

ROWS = pd.DataFrame({"run_id": ["a", "b"], "return_mean": [1.0, 2.0]})


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (np.array([1.0, 2.0]), np.array([1.0, 2.0])),
        (np.array(["ab", None], object), np.array(["".join(("a", "b")), None], object)),
        (ROWS, ROWS.copy()),
        ({"a": (1.0, "x")}, {"a": (1.0, "x")}),
    ],
)
def test_equal_contents_are_worked_out_once(first: Any, second: Any) -> None:
    told: list[Any] = []
    function = once.once(lambda part, far=1: told.append(part) or len(told))  # type: ignore[func-returns-value]
    assert function(first) == function(second) == 1
    assert function(first, far=2) == 2


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (np.array([1.0, 2.0]), np.array([[1.0], [2.0]])),
        (np.array([1.0]), np.array([1.0]).view(np.int64)),
        (np.array(["a"], object), np.array(["b"], object)),
        (np.array([1], object), np.array(["1"], object)),
        (ROWS, ROWS.assign(return_mean=[1.0, 2.5])),
        (ROWS, ROWS.set_axis([5, 6])),
        (ROWS, ROWS.rename(columns={"run_id": "id"})),
        (1, 1.0),
        ((1.0, 2.0), [1.0, 2.0]),
    ],
)
def test_what_differs_is_worked_out_again(first: Any, second: Any) -> None:
    told: list[Any] = []
    function = once.once(lambda part: told.append(part) or len(told))  # type: ignore[func-returns-value]
    assert (function(first), function(second)) == (1, 2)


def test_rows_that_were_changed_in_place_are_other_rows() -> None:
    rows = ROWS.copy()
    total = once.once(lambda part: float(part["return_mean"].sum()))
    assert total(rows) == 3.0
    rows.loc[0, "return_mean"] = 5.0
    assert total(rows) == 7.0


def test_what_was_not_asked_for_the_longest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(once, "KEPT", 2)
    told: list[int] = []
    function = once.once(lambda number: told.append(number) or number)  # type: ignore[func-returns-value]
    for number in (1, 2, 1, 3, 1, 2):  # 3 drives out 2
        assert function(number) == number
    assert told == [1, 2, 3, 2]
