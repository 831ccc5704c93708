"""Nothing that is printed ends a run, and whatever ends a command is one line."""

import contextlib
import io
import sys
from pathlib import Path

import pytest

from sparse_rl.records.console import console, one_line, words
from sparse_rl.records.views import check_available, open_view


class Full(io.StringIO):
    """A log on a full disk."""

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")

    def flush(self) -> None:
        raise OSError(28, "No space left on device")


def test_a_full_disk_ends_no_print(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Full())
    console().print("lost")


def test_an_encoding_without_arrows_ends_no_print(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    console().print("8 done → results")
    sys.stdout.flush()
    assert raw.getvalue() == b"8 done \\u2192 results\n"


def test_a_notebook_can_be_quiet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """There rich shows what it prints by itself, wherever a caller turns what is printed."""
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    with contextlib.redirect_stdout(io.StringIO()) as kept:
        console().print("8 done")
    assert kept.getvalue() == "8 done\n"
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (ValueError("several\n  lines"), 2, "command: several lines\n"),
        (TypeError("a bug"), 2, "command: TypeError: a bug\n"),
        (KeyError(), 2, "command: KeyError\n"),
        (
            OSError(28, "No space left on device"),
            2,
            "command: OSError: [Errno 28] No space left on device\n",
        ),
        (
            PermissionError(13, "Permission denied", "x"),
            2,
            "command: [Errno 13] Permission denied: 'x'\n",
        ),
        (KeyboardInterrupt(), 130, "command: interrupted\n"),
        (BrokenPipeError(), 0, ""),
        (SystemExit(7), 7, ""),
    ],
)
def test_whatever_ends_a_command_is_one_line(
    capsys: pytest.CaptureFixture[str], error: BaseException, status: int, said: str
) -> None:
    with pytest.raises(SystemExit) as end, one_line("command"):
        raise error
    assert end.value.code == status
    assert capsys.readouterr().err == said


def test_where_an_error_came_from_is_shown_to_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(TypeError, match="a bug"), one_line("command"):
        raise TypeError("a bug")
    assert words(RuntimeError("out of\nluck")) == "RuntimeError: out of luck"


def test_a_view_that_breaks_is_a_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said: list[str] = []
    monkeypatch.setitem(sys.modules, "wandb", None)
    view = open_view("wandb", tmp_path, {}, {}, said.append)
    view.log({"env_steps": 1})
    view.close("done")
    (line,) = said
    assert line.startswith("the view could not be opened; the run goes on without it")


def test_who_has_not_logged_in_is_told_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("wandb", reason="extra wandb is not installed")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NETRC", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    with pytest.raises(ValueError, match="logging=wandb: nobody has logged in here"):
        check_available("wandb")
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password abc\n")
    (tmp_path / ".netrc").chmod(0o600)
    check_available("wandb")
    (tmp_path / ".netrc").unlink()
    monkeypatch.setenv("WANDB_MODE", "offline")
    check_available("wandb")
