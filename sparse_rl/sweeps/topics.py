"""Help, a screen for each topic, from the files of ``conf/`` themselves. Nothing here is heavy."""

import re
import textwrap
from collections import defaultdict

from sparse_rl.settings.schema import unknown
from sparse_rl.sweeps.presets import CONF, GROUPS, presets

COMMANDS = {
    "sweep": "train a grid of widths and sparsities",
    "status": "what of a study is done, under way and in trouble",
    "report": "one HTML page and figures of studies",
    "laws": "which scaling law runs follow, and what it says of larger ones",
    "claim": "whether dense networks stop where sparse ones go on",
    "plan-seeds": "how many seeds would tell a difference",
    "coordinates": "how large what each layer makes is, over widths and sparsities",
    "probe": "what trained agents can still learn",
    "held-out": "trained agents in levels that nobody trained on",
    "crossplay": "trained teams play with members of others",
    "video": "an episode of a trained agent, as a GIF",
    "selftest": "ten minutes on a new device: right numbers, and how fast is what",
}
"""Word → what the command does."""
COLUMNS = 100
TOPICS = ("sweep", "keys", "completion", *GROUPS)

SWEEP = """\
sparse-rl sweep [key=value …]: train a grid of widths and sparsities.

  sparse-rl sweep                                            the demo study
  sparse-rl sweep width=4096 sparsity=0.9                    one point of the grid
  sparse-rl sweep width=64,256 sparsity=0,0.9 'seed=range(5)'
  sparse-rl sweep study=single env=playground/cheetah_run width=128 env_steps=2e5
  sparse-rl sweep plan=true                                  print the plan and stop

A comma list or range(…) sweeps any key. Repeating a command trains nothing twice, and goes on where it
was interrupted. Exit status is 0 only if every run ended done.

  sparse-rl help keys            what can be set
  sparse-rl help agent           presets of agents; so env, pruning, curriculum, study
  sparse-rl help agent/ppo       the keys of one preset, with what they mean
  sparse-rl help completion      keys and presets completed by the shell
  python -m sparse_rl.sweep --help      all keys and presets at once
  sparse-rl sweep --cfg job …    the configuration that a command comes to
Afterwards: sparse-rl status results/<name>, sparse-rl report results/<name>
"""
COMPLETION = """\
Commands, presets and keys are completed in bash, fish and zsh. For this shell:

  eval "$(sparse-rl -sc install=bash)"       bash; put the line into ~/.bashrc to keep it
  sparse-rl -sc install=fish | source        fish
  eval "$(sparse-rl -sc install=zsh)"        zsh, after compinit; put the line into ~/.zshrc to keep it

It needs the command sparse-rl: after python -m nothing is completed.
"""
ZSH = """\
_sparse_rl() {
  local -a found
  found=($(COMP_LINE=$LBUFFER COMP_POINT=${#LBUFFER} COMP_CWORD=$((CURRENT - 1)) \\
    sparse-rl -sc query=bash 2>/dev/null))
  compadd -Q -S '' -- $found
}
compdef _sparse_rl sparse-rl"""
"""Completion in zsh, which Hydra does not serve: the same question as bash asks; zsh keeps what fits."""


def overview() -> str:
    """What there is."""
    lines = [f"  {word:12}{what}" for word, what in COMMANDS.items()]
    return "\n".join(
        [
            "sparse-rl COMMAND …: scaling laws of deep reinforcement learning under sparsity.",
            "",
            *lines,
            "",
            f"sparse-rl help TOPIC, of {', '.join((*TOPICS, 'agent/ppo …'))}",
            "sparse-rl COMMAND --help, sparse-rl --version",
            "python -m sparse_rl.COMMAND does the same.",
            "",
        ]
    )


def _keys() -> str:
    """Keys of a sweep, their defaults and what they mean, as ``conf/sweep.yaml`` has them."""
    lines = (CONF / "sweep.yaml").read_text().split("\nhydra:\n")[0].split("\n\n", 1)[1]
    groups = f"\nagent, env, pruning, curriculum, study: presets (sparse-rl help {GROUPS[0]} …)\n"
    return lines.replace("???", "   ").rstrip() + "\n" + groups


def _list(group: str, begin: str) -> str:
    """Presets of a group: the folders that they lie in, or all of one folder."""
    known = [name for name in presets(group) if name.startswith(begin)]
    folders = defaultdict(list)
    for name in known:
        folder, _, last = name.rpartition("/")
        folders[folder].append(last)
    lines = [f"{group}=… one of", ""]
    for folder, names in sorted(folders.items()):
        if folder and not begin:
            listed = ", ".join(names[:4]) + (f" … ({len(names)})" if len(names) > 4 else "")
            lines.append(f"  {folder}/: {listed}")
        else:
            prefix = f"{folder}/" if folder else ""
            joined = ", ".join(prefix + name for name in names)
            lines += textwrap.wrap(joined, COLUMNS, initial_indent="  ", subsequent_indent="  ")
    example = known[0].rpartition("/")[0] or known[0]
    return "\n".join([*lines, "", f"sparse-rl help {group}/{example} says more", ""])


def topic(name: str) -> str:
    """A screen on one topic.

    Raises:
        ConfigError: there is none of this name.
    """
    group, _, rest = re.sub("[=]", "/", name, count=1).partition("/")
    if group in GROUPS:
        if rest in presets(group):
            return (CONF / group / f"{rest}.yaml").read_text()
        if not rest or any(known.startswith(f"{rest}/") for known in presets(group)):
            return _list(group, f"{rest}/" if rest else "")
        raise unknown(group, rest, presets(group))
    texts = {"sweep": SWEEP, "keys": _keys(), "completion": COMPLETION}
    if name not in texts:
        raise unknown("topic", name, [*TOPICS, *COMMANDS])
    return texts[name]
