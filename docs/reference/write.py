"""The pages of the reference: keys, presets and columns, as the code has them.

    make reference    # writes docs/keys.md, docs/presets.md and docs/columns.md

Types, allowed values, defaults and who reads a key are the schema's. What a key or a column means is one
line in ``keys.toml`` or ``columns.toml``; what a preset is, is the comment that its file begins with.
"""

import dataclasses
import itertools
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

import yaml

from sparse_rl.settings.agents import AGENT_CONFIGS
from sparse_rl.settings.curricula import CURRICULUM_CONFIGS
from sparse_rl.settings.envs import ENV_CONFIGS, EnvConfig
from sparse_rl.settings.launchers import LAUNCHERS
from sparse_rl.settings.pruning import PruningConfig
from sparse_rl.settings.run import BUDGET, SWEEP_KEYS, DiagnosticsConfig, RunConfig
from sparse_rl.settings.schema import describe, fields_of

HERE = Path(__file__).resolve().parent
DOCS = HERE.parent
CONF = DOCS.parent / "sparse_rl" / "conf"
OTHERS = "others"
"""Sources of environments that have the settings of every environment, and none beside."""
MISSING = dataclasses.MISSING


class Section(NamedTuple):
    """Keys that begin alike."""

    title: str
    name: str
    """Of its table in ``keys.toml``."""
    prefix: str
    """Of each key, as it is typed."""
    readers: Mapping[str, type]
    """Who may read them → the schema that says whether it does."""
    said: str
    """What whoever reads the table needs to know first."""


SECTIONS = (
    Section("Of a run", "run", "", {"": RunConfig}, "They decide the numbers of a run."),
    Section(
        "Pruning", "pruning", "pruning.", {"": PruningConfig},
        "How much goes is `sparsity`. What goes, and how the rest is held, is said here "
        "([pruning](pruning.md)).",
    ),
    Section(
        "Agents", "agent", "agent.", AGENT_CONFIGS,
        "An agent reads the keys that name it, and refuses the others. The defaults are the schema's. A "
        "preset may have others: `agent=ppo_minatar --cfg job` shows them ([agents](agents.md)).",
    ),
    Section(
        "Environments", "env", "env.", {OTHERS: EnvConfig, **ENV_CONFIGS},
        f"Read by sources of environments. *{OTHERS}* are those that have no settings of their own. "
        "Presets have other budgets than these defaults ([environments](environments.md)).",
    ),
    Section(
        "Curricula", "curriculum", "curriculum.", CURRICULUM_CONFIGS,
        "Read by methods that choose levels ([curricula](curricula.md)).",
    ),
    Section(
        "Health", "diagnostics", "diagnostics.", {"": DiagnosticsConfig},
        "Of what is measured at log points.",
    ),
    Section(
        "Launchers", "launcher", "hydra.launcher.", LAUNCHERS,
        "Where packs train changes no number ([running at scale](scale.md)).",
    ),
)  # fmt: skip


FOLLOWS = {
    ("", "width"): "the study's grid, else `agent.width`",
    ("", "sparsity"): "the study's grid, else `0`",
    ("", "seed"): "the study's grid, else `0`",
    ("", "mask_seed"): "`seed`",
    **{("", name): f"`env.{name}`" for name in BUDGET},
    ("paac", "learning_rate"): "`learning_rate_per_env` × `num_envs`",
}
"""Reader and key → what it follows from where it is not given (``run_config``, ``build_agent``)."""


class Setting(NamedTuple):
    """A key as some of its readers have it."""

    readers: list[str]
    allowed: str
    default: str


def in_words(value: Any) -> str:
    """A default, as it would be typed."""
    if value is MISSING:
        return "must be given"
    if isinstance(value, bool) or value is None:
        return "`null`" if value is None else f"`{str(value).lower()}`"
    return f"`{value:.10g}`" if isinstance(value, float) else f"`{value}`"


def _default(reader: str, name: str, field: "dataclasses.Field[Any]") -> str:
    made = field.default_factory
    value = field.default if made is MISSING else made()
    return FOLLOWS[reader, name] if (reader, name) in FOLLOWS else in_words(value)


def _choices(hint: Any) -> list[Any]:
    """What a type allows, if that can be listed."""
    if get_origin(hint) is Literal:
        return list(get_args(hint))
    parts = [_choices(part) for part in get_args(hint)]
    return [value for part in parts for value in part] if parts and all(parts) else []


def _allowed(hint: Any, field: "dataclasses.Field[Any]") -> str:
    kind, limits = describe(hint), field.metadata.get("allowed")
    choices = ", ".join(f"`{value}`" for value in _choices(hint))
    return choices or (f"{kind}, {limits}" if limits else kind)


def settings_of(section: Section) -> dict[str, list[Setting]]:
    """Key → how its readers have it; those that have it alike are together."""
    found: dict[str, dict[tuple[str, str], list[str]]] = {}
    for reader, schema in section.readers.items():
        for name, (hint, field) in fields_of(schema).items():
            whole = dataclasses.is_dataclass(hint) or name in ("agent", "env", "curriculum")
            if whole and not section.prefix:  # a group, whose keys have a table of their own
                continue
            each = (_allowed(hint, field), _default(reader, name, field))
            found.setdefault(name, {}).setdefault(each, []).append(reader)
    return {
        name: [Setting(readers, *each) for each, readers in kinds.items()]
        for name, kinds in found.items()
    }


def meanings(file: str) -> dict[str, dict[str, Any]]:
    """Table → name → what is said of it."""
    return tomllib.loads((HERE / file).read_text(encoding="utf-8"))


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Lines of a table."""
    head = tuple(head)
    return [_row(*head), "|" + "---|" * len(head), *(_row(*row) for row in rows), ""]


def _by_value(settings: list[Setting], of: str) -> dict[str, list[str]]:
    """What readers have → who."""
    values: dict[str, list[str]] = {}
    for setting in settings:
        values.setdefault(getattr(setting, of), []).extend(setting.readers)
    return values


def _allowed_by(settings: list[Setting]) -> str:
    """What is allowed, and to whom where that differs."""
    values = _by_value(settings, "allowed")
    if len(values) == 1:
        return next(iter(values))
    return "; ".join(f"{value} ({', '.join(readers)})" for value, readers in values.items())


def _default_of(settings: list[Setting], every: Mapping[str, type]) -> str:
    """The default of each reader, and so who reads the key."""
    values = _by_value(settings, "default")
    if len(every) == 1:
        return next(iter(values))
    return "; ".join(
        f"{value}: {'all' if len(readers) == len(every) else ', '.join(readers)}"
        for value, readers in values.items()
    )


CHOOSES = {"agent": "name", "curriculum": "method"}
"""Section → the key that chooses which schema is read; each schema allows its own name alone."""


def _keys_of(section: Section) -> Iterator[str]:
    said, keys = meanings("keys.toml")[section.name], settings_of(section)
    several = len(section.readers) > 1
    rows = []
    for name, settings in keys.items():
        cells = [_allowed_by(settings), _default_of(settings, section.readers)]
        if several and name == CHOOSES.get(section.name):
            cells = [", ".join(f"`{reader}`" for reader in section.readers), "the preset's: all"]
        rows.append((f"`{section.prefix}{name}`", said[name], *cells))
    whose = {
        reader: " ".join((schema.__doc__ or "").split()) for reader, schema in section.readers.items()
    }
    known = table(("of", "settings"), ((f"`{reader}`", text) for reader, text in whose.items()))
    yield from (f"## {section.title}", "", section.said, "", *(known if several else []))
    head = "default, and who reads it" if several else "default"
    yield from table(("key", "meaning", "allowed", head), rows)


def keys_page() -> str:
    """``docs/keys.md``."""
    said = meanings("keys.toml")
    sweep = yaml.safe_load((CONF / "sweep.yaml").read_text(encoding="utf-8"))
    chosen = {
        name.removeprefix("override "): preset
        for one in sweep["defaults"] if isinstance(one, dict) for name, preset in one.items()
    }  # fmt: skip
    defaults = {
        name: "the study's" if sweep[name] == "???" else in_words(sweep[name]) for name in SWEEP_KEYS
    }
    lines = [
        "# Every key",
        "",
        "This page is made of the schema: `make reference` writes it, and a test fails where it "
        "differs.",
        "",
        "A key is typed as `key=value` or `+key=value`. A comma list or `range(first, end, step)` "
        "sweeps it. An unknown key, and a value that is not allowed, stop the command before anything "
        "trains.",
        "",
        "## Groups",
        "",
        "A group takes the name of a preset ([presets](presets.md)). A study may choose others than "
        "these defaults.",
        "",
        *table(
            ("key", "meaning", "default"),
            ((f"`{name}`", what, f"`{chosen[name]}`") for name, what in said["groups"].items()),
        ),
        *(line for section in SECTIONS[:1] for line in _keys_of(section)),
        "## Of a sweep",
        "",
        "They change no number, and hold for the whole command.",
        "",
        *table(
            ("key", "meaning", "default"),
            ((f"`{name}`", said["sweep"][name], defaults[name]) for name in SWEEP_KEYS),
        ),
        *(line for section in SECTIONS[1:] for line in _keys_of(section)),
    ]
    return "\n".join(lines).rstrip() + "\n"


SENTENCE = re.compile(r".*?[.?](?<!et al\.)(?= |$)")


def first_sentence(file: Path) -> str:
    """Of the comment that a preset begins with, and the next one after a question; nothing if it begins
    with none."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), file.read_text("utf-8").splitlines())
    said = " ".join(line.removeprefix("#").strip() for line in lines if "@package" not in line)
    linked = re.sub(r" ?\(?docs/(\w+)\.md\)?", r" ([page](\1.md))", said)
    found = [sentence.strip() for sentence in SENTENCE.findall(linked)] or [linked]
    return " ".join(found[: 2 if found[0].endswith("?") else 1])


def presets_page() -> str:
    """``docs/presets.md``."""
    lines = [
        "# Presets",
        "",
        "This page is made of `sparse_rl/conf/`: `make reference` writes it, and a test fails where it "
        "differs.",
        "",
    ]
    for group, title in (
        ("study", "Studies"), ("agent", "Agents"), ("pruning", "Pruning"), ("curriculum", "Curricula"),
    ):  # fmt: skip
        files = sorted((CONF / group).glob("*.yaml"))
        rows = ((f"`{group}={file.stem}`", first_sentence(file)) for file in files)
        lines += [f"## {title}", "", *table(("typed as", "what it is"), rows)]
    lines += ["## Environments", ""]
    folders = sorted(path for path in (CONF / "env").iterdir() if path.is_dir())
    names = ((f"`env={folder.name}/…`", _names(folder)) for folder in folders)
    return "\n".join([*lines, *table(("typed as", "tasks with a preset"), names)]).rstrip() + "\n"


def _names(folder: Path) -> str:
    """Of the presets in a folder that name a task: the others are what these build on."""
    whole = [f for f in sorted(folder.glob("*.yaml")) if "task: ???" not in f.read_text("utf-8")]
    return ", ".join(f"`{file.stem}`" for file in whole)


FILES = {
    "metrics": ("Rows", "`metrics.parquet`: one row per log point. Equal runs have equal bytes."),
    "times": ("Times", "`times.parquet`: what differs when a run is repeated, one row per log point."),
    "run": ("Of a run", "`run.json`: one record per run. `load` puts it beside every row."),
    "loaded": ("Added when runs are loaded", "By `sparse_rl.analysis`, in no file."),
}
"""Table of ``columns.toml`` → its title, and what is said first."""


def columns_page() -> str:
    """``docs/columns.md``."""
    lines = [
        "# Every column",
        "",
        "This page is made of `docs/reference/columns.toml`: `make reference` writes it. A test fails "
        "where a run writes a column that is not here, and where a line has no column.",
        "",
        "Where the files lie is told in [results](results.md).",
        "",
    ]
    for name, columns in meanings("columns.toml").items():
        title, said = FILES[name]
        rows = (
            (f"`{column}`", unit, what, f"`{file}`") for column, (unit, what, file) in columns.items()
        )
        lines += [f"## {title}", "", said, "", *table(("column", "unit", "meaning", "comes from"), rows)]
    return "\n".join(lines).rstrip() + "\n"


def pages() -> dict[str, str]:
    """File in ``docs/`` → what it should hold."""
    return {"keys.md": keys_page(), "presets.md": presets_page(), "columns.md": columns_page()}


if __name__ == "__main__":
    for file, text in pages().items():
        (DOCS / file).write_text(text, encoding="utf-8")
