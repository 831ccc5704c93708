"""Command lines of a sweep, mostly wrong; and what a sweep makes of them."""

import contextlib
import io
import logging.config
import random
import sys
from collections.abc import Iterable, Iterator
from typing import NamedTuple
from unittest import mock

from hydra.core.global_hydra import GlobalHydra

from sparse_rl import sweep
from sparse_rl.settings.launchers import LAUNCHERS, SlurmConfig
from sparse_rl.settings.run import SWEEP_KEYS, RunConfig, schema_keys
from sparse_rl.settings.schema import fields_of
from sparse_rl.sweeps import run
from sparse_rl.sweeps.grid import Pack, packs
from sparse_rl.sweeps.presets import GROUPS, presets

VALUES = (
    "0", "1", "-1", "3", "0.5", "1e-3", "1e400", "nan", "-inf", "true", "null", "''", "abc",
    "[1,2]", "[]", "{a:1}", "{}", "range(3)", "range(0)", "range(1e9)", "range(3,0)", "choice(1,2)",
    "interval(0,1)", "glob(*)", "sort(3,1)", "1,2", "1,", ",", "${seed}", "${nothing}",
    "${oc.env:HOME}", "$HOME", "`id`", "$(id)", ";ls", "a b", "größe", "\u2028", "\U0001f600", "'",
    '"', "\\", "..", "../x", "/", "%", "=", "==", "0x10", "1_000", "9" * 30, "1" * 400,
    "9007199254740993", "~", "+1", "!!python/object:x", "a/b", "a.b",
)  # fmt: skip
FLAGS = (
    "--resolve", "--run", "-r", "--cfg", "--bogus", "-", "--", "-x", "--package", "--multirun",
    "--info=x", "--config-name=none", "--config-dir=none", "--config-path=none",
    "--experimental-rerun", "-cd",
)  # fmt: skip
HYDRA = (
    "hydra.mode", "hydra.run.dir", "hydra.sweep.dir", "hydra.job.chdir", "hydra.verbose",
    "hydra/launcher", "hydra/sweeper", "hydra.sweeper.params", "hydra.launcher._target_",
    "hydra.output_subdir", "hydra",
)  # fmt: skip


class Planned(BaseException):
    """A command line was taken, and counting begins."""


class Outcome(NamedTuple):
    """What became of a command line."""

    status: int
    said: str
    configs: list[RunConfig]
    """That would be trained, where it was taken."""


def _word(rng: random.Random, word: str) -> str:
    """A word with a slip of the finger."""
    i = rng.randrange(len(word) + 1)
    return rng.choice(
        (word[:i] + rng.choice("xq_.-/=é ") + word[i:], word[:i] + word[i + 1 :], word.upper())
    )


def _argument(rng: random.Random, keys: list[str]) -> str:
    kind = rng.random()
    if kind < 0.08:
        return rng.choice(FLAGS)
    if kind < 0.16:
        return f"{rng.choice(HYDRA)}={rng.choice((*VALUES, *LAUNCHERS))}"
    if kind < 0.30:
        group = rng.choice(GROUPS)
        name = rng.choice(presets(group))
        return f"{group}={name if rng.random() < 0.6 else _word(rng, name)}"
    key = rng.choice(keys)
    key = key if rng.random() < 0.85 else _word(rng, key)
    sign = rng.choice(("", "", "", "+", "++", "~"))
    return f"{sign}{key}={rng.choice(VALUES)}"


def command_lines(rng: random.Random) -> Iterator[list[str]]:
    """Command lines without end, a few arguments each; all of them ask for a plan."""
    keys = [*schema_keys(), *SWEEP_KEYS, *RunConfig.__dataclass_fields__]
    keys += [f"hydra.launcher.{name}" for name in fields_of(SlurmConfig)]
    while True:
        line = [_argument(rng, keys) for _ in range(rng.choice((1, 1, 2, 3)))]
        launcher = [f"hydra/launcher={rng.choice(list(LAUNCHERS))}"] if rng.random() < 0.3 else []
        yield [*line, *launcher, "plan=true"]


def outcome(line: list[str]) -> Outcome:
    """What a command line comes to, in this process; plans end where counting would begin."""

    taken: list[RunConfig] = []

    def noted(configs: Iterable[RunConfig]) -> list[Pack]:
        taken.extend(configs)
        return packs(taken)

    said = io.StringIO()
    with (
        mock.patch.object(run, "packs", noted),
        mock.patch.object(run, "prepare_pack", side_effect=Planned),
        mock.patch.object(sys, "argv", ["sparse_rl/sweep.py", *line]),
        # Hydra ends all handlers before it sets up its own, and absl's would close the stream that it
        # found when it was imported: here that of whoever runs this.
        mock.patch.object(logging.config, "_clearExistingHandlers"),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
    ):
        try:
            sweep.main()
        except Planned:
            return Outcome(0, said.getvalue(), taken)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
            return Outcome(status, said.getvalue(), [])
        finally:
            GlobalHydra.instance().clear()
    return Outcome(0, said.getvalue(), [])


def complaint(line: list[str], came: Outcome) -> str | None:
    """What is wrong with what became of a command line; ``None`` if nothing is."""
    if came.status not in (0, 2):
        return f"status {came.status}"
    if came.status == 2 and len(came.said.strip().splitlines()) != 1:
        return "a refusal of more than one line"
    if "Traceback" in came.said:
        return "a traceback"
    return None
