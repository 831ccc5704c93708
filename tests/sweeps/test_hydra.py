"""Hydra's parser under an argparse that reads help when an option is added, as Python 3.14's does."""

import argparse
import sys
from typing import Any

import pytest
from hydra._internal import utils as hydra_utils

from sparse_rl import sweep
from sparse_rl.sweeps.arguments import strings_for_help


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.14's check, where this Python has none."""
    if hasattr(argparse.ArgumentParser, "_check_help"):
        return
    container = argparse.ArgumentParser.__mro__[2]  # of options; argparse's own name for it is private
    add = vars(container)["add_argument"]

    def check_help(self: Any, action: argparse.Action) -> None:
        if action.help and hasattr(self, "_get_formatter"):
            try:
                if "%" in action.help:
                    self._get_formatter()._expand_help(action)
            except (ValueError, TypeError, KeyError) as error:
                raise ValueError("badly formed help string") from error

    def add_argument(self: Any, *names: Any, **options: Any) -> argparse.Action:
        action: argparse.Action = add(self, *names, **options)
        self._check_help(action)
        return action

    monkeypatch.setattr(container, "_check_help", check_help, raising=False)
    monkeypatch.setattr(container, "add_argument", add_argument)


@pytest.mark.usefixtures("strict")
def test_hydra_does_not_do_without_strings_for_help_yet() -> None:
    """If this fails, Hydra makes its parser with Python 3.14: ``strings_for_help`` can go."""
    with pytest.raises(ValueError, match="badly formed help string"):
        hydra_utils.get_args_parser()


@pytest.mark.usefixtures("strict")
def test_all_help_is_there_and_hydra_is_left_as_it_was() -> None:
    before = vars(hydra_utils)["argparse"]
    with strings_for_help():
        parser = hydra_utils.get_args_parser()
    assert vars(hydra_utils)["argparse"] is before
    (option,) = (action for action in parser._actions if "--shell-completion" in action.option_strings)
    assert option.help is not None
    assert "Install or Uninstall shell completion" in option.help
    assert "Bash - Install:" in option.help
    assert parser.parse_args(["--cfg", "job", "width=8"]).overrides == ["width=8"]


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("where", ["a folder", "100% mine"])
def test_the_command_starts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    """Wherever it lies: Hydra's help names the file of the command."""
    monkeypatch.setattr(sys, "argv", [f"/{where}/sweep.py", "--cfg", "job", "width=64"])
    sweep.main()
    assert "width: 64" in capsys.readouterr().out
