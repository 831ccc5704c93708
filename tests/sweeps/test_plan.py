"""The plan's numbers by hand: no two of a line are equal."""

import io
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeConfig
from rich.console import Console

from sparse_rl.records.console import duration
from sparse_rl.runs import prepare_pack
from sparse_rl.sweeps.grid import unique
from sparse_rl.sweeps.plan import _places, _rows, _work, amount, print_plan


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (4388353, "4.39M"), (999, "999"), (1000, "1k"), (1234, "1.23k"), (2.5e9, "2.5G"), (7e12, "7T"),
        (6.02e15, "6.02P"), (3e18, "3E"), (0, "0"),
    ],
)  # fmt: skip
def test_amounts_have_three_digits_and_a_decimal_prefix(value: float, words: str) -> None:
    assert amount(value) == words
    assert amount(value, "B") == f"{words}B"


def test_a_line_of_the_plan_is_what_its_runs_cost(make_config: MakeConfig) -> None:
    """Two seeds of one point; the actor is less sparse than the critic.

    Pendulum, MLPs: actor 24 + 64 + 16 weights and 18 biases, critic 64 + 256 + 16 and 33. A pass: 2 · 32
    FLOPs a weight; four of the actor, six of the critic; 200 interactions less 20, one update each.
    """
    agent = {"network": "mlp", "actor_width_ratio": 0.5}
    pruning = {"actor_sparsity": 0.5, "distribution": "uniform"}
    runs = [make_config(seed=s, sparsity=0.75, agent=agent, pruning=pruning) for s in (0, 1)]
    pack = prepare_pack(runs)
    (line,) = _rows(pack.runs, deep=False)
    dense = 2 * 32 * (4 * (24 + 64 + 16) + 6 * (64 + 256 + 16))
    sparse = 2 * 32 * (4 * (24 + 64 + 16) // 2 + 6 * (64 + 256 + 16) // 4)
    traffic = 4 * (122 * (4 + 8) + 369 * (6 + 11))
    assert line[:9] == (
        "16", "0.5/0.75", "masked", "2", "491", str(18 + 52 + 33 + 84), amount(dense), amount(sparse),
        amount(traffic, "B"),
    )  # fmt: skip
    cost = pack.runs[0].costs
    assert line[9:] == (amount(cost.state_bytes, "B"), amount(cost.replay_bytes, "B"), "180")
    # masked products multiply every weight: a sparse run takes as long as a dense one
    assert _work(pack.runs) == 2 * 180 * dense
    assert unique([*runs, runs[0]]) == runs


def test_hours_are_work_over_the_rate_that_is_assumed(make_config: MakeConfig, tmp_path: Path) -> None:
    pack = prepare_pack([make_config()])
    work = _work(pack.runs)
    for tflops in (work / 3.6e15 / 2, work / 3.6e15 / 30):
        written = io.StringIO()
        print_plan(Console(file=written, width=300), [pack], {}, tmp_path, tflops)
        (hours,) = re.findall(r"([\d.]+) device hours", written.getvalue())
        assert float(hours) == pytest.approx(work / tflops / 3.6e15)
        assert f"{amount(work, 'FLOP')} in the products" in written.getvalue()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(5, "0m05s"), (130, "2m10s"), (3900, "1h05m"), (3599.6, "1h00m"), (float("inf"), "–")],
)
def test_durations_for_people(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(("memory", "told"), [("none", "ppo (mlp) on"), ("gru", "ppo (mlp, gru) on")])
def test_a_memory_is_part_of_what_a_network_is_called(
    memory: str, told: str, make_config: MakeConfig, tmp_path: Path
) -> None:
    written = io.StringIO()
    pack = prepare_pack([make_config(agent={"name": "ppo", "memory": memory, "num_envs": 4})])
    print_plan(Console(file=written, width=300), [pack], {}, tmp_path, 10.0)
    assert told in written.getvalue()


def test_depth_ratio_and_epochs_are_axes_like_width(make_config: MakeConfig, tmp_path: Path) -> None:
    """Runs of other blocks are told apart in the plan, and those of equal epochs are in one table,
    however they were mixed.

    SimBa's trunk of width 16 has 8B·16² + 16(d + 7B + 3): with 3 inputs 2,048 and 112 more a block."""
    ppo = {"name": "ppo", "network": "simba", "actor_blocks": 2}
    configs = [
        make_config(agent=ppo | {"critic_blocks": blocks, "epochs": epochs})
        for blocks in (1, 3)
        for epochs in (3, 5)
    ]
    written = io.StringIO()
    packs = [prepare_pack([config]) for config in configs]
    print_plan(Console(file=written, width=300), packs, {}, tmp_path, 10.0)
    lines = written.getvalue().splitlines()
    rows = [line.split() for line in lines if re.match(r"16 ", line)]
    actor = 2 * (2048 + 112) + 16 * (3 + 3) + 16 + 2
    critics = [blocks * (2048 + 112) + 16 * (3 + 3) + 17 for blocks in (1, 3)]
    sizes = [amount(actor + critic) for critic in critics]
    # 200 env steps in rollouts of 5 × 10, two minibatches an epoch
    told = [(row[1], row[5], row[-1]) for row in rows]
    once, more = (
        [(f"2/{b}", size, n) for b, size in zip((1, 3), sizes, strict=True)] for n in ("24", "40")
    )
    assert told == [*once, *more]
    assert len([line for line in lines if "updates on 25 samples" in line]) == 2


@pytest.mark.parametrize(("ratio", "updates"), [(0.25, 45), (1.5, 270), (8.0, 1440)])
def test_a_replay_ratio_is_what_a_run_does(make_config: MakeConfig, ratio: float, updates: int) -> None:
    """Of 200 interactions 20 are random; by two blocks in the actor and three in the critic."""
    agent = {"updates_per_interaction": ratio, "actor_blocks": 2, "critic_blocks": 3}
    _, (run,) = prepare_pack([make_config(agent=agent)])
    assert run.costs.updates == updates
    assert run.costs.parameters["critic"].total == 3 * (2048 + 112) + 16 * (4 + 3) + 17
    width = 4  # of the actor
    actor = 2 * (8 * width**2 + 7 * width) + width * (3 + 3) + 2 * (width + 1)
    assert run.costs.parameters["actor"].total == actor
    kernels = 3 * 2048 + 4 * 16 + 16, 2 * 8 * width**2 + 3 * width + 2 * width
    assert run.costs.flops_per_update == 2 * 32 * (6 * kernels[0] + 4 * kernels[1])


@pytest.mark.parametrize(
    ("layout", "devices", "said"),
    [
        ("vmap", 1, "layout vmap, 1 run(s) side by side"),
        ("vmap", 2, "layout vmap, a batch on each of 2 of 2 devices of a process"),
        ("vmap", 4, "layout vmap, a batch on each of 3 of 4 devices of a process"),  # 2 + 2 + 1 runs
        ("vmap", 9, "layout vmap, a batch on each of 5 of 9 devices of a process"),
    ],
)
def test_the_plan_says_how_many_devices_a_pack_uses(
    make_config: MakeConfig, layout: Any, devices: int, said: str
) -> None:
    pack = prepare_pack([make_config(seed=seed) for seed in range(5)])
    assert _places(pack, layout, devices) == said
