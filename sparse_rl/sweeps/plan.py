"""What a sweep is about to do, in a table, before it does it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from sparse_rl.kernels import native
from sparse_rl.networks import CONVOLVING
from sparse_rl.pruning import FOR_KERNELS, StorageChoice
from sparse_rl.runs import (
    Layout,
    PreparedPack,
    Run,
    connections_of,
    default_layout,
    dense_networks,
    workers,
)
from sparse_rl.settings.checks import raised
from sparse_rl.settings.common import RememberingConfig
from sparse_rl.settings.run import RunConfig


def amount(value: float, unit: str = "") -> str:
    """A number with a decimal prefix: 4388353 → ``4.39M``."""
    for prefix, size in (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g}{prefix}{unit}"
    return f"{value:g}{unit}"


def _depth(config: RunConfig) -> str:
    """Blocks of the actor and the critic, as far as there are; "" of networks that have none."""
    if config.agent.network != "simba":
        return ""
    blocks = (getattr(config.agent, f"{part}_blocks", None) for part in ("actor", "critic"))
    return "/".join(str(number) for number in blocks if number is not None)


def _rows(pack: list[Run], deep: bool) -> list[tuple[str, ...]]:
    """Of each sparsity; with blocks where runs differ in them."""
    points: dict[tuple[float, float], list[Run]] = {}
    for run in pack:
        points.setdefault((run.config.actor_sparsity, run.config.critic_sparsity), []).append(run)
    rows: list[tuple[str, ...]] = []
    for runs in points.values():
        config, cost = runs[0].config, runs[0].costs
        split = config.actor_sparsity != config.critic_sparsity
        sparsity = f"{config.actor_sparsity:g}/{config.critic_sparsity:g}" if split else None
        rows.append(
            (
                str(config.width),
                *([_depth(config)] if deep else []),
                sparsity or f"{config.sparsity:g}",
                config.storage.storage,
                str(len(runs)),
                amount(cost.parameters_total),
                amount(cost.parameters_nonzero),
                amount(cost.flops_per_update_dense),
                amount(cost.flops_per_update),
                amount(cost.bytes_per_update, "B"),
                amount(cost.state_bytes, "B"),
                amount(cost.replay_bytes, "B"),
                amount(cost.updates),
            )
        )
    return rows


HEADINGS = (
    "width", "sparsity (actor/critic)", "storage", "runs", "parameters", "surviving",
    "FLOPs/update dense", "FLOPs/update", "bytes/update", "state", "replay", "updates/run",
)  # fmt: skip


def _places(pack: PreparedPack, layout: Layout, devices: int) -> str:
    """How a pack's runs share its program, and over how many devices."""
    side_by_side = workers(pack.runs, layout, devices)
    if devices == 1:
        return f"layout {layout}, {side_by_side} run(s) side by side"
    if layout == "map":
        used = min(len(pack.runs), devices)
        where = f"{used} of {devices} devices of a process"
        return f"layout {layout}, {side_by_side} run(s) side by side on {where}"
    used = -(-len(pack.runs) // -(-len(pack.runs) // devices))
    return f"layout {layout}, a batch on each of {used} of {devices} devices of a process"


def _setting(pack: PreparedPack, devices: int) -> str:
    """What the runs of a pack have in common, whatever their width."""
    first, layout = pack.runs[0].config, default_layout(pack.loop)
    pruning, agent = first.pruning, first.agent
    network: str = agent.network
    if isinstance(agent, RememberingConfig) and agent.memory != "none":
        network += f", {agent.memory}"
    return (
        f"{agent.name} ({network}) on {first.env.name}, "
        f"{first.env_steps:,} env steps a run, {pack.loop.describe()}"
        f"\n{pruning.pattern} masks ({pruning.method}), {pruning.distribution} layers; "
        f"products in {first.products}; "
        f"{_places(pack, layout, devices)}"
    )


LEAST = 0.01
"""Inputs that are unread, or share of the units that are cut off, from which on it is said."""
MOST_LINES = 12
"""Of what masks leave without use, and of widths that were raised."""


def _unconnected(pack: PreparedPack, deep: bool) -> Iterator[str]:
    """What the masks of a pack leave without use, a line per width, sparsity and network; with blocks
    where runs differ in them."""
    networks = dense_networks(pack.loop)
    points = {tuple(run.config.sparsities.values()): run for run in pack.runs}
    for run in points.values():
        for name, found in connections_of(pack.loop, run, networks).items():
            unread, cut_off = found.unread >= LEAST, found.cut_off >= LEAST * found.units
            if not (unread or cut_off):
                continue
            words = [
                f"{found.unread:.3g} of {found.inputs:,} inputs are read by no weight" if unread else "",
                f"{found.cut_off:.3g} of {found.units:,} units are cut off" if cut_off else "",
            ]
            sparsity = run.config.sparsities[name]
            depth = f", blocks {_depth(run.config)}" if deep else ""
            where = f"width {run.config.width}{depth}, {name} at sparsity {sparsity:g}"
            begin = "" if run.config.pruning.method == "static" else ", when training begins"
            yield f"warning: {where}: {', '.join(filter(None, words))} (mean over masks{begin})"


def _raised(pack: PreparedPack) -> Iterator[str]:
    """Widths that follow from the critic's and would be too small for a LayerNorm."""
    config = pack.runs[0].config
    for name, (wanted, given) in raised(config.agent, config.width).items():
        yield (
            f"warning: width {config.width}: the {name} has {given} units, not {wanted}: a LayerNorm "
            "makes a constant of one number and a sign of two"
        )


def _work(runs: Iterable[Run]) -> float:
    """FLOPs of the products that all updates make: dense ones, unless these are of what is stored."""
    return sum(
        run.costs.updates
        * (
            run.costs.flops_per_update
            if run.config.multiplies_stored
            else run.costs.flops_per_update_dense
        )
        for run in runs
    )


def _print_group(out: Console, group: Sequence[PreparedPack]) -> None:
    """The table of packs that have all but their widths in common, and what is to be said of them."""
    deep = len({_depth(pack.runs[0].config) for pack in group}) > 1
    headings = (HEADINGS[0], "blocks (actor/critic)", *HEADINGS[1:]) if deep else HEADINGS
    table = Table(*headings, box=None, pad_edge=False, header_style="bold")
    storages: set[StorageChoice] = set()
    convolving = False
    warnings: list[str] = []
    for pack in group:
        warnings += [*_raised(pack), *_unconnected(pack, deep)]
        convolving |= pack.runs[0].config.agent.network in CONVOLVING
        storages.update(run.config.storage for run in pack.runs)
        for row in _rows(pack.runs, deep):
            table.add_row(*row)
    out.print(table)
    for storage, reason in sorted(storages):
        out.print(f"storage {storage}: {reason}")
        if storage == "block":
            few = "" if native.by_pallas() else f" of up to {FOR_KERNELS:,} weights"
            out.print(f"blocks{few}: multiplied by {native.multiplier_of_blocks()}")
    told = list(dict.fromkeys(warnings))  # runs that learn more often have the same networks
    for line in told[:MOST_LINES]:
        out.print(line, soft_wrap=True)
    if len(told) > MOST_LINES:
        out.print(f"and {len(told) - MOST_LINES} more of these")
    if convolving:
        out.print(f"convolutions: by {native.multiplier()}")


def print_plan(
    out: Console,
    packs: Sequence[PreparedPack],
    finished: Mapping[str, str],
    study_dir: Path,
    tflops: float,
    devices: int = 1,
) -> None:
    """Print the costs of what is to be trained.

    Args:
        out: where to.
        packs: what is to be trained.
        finished: run_id → status of the other runs.
        study_dir: folder of the study.
        tflops: TFLOP/s that a device is taken to sustain.
        devices: of one process that a pack's runs are shared out over.
    """
    waiting = sum(len(pack.runs) for pack in packs)
    if finished:
        total = waiting + len(finished)
        out.print(f"{len(finished):,} of {total:,} runs are finished and will be skipped")
    if not waiting:
        return
    out.print(f"{waiting:,} runs in {len(packs)} packs (one compiled program each) → {study_dir}")
    groups: dict[str, list[PreparedPack]] = {}
    for pack in packs:
        groups.setdefault(_setting(pack, devices), []).append(pack)
    for setting, group in groups.items():
        out.print(f"\n{setting}")
        _print_group(out, group)
    work = _work(run for pack in packs for run in pack.runs)
    hours = work / tflops / 3.6e15
    said = f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"
    out.print(
        f"\n{amount(work, 'FLOP')} in the products of all updates: "
        f"{said} device hours at {tflops:g} TFLOP/s (plan_tflops)"
    )
    out.print("time left is estimated from the first chunk on")
