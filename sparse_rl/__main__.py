"""``sparse-rl COMMAND …``, or ``python -m sparse_rl COMMAND …``: all commands under one name."""

import importlib
import os
import sys

from sparse_rl import __version__
from sparse_rl.records.console import one_line
from sparse_rl.settings.schema import unknown
from sparse_rl.sweeps.topics import COMMANDS, TOPICS, ZSH, overview, topic

COMPLETION = ("-sc", "--shell-completion")
HELP = ("help", "--help", "-h")


def _complete(arguments: list[str]) -> None:
    """Answer the shell: commands and topics here, what a sweep takes by Hydra."""
    before, _, rest = os.environ.get("COMP_LINE", "").lstrip().partition(" ")
    word, further, line = rest.lstrip().partition(" ")
    if arguments[-1] == "install=zsh":
        print(ZSH)
    elif "query=" not in arguments[-1] or (word == "sweep" and further):
        os.environ["COMP_LINE"] = f"{before} {line}"
        _call("sweep", arguments)
    elif not further:
        print("\n".join([*COMMANDS, "help", "--version"]))  # fish takes a line each
    elif word == "help":
        print("\n".join([*TOPICS, *COMMANDS]))


def _call(word: str, arguments: list[str]) -> None:
    """Do what a command does; it reads its arguments where it would find them otherwise."""
    sys.argv[1:] = arguments
    if "" not in sys.path:
        sys.path.insert(0, "")  # as with python -m: a user's package may lie in this folder
    module = word.replace("-", "_")
    with one_line(f"sparse_rl.{module}"):
        status = importlib.import_module(f"sparse_rl.{module}").main()
    sys.exit(status)


def main() -> None:
    """Entry point: the exit status is the command's, 2 where there is none of this name."""
    word, *arguments = sys.argv[1:] or ["help"]
    with one_line("sparse-rl"):
        if word in COMPLETION:
            _complete(sys.argv[1:])
        elif word == "--version":
            print(f"sparse_rl {__version__}")
        elif word in HELP and arguments and arguments[0] in COMMANDS and arguments[0] != "sweep":
            _call(arguments[0], ["--help"])
        elif word in HELP:
            print(topic(arguments[0]) if arguments else overview(), end="")
        elif word == "sweep" and arguments and arguments[0] in HELP:
            print(topic("sweep"), end="")
        elif word in COMMANDS:
            _call(word, arguments)
        else:
            raise unknown("command", word, list(COMMANDS))


if __name__ == "__main__":
    main()
