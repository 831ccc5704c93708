"""One name to type: every command under ``sparse-rl``, help, completion, and what is no command."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import sparse_rl
from sparse_rl import __main__ as front
from sparse_rl.records.console import program
from sparse_rl.settings.schema import ConfigError
from sparse_rl.sweeps import topics
from sparse_rl.sweeps.presets import GROUPS, presets

ROOT = Path(sparse_rl.__file__).resolve().parents[1]
LINES, COLUMNS = 40, 100
"""Of a screen."""


def called(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[int, str, str]:
    """Status, output and errors of a call of ``sparse-rl``."""
    monkeypatch.setattr(sys, "argv", ["/usr/bin/sparse-rl", *words])
    status = 0
    try:
        front.main()
    except SystemExit as end:
        status = int(end.code or 0)
    return (status, *capsys.readouterr())


def test_the_console_script_is_this_function() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"sparse-rl": "sparse_rl.__main__:main"}


@pytest.mark.parametrize("word", [word for word in topics.COMMANDS if word != "sweep"])
def test_every_command_is_there_by_its_word(
    word: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in ((word, "--help"), ("help", word)):
        status, said, _ = called(monkeypatch, capsys, *words)
        assert status == 0
        assert said.startswith(f"usage: sparse-rl {word} ")


def test_a_command_reads_what_follows_it_and_ends_with_its_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    status, _, wrong = called(monkeypatch, capsys, "status", str(tmp_path))
    assert (status, wrong.startswith(f"sparse_rl.status: no study in {tmp_path}")) == (2, True)
    status, _, wrong = called(monkeypatch, capsys, "video", str(tmp_path))
    assert (status, wrong.startswith(f"no video of {tmp_path}")) == (1, True)


def test_an_unknown_word_gets_one_line_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, said, wrong = called(monkeypatch, capsys, "swep", "width=8")
    assert (status, said, wrong.count("\n")) == (2, "", 1)
    assert wrong.startswith("sparse-rl: unknown command 'swep'. Did you mean sweep?")
    status, said, wrong = called(monkeypatch, capsys, "help", "agent/pppo")
    assert (status, said, wrong.count("\n")) == (2, "", 1)
    assert "unknown agent 'pppo'. Did you mean ppo" in wrong


def test_version_is_that_of_the_package(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = called(monkeypatch, capsys, "--version")[1]
    assert said == f"sparse_rl {sparse_rl.__version__}\n"


def test_help_fits_a_screen_for_every_topic(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = {word: topics.topic(word) for word in topics.TOPICS}
    for group in GROUPS:
        for name in presets(group):
            texts[f"{group}/{name}"] = topics.topic(f"{group}/{name}")
            folder = name.rpartition("/")[0]
            if folder:
                texts[f"{group}/{folder}"] = topics.topic(f"{group}={folder}")
    assert len(texts) > 200
    texts[""] = called(monkeypatch, capsys)[1]
    for word in topics.COMMANDS:
        texts[f"{word} --help"] = called(monkeypatch, capsys, word, "--help")[1]
    large = [
        name
        for name, text in texts.items()
        if not text.strip()
        or sum(max(1, -(-len(line) // COLUMNS)) for line in text.splitlines()) > LINES
    ]
    assert not large


def test_help_names_every_preset_key_and_command() -> None:
    """What help says is read from ``conf/``, so that it cannot be behind it."""
    for group in GROUPS:
        listed = topics.topic(group)
        for name in presets(group):
            folder, _, last = name.rpartition("/")
            assert re.search(rf"\b{folder}/:" if folder else rf"\b{last}\b", listed)
            assert name in topics.topic(f"{group}/{folder}") if folder else True
    keys = topics.topic("keys")
    for key in ("width", "env_steps", "products", "max_samples", "logging", "keep_state"):
        assert re.search(rf"^ *{key}:", keys, re.MULTILINE)
    assert all(word in topics.overview() for word in topics.COMMANDS)
    with pytest.raises(ConfigError, match=r"unknown topic 'kyes'\. Did you mean keys"):
        topics.topic("kyes")


def test_a_command_says_how_it_was_called(monkeypatch: pytest.MonkeyPatch) -> None:
    for path, said in (
        ("/x/bin/sparse-rl", "sparse-rl held-out"),
        ("/x/sparse_rl/__main__.py", "python -m sparse_rl held-out"),
        ("/x/sparse_rl/held_out.py", "python -m sparse_rl.held_out"),
        ("/x/other/__main__.py", "python -m sparse_rl.held_out"),
    ):
        monkeypatch.setattr(sys, "argv", [path])
        assert program("held_out") == said


def test_status_and_help_load_no_jax(tmp_path: Path) -> None:
    study = ROOT / "tests" / "studies" / "demo"
    for words in (["status", str(study), "--once"], ["help", "env"], ["--version"]):
        code = (
            "import sys; sys.argv = ['sparse-rl', *sys.argv[1:]]\n"
            "from sparse_rl.__main__ import main\n"
            "try: main()\n"
            "except SystemExit as end: assert not end.code, end.code\n"
            "sys.exit('jax' in sys.modules)"
        )
        command = [sys.executable, "-c", code, *words]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout


def completed(folder: Path, line: str) -> list[str]:
    """What bash offers at the end of a line, once completion is installed as help says."""
    folder.mkdir(exist_ok=True)
    script = folder / "sparse-rl"
    script.write_text(f"#!{sys.executable}\nfrom sparse_rl.__main__ import main\nmain()\n")
    script.chmod(0o755)
    word = len(line.split()) - (not line.endswith(" "))
    ask = (
        'eval "$(sparse-rl -sc install=bash)"; complete -p sparse-rl >&2\n'
        f"COMP_LINE='{line}' COMP_POINT={len(line)} COMP_CWORD={word}\n"
        'hydra_bash_completion; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    path = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        ["bash", "-c", ask], env=path, cwd=folder, capture_output=True, text=True, check=True
    )
    assert "-F hydra_bash_completion sparse-rl" in ended.stderr
    return ended.stdout.split()


def test_the_shell_completes_commands_and_what_a_sweep_takes(tmp_path: Path) -> None:
    assert completed(tmp_path / "bin", "sparse-rl s") == ["sweep", "status", "selftest"]
    assert completed(tmp_path / "bin", "sparse-rl sweep width=8 agent=ppo") == [
        f"agent={name}" for name in presets("agent") if name.startswith("ppo")
    ]


@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish")
def test_fish_is_offered_a_command_a_line(tmp_path: Path) -> None:
    script = tmp_path / "sparse-rl"
    script.write_text(f"#!{sys.executable}\nfrom sparse_rl.__main__ import main\nmain()\n")
    script.chmod(0o755)
    path = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    ask = 'sparse-rl -sc install=fish | source; complete -C "sparse-rl s"'
    ended = subprocess.run(
        ["fish", "-c", ask], env=path, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert ended.stdout.split("\n") == ["selftest", "status", "sweep", ""]


@pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh")
@pytest.mark.parametrize(
    ("line", "begin", "offered"),
    [
        ("sparse-rl s", "s", ["sweep", "status", "selftest"]),
        ("sparse-rl sweep width=8 agent=pp", "agent=pp", [f"agent={n}" for n in presets("agent")]),
    ],
)
def test_zsh_is_offered_what_bash_is(tmp_path: Path, line: str, begin: str, offered: list[str]) -> None:
    script = tmp_path / "sparse-rl"
    script.write_text(f"#!{sys.executable}\nfrom sparse_rl.__main__ import main\nmain()\n")
    script.chmod(0o755)
    path = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    ask = (
        "autoload -U compinit; compinit -u -D\n"
        'eval "$(sparse-rl -sc install=zsh)"; test $_comps[sparse-rl] = _sparse_rl || exit 3\n'
        'compadd() { printf "<%s>\\n" "$@" }\n'
        f'LBUFFER="{line}"; CURRENT={len(line.split())}; _sparse_rl'
    )
    ended = subprocess.run(
        ["zsh", "-fc", ask], env=path, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    options, _, found = ended.stdout.partition("<-->\n")
    assert options.split() == ["<-Q>", "<-S>", "<>"]
    fits = [word[1:-1] for word in found.splitlines() if word.startswith(f"<{begin}")]
    assert fits == [word for word in offered if word.startswith(begin)]


def test_the_version_is_in_one_place_and_told_of() -> None:
    """In pyproject.toml; what is installed, the list of changes and the citation follow it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert sparse_rl.__version__ == importlib.metadata.version("sparse_rl") == project["version"]
    told = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert told[0] == project["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation), "CFF 1.2.0 asks for these"
    assert "version" not in citation, "it would be a second place"
    assert citation["license"] == project["license"]
    assert [author["name"] for author in citation["authors"]] == [
        author["name"] for author in project["authors"]
    ]
