"""Packs: one program, the same numbers alone and together, faults that stay where they are."""

import dataclasses
import os
import re
import signal
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
from compilations import PROGRAMS, count_compilations
from conftest import MakeConfig, off_policy
from threadpoolctl import threadpool_info

from sparse_rl.agents.contract import RunInputs
from sparse_rl.loops.off_policy import OffPolicyLoop
from sparse_rl.loops.replaying import interaction_keys
from sparse_rl.pruning import support_masks
from sparse_rl.pruning.tree import path_name
from sparse_rl.records import results
from sparse_rl.runs import pack as experiment
from sparse_rl.runs.lockstep import Lockstep, Progress
from sparse_rl.runs.pack import prepare_pack, train_pack
from sparse_rl.settings.run import RunConfig
from sparse_rl.sweeps.grid import packs

pytestmark = pytest.mark.usefixtures("programs_once")

TIMES = ["wall_time"]


def rows(study: Path, config: RunConfig) -> pd.DataFrame:
    return results.read_metrics(study / config.run_id).drop(columns=TIMES)


def compiled_chunk(loop: OffPolicyLoop, inputs: RunInputs) -> Any:
    """A chunk, as a run compiles it."""
    first = jax.ShapeDtypeStruct((), np.int32)
    lowered = jax.jit(loop.chunk, donate_argnums=1).lower(first, jax.eval_shape(loop.init, inputs))
    return lowered.compile(compiler_options=experiment.compiler_options(loop))


every_agent = pytest.mark.parametrize("name", ["sac", "drq", "ppo", "paac", "dqn"])


def test_a_pack_has_the_memory_that_the_process_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment, "allowed_bytes", lambda: 7777)
    assert experiment.available_bytes() == 7777  # a CPU has none of its own


@pytest.mark.own_programs
@every_agent
def test_a_pack_compiles_three_programs_whatever_its_size(
    make_config: MakeConfig, tmp_path: Path, name: str
) -> None:
    def config(seed: int, sparsity: float, learning_rate: float) -> RunConfig:
        agent = {"name": name, "learning_rate": learning_rate}
        return make_config(seed=seed, mask_seed=10 + seed, sparsity=sparsity, agent=agent)

    pack = [
        config(seed, s, lr)
        for seed, s, lr in ((0, 0.5, 1e-3), (1, 0.9, 1e-3), (2, 0.8, 3e-4), (3, 0.25, 1e-4))
    ]
    with count_compilations() as compiled:
        statuses = train_pack(prepare_pack(pack), tmp_path)
    assert set(statuses.values()) == {"done"}
    programs = [name for name in compiled if name in PROGRAMS]
    assert sorted(programs) == sorted(PROGRAMS)
    # the same pack again: the few one-line programs of building an environment, and nothing per run
    with count_compilations() as again:
        train_pack(prepare_pack([*pack, dataclasses.replace(pack[0], seed=9)]), tmp_path / "again")
    assert len(again) <= len(compiled)


def test_grid_becomes_packs_by_program(make_config: MakeConfig) -> None:
    grid = [
        make_config(width=width, sparsity=sparsity, seed=seed)
        for width in (16, 32)
        for sparsity in (0.0, 0.5, 0.9)
        for seed in (0, 1)
    ]
    grouped = packs(grid)
    # two widths, dense apart from sparse: a dense network has no masks in its program
    assert [len(pack) for pack in grouped] == [2, 4, 2, 4]
    split = [make_config(sparsity=0.5, pruning={"actor_sparsity": s}) for s in (0.0, 0.3)]
    assert len(packs(split)) == 2
    assert (
        len(
            packs(
                [
                    make_config(sparsity=0.5),
                    make_config(sparsity=0.5, pruning={"pattern": "constant_fan_in"}),
                ]
            )
        )
        == 2
    )


@pytest.mark.parametrize(
    "agent",
    [{"name": name} for name in ("sac", "drq", "ppo", "paac", "dqn")]
    + [{"name": "dqn", "memory": "gru"}],
)
def test_a_runs_numbers_are_the_same_alone_and_in_a_pack(
    make_config: MakeConfig, tmp_path: Path, agent: dict[str, Any]
) -> None:
    pack = [make_config(seed=seed, sparsity=s, agent=agent) for seed in (0, 1) for s in (0.5, 0.9)]
    train_pack(prepare_pack(pack), tmp_path / "together")
    train_pack(prepare_pack([pack[2]]), tmp_path / "alone")
    together, alone = rows(tmp_path / "together", pack[2]), rows(tmp_path / "alone", pack[2])
    pd.testing.assert_frame_equal(together, alone, check_exact=True)
    others = [rows(tmp_path / "together", config) for config in (pack[0], pack[3])]
    assert all(not other["param_norm/critic"].equals(alone["param_norm/critic"]) for other in others)


@every_agent
def test_batched_as_on_an_accelerator_gives_the_same_numbers(
    make_config: MakeConfig, tmp_path: Path, name: str
) -> None:
    """vmap's products round differently, and training amplifies that: compare the first rows."""
    pack = [make_config(seed=seed, sparsity=s, agent={"name": name}) for seed, s in ((0, 0.5), (1, 0.9))]
    train_pack(prepare_pack(pack), tmp_path / "map", layout="map")
    statuses = train_pack(prepare_pack(pack), tmp_path / "vmap", layout="vmap")
    assert set(statuses.values()) == {"done"}
    for config in pack:
        one, two = (rows(tmp_path / layout, config).head(1) for layout in ("map", "vmap"))
        pd.testing.assert_frame_equal(one, two, rtol=2e-2, atol=2e-2)


def test_rows_carry_the_promised_columns(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(sparsity=0.5)
    train_pack(prepare_pack([config]), tmp_path)
    frame = results.read_metrics(tmp_path / config.run_id)
    assert list(frame["env_steps"]) == [100, 200]
    assert list(frame["updates"]) == [80, 180]  # 20 random interactions first
    for network, layers in (("actor", 1), ("critic", 2)):
        for metric in ("dormant_ratio", "disconnected_ratio", "unread_inputs"):
            assert frame[f"{metric}/{network}"].between(0, 1).all()
        for metric in ("grad_norm", "param_norm", "feature_norm", "srank", "loss"):
            assert np.isfinite(frame[f"{metric}/{network}"]).all()
        assert (frame[[f"grad_norm/{network}", f"srank/{network}"]] > 0).all(axis=None)
        assert sum(str(c).startswith(f"dormant_ratio/{network}/") for c in frame) == layers
    assert (frame["episode_length_mean"] == 200).all()
    assert (frame["return_mean"] < 0).all()


@pytest.mark.parametrize("name", ["ppo", "paac", "dqn"])
def test_rows_of_on_policy_agents_carry_the_promised_columns(
    make_config: MakeConfig, tmp_path: Path, name: str
) -> None:
    config = make_config(sparsity=0.5, agent={"name": name})
    train_pack(prepare_pack([config]), tmp_path)
    frame = results.read_metrics(tmp_path / config.run_id)
    record = results.read_run(tmp_path / config.run_id)
    assert record is not None
    assert (record["agent"], record["num_envs"]) == (name, config.agent.num_envs)
    assert record["learning_rate"] == pytest.approx({"ppo": 1e-3, "paac": 0.007, "dqn": 3e-3}[name])
    updates = {"ppo": 2 * 6}.get(name, 2)
    assert list(frame["updates"]) == [updates, 2 * updates]
    assert prepare_pack([config]).runs[0].costs.updates == 2 * updates
    for network in ("critic",) if name == "dqn" else ("actor", "critic"):
        for metric in ("dormant_ratio", "disconnected_ratio", "unread_inputs"):
            assert frame[f"{metric}/{network}"].between(0, 1).all()
        for metric in ("grad_norm", "param_norm", "feature_norm", "srank", "loss"):
            assert np.isfinite(frame[f"{metric}/{network}"]).all()
    columns = ["value_mean", "explained_variance", "exploration" if name == "dqn" else "entropy"]
    columns += ["approx_kl", "clip_fraction"] if name == "ppo" else []
    assert np.isfinite(frame[columns]).all(axis=None)
    assert (frame["explained_variance"] <= 1).all()


def test_the_record_tells_what_the_run_was(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(sparsity=0.75, mask_seed=9)
    train_pack(prepare_pack([config]), tmp_path)
    record = results.read_run(tmp_path / config.run_id)
    assert record is not None
    expected = {"status": "done", "reason": None, "width": 16, "sparsity": 0.75, "mask_seed": 9}
    assert record | expected == record
    assert record["parameters_nonzero"] < record["parameters_total"]
    assert record["timings"]["updates_per_second"] > 0
    assert {"jax", "python"} <= set(record["versions"])
    assert results.read_config(tmp_path / config.run_id) == dataclasses.asdict(config)


def test_one_host_transfer_per_log_point(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transfers = []
    original = jax.device_get

    def counted(tree: Any) -> Any:
        transfers.append(tree)
        return original(tree)

    monkeypatch.setattr(jax, "device_get", counted)
    config = make_config(env_steps=500, agent={"network": "mlp"})
    assert set(train_pack(prepare_pack([config]), tmp_path).values()) == {"done"}
    assert len(transfers) == 5 + 1  # and the trained parameters at the end


def test_openblas_keeps_to_the_thread_that_calls_it(make_config: MakeConfig, tmp_path: Path) -> None:
    threads: list[int] = []

    def watch(progress: Progress) -> None:
        threads.extend(lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas")

    train_pack(prepare_pack([make_config()]), tmp_path, watch=watch)
    assert set(threads) == {1}


def test_no_two_draws_of_an_interaction_share_a_key(make_config: MakeConfig) -> None:
    """Keys and the children that their users make of them, for two interactions in a row."""
    loop, inputs = off_policy(make_config())
    state = jax.jit(loop.init)(inputs)
    found = []
    for interaction in (0, 1):
        keys = interaction_keys(state.key, interaction)
        found += [keys.act, keys.env, keys.learn]
        for child in (
            *jax.random.split(keys.env),
            *(jax.random.fold_in(keys.learn, i) for i in range(4)),
        ):
            found += [child, *jax.random.split(child)]
    assert len({tuple(np.asarray(jax.random.key_data(key)).tolist()) for key in found}) == len(found)


def test_a_sparse_run_does_not_silently_train_dense(make_config: MakeConfig) -> None:
    """Through the compiled chunk of a run: exactly the counted weights are there at its end."""
    config = make_config(sparsity=0.9)
    loop, (run,) = prepare_pack([config])
    programs = experiment.compile_programs(loop, [run.inputs], "map")
    state, _ = programs.chunk(np.int32(0), programs.init(run.inputs))
    networks = loop.agent.parameters(state.agent)
    for name, counts in run.inputs.budgets.items():
        for path, leaf in jax.tree_util.tree_leaves_with_path(networks[name]):
            key = path_name(path)
            if key in counts:
                assert int((np.asarray(leaf) != 0).sum()) == counts[key]


@pytest.mark.usefixtures("without_health")
def test_updates_per_interaction_may_be_a_fraction(make_config: MakeConfig, tmp_path: Path) -> None:
    agent = {"updates_per_interaction": 0.3, "network": "mlp"}
    config = make_config(agent=agent, env_steps=100)
    train_pack(prepare_pack([config]), tmp_path)
    assert rows(tmp_path, config)["updates"].iloc[-1] == 27  # ⌊0.3 · 90⌋
    assert prepare_pack([config]).runs[0].costs.updates == 27


def test_a_diverging_run_is_recorded_and_stops_nothing_else(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    good = make_config(sparsity=0.5, seed=0)
    bad = make_config(sparsity=0.5, seed=1, agent={"learning_rate": 1e30})
    assert len(packs([good, bad])) == 1
    statuses = train_pack(prepare_pack([bad, good]), tmp_path)
    assert statuses == {bad.run_id: "diverged", good.run_id: "done"}
    record = results.read_run(tmp_path / bad.run_id)
    assert record is not None
    assert "is nan at env_steps=" in record["reason"] or "is inf at env_steps=" in record["reason"]
    train_pack(prepare_pack([good]), tmp_path / "alone")
    pd.testing.assert_frame_equal(rows(tmp_path, good), rows(tmp_path / "alone", good))


@pytest.mark.parametrize(
    ("error", "status"),
    [(RuntimeError("broken"), "failed"), (OSError("no space left on device"), "preempted")],
)
def test_a_failing_run_is_recorded_and_stops_nothing_else(
    make_config: MakeConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    status: str,
) -> None:
    """What the disk is to blame for is taken up by the next sweep."""
    pack = [make_config(seed=seed) for seed in (0, 1)]
    original = Lockstep.train

    def fail_on_the_first(self: Lockstep) -> Any:
        if self.runs[0].config.seed == 0:
            raise error
        return original(self)

    monkeypatch.setattr(Lockstep, "train", fail_on_the_first)
    statuses = train_pack(prepare_pack(pack), tmp_path)
    assert list(statuses.values()) == [status, "done"]
    record = results.read_run(tmp_path / pack[0].run_id)
    assert record is not None
    assert (record["status"], record["reason"]) == (status, f"{type(error).__name__}: {error}")


def test_a_pack_that_cannot_be_compiled_is_recorded(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_memory(*arguments: Any) -> Any:
        raise MemoryError("4 TB")

    monkeypatch.setattr(experiment, "compile_programs", out_of_memory)
    config = make_config()
    assert train_pack(prepare_pack([config]), tmp_path) == {config.run_id: "failed"}
    record = results.read_run(tmp_path / config.run_id)
    assert record is not None
    assert (record["status"], record["reason"]) == ("failed", "MemoryError: 4 TB")


@pytest.mark.usefixtures("without_health")
def test_an_interrupted_run_is_preempted_with_its_rows(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(env_steps=40_000, agent={"network": "mlp"})

    def watch(progress: Progress) -> None:
        if progress.env_steps == 100:
            os.kill(os.getpid(), signal.SIGINT)  # what Ctrl-C sends

    # A suite that was started in the background ignores the signal.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            train_pack(prepare_pack([config]), tmp_path, watch=watch)
    finally:
        signal.signal(signal.SIGINT, handler)
    record = results.read_run(tmp_path / config.run_id)
    assert record is not None
    assert record["status"] == "preempted"
    assert 1 <= len(results.read_metrics(tmp_path / config.run_id)) < 400


@pytest.mark.parametrize("sparsity", [0.0, 0.37, 0.9])
def test_costs_are_the_real_counts(make_config: MakeConfig, sparsity: float) -> None:
    config = make_config(sparsity=sparsity, width=24)
    loop, (run,) = prepare_pack([config])
    cost, state = run.costs, jax.jit(loop.init)(run.inputs)
    networks, masks = loop.agent.parameters(state.agent), support_masks(state.agent.supports)
    for name in networks:
        total = sum(leaf.size for leaf in jax.tree.leaves(networks[name]))
        pruned = sum(int((~m).sum()) for m in jax.tree.leaves(masks[name]))
        assert cost.parameters[name] == (total, total - pruned)
        values = np.concatenate([np.ravel(x) for x in jax.tree.leaves(networks[name])])
        scales_and_kernels = (values != 0).sum()
        assert scales_and_kernels <= total - pruned
    stored = sum(x.nbytes for x in jax.tree.leaves(state.agent))
    assert cost.state_bytes == stored


def test_flops_by_hand(make_config: MakeConfig) -> None:
    """MLP of width 4 on 3 + 1 inputs: critic 16 + 16 + 4 = 36 weights, actor 12 + 16 + 8 = 36.

    2 FLOPs × batch 32 × (36 · 6 passes of the critic + 36 · 4 of the actor) = 23040.
    """
    config = make_config(width=4, agent={"network": "mlp", "actor_width_ratio": 1.0})
    cost = prepare_pack([config]).runs[0].costs
    assert cost.flops_per_update == cost.flops_per_update_dense == 23040


def test_compiled_flops_agree_with_the_cost_model(make_config: MakeConfig) -> None:
    """XLA's own count of the update's products, dense: within 15 % at a width where they dominate."""
    config = make_config(width=128, agent={"batch_size": 256})
    loop, inputs = off_policy(config)
    cost, state = prepare_pack([config]).runs[0].costs, jax.eval_shape(loop.init, inputs)
    key = jax.eval_shape(lambda: jax.random.key(0))
    compiled = jax.jit(loop.learning.update).lower(state, key).compile()
    analysis = compiled.cost_analysis()
    assert analysis is not None
    assert analysis["flops"] == pytest.approx(cost.flops_per_update, rel=0.15)


def test_programs_do_not_depend_on_the_runs(make_config: MakeConfig) -> None:
    """Any run of the pack can be trained by the programs compiled for another."""
    one, two = make_config(seed=0, sparsity=0.5), make_config(seed=7, sparsity=0.9, mask_seed=3)
    loop, (first, second) = prepare_pack([one, two])
    programs = experiment.compile_programs(loop, [first.inputs], "map")
    state = programs.init(second.inputs)
    _, row = programs.chunk(np.int32(0), state)
    assert np.isfinite(float(row["loss/critic"]))


@pytest.mark.parametrize("name", ["sac", "drq"])
def test_an_update_writes_weights_where_they_lie(make_config: MakeConfig, name: str) -> None:
    loop, inputs = off_policy(make_config(agent={"name": name}, width=48))
    program = compiled_chunk(loop, inputs).as_text()
    assert program
    copied = {
        tuple(map(int, shape.split(","))) for shape in re.findall(r"f32\[([\d,]+)\]\S* copy\(", program)
    }
    agent = jax.eval_shape(loop.init, inputs).agent
    parameters = jax.tree.leaves(loop.agent.parameters(agent))
    assert not copied & {x.shape for x in parameters if x.ndim == 2 and x.size >= 48 * 48}


def test_no_more_runs_side_by_side_than_memory_holds(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = prepare_pack([make_config(seed=seed) for seed in range(4)]).runs
    need = runs[0].costs.memory_bytes
    for room, fit in ((0.5, 1), (2.6, 2), (100, 80)):
        monkeypatch.setattr(experiment, "available_bytes", lambda room=room: int(room * need))
        assert experiment.runs_that_fit(runs[0]) == fit


def test_a_program_is_shared_by_what_it_is_given_and_by_nothing_else(make_config: MakeConfig) -> None:
    """Seeds, rates and sparsities are arrays; in storages other than masks survivors are a shape."""
    base = experiment.program_of(make_config(sparsity=0.5))
    alike: tuple[dict[str, Any], ...] = (
        {"seed": 4}, {"mask_seed": 4}, {"sparsity": 0.9}, {"agent": {"learning_rate": 5e-4}},
        {"pruning": {"distribution": "uniform"}}, {"pruning": {"actor_sparsity": 0.25}},
    )  # fmt: skip
    for changes in alike:
        assert experiment.program_of(make_config(**{"sparsity": 0.5, **changes})) == base
    other: tuple[dict[str, Any], ...] = (
        {"sparsity": 0.0}, {"width": 17}, {"pruning": {"critic_sparsity": 0.0}},
        {"pruning": {"storage": "compact"}}, {"env_steps": 300}, {"agent": {"weight_decay": 0.5}},
        {"diagnostics": {"srank_threshold": 0.5}}, {"products": "bfloat16"},
    )  # fmt: skip
    for changes in other:
        assert experiment.program_of(make_config(**{"sparsity": 0.5, **changes})) != base
    compact = [
        experiment.program_of(make_config(sparsity=s, pruning={"storage": "compact"}))
        for s in (0.5, 0.9)
    ]
    assert compact[0] != compact[1]
