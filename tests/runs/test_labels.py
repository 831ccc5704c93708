"""Runs that would not be what their label says, or could not learn, are refused before they start."""

import io
from typing import Any

import jax
import numpy as np
import pytest
from conftest import MakeConfig, off_policy
from rich.console import Console

from sparse_rl.agents.comparators import check_changes
from sparse_rl.diagnostics import unconnected
from sparse_rl.networks import Encoder, Wiring, chain, kernel_shapes, wiring_of
from sparse_rl.networks.dense import Critic
from sparse_rl.networks.wiring import Wire
from sparse_rl.pruning import surviving_counts
from sparse_rl.runs.connections import connections, connections_of
from sparse_rl.runs.costs import dense_networks
from sparse_rl.runs.labels import check_exchanges, constant_heads
from sparse_rl.runs.pack import prepare_pack
from sparse_rl.settings.pruning import PruningConfig
from sparse_rl.settings.run import run_config
from sparse_rl.settings.schema import ConfigError
from sparse_rl.sweeps.plan import print_plan


def test_a_head_without_a_way_to_every_input_is_constant() -> None:
    wiring = wiring_of(Critic("simba", 6, 1))
    kept = {wire.kernel: 1 for wire in wiring.layers}
    assert constant_heads(wiring, kept) == []
    without = kept | {"trunk/block_0_expand/kernel": 0}
    assert constant_heads(wiring, without) == []  # the residual stream goes around the block
    assert constant_heads(wiring, kept | {"trunk/embed/kernel": 0}) == ["value"]
    assert constant_heads(wiring, kept | {"value/kernel": 0}) == ["value"]
    two = Wiring((*chain("feature", inputs="seen"), Wire("value", (("feature",), ("action",)))))
    assert constant_heads(two, {"feature/kernel": 0, "value/kernel": 2}) == ["value"]  # action alone


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"sparsity": 0.99},
            r"the actor, sparsity=0.99, would see nothing.*nearest sparsity that works",
        ),
        ({"sparsity": 0.001}, r"the actor, sparsity=0.001, would lose none of its 148 weights"),
        (
            {"sparsity": 0.8, "pruning": {"method": "set", "drop_share": 0.001, "change_every": 10}},
            r"method=set: masks would never change, for pruning.drop_share=0.001",
        ),
        (
            {"sparsity": 0.8, "pruning": {"method": "gradual", "change_every": 100}},
            r"gradual, pruning.change_every=100: of 180 updates none",
        ),
        (
            {"sparsity": 0.8, "pruning": {"method": "rigl", "change_every": 144}},
            r"rigl, pruning.change_every=144: masks would never change.* 0.8 .* of 180 updates",
        ),
    ],
)
def test_counts_that_belie_the_label_are_refused(
    make_config: MakeConfig, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        prepare_pack([make_config(**changes)])


def test_the_nearest_sparsity_that_is_named_works(make_config: MakeConfig) -> None:
    with pytest.raises(ConfigError) as caught:
        prepare_pack([make_config(sparsity=0.99)])
    nearest = float(str(caught.value).split("that works is ")[1].split(",")[0])
    assert 0.9 < nearest < 0.99
    prepare_pack([make_config(sparsity=nearest)])


def test_schedules_that_reach_their_end() -> None:
    """Gradual pruning is at its final density from 0.8 of the run on, and something must follow."""
    for every in (80, 40, 160):
        check_changes(PruningConfig(method="gradual", change_every=every), 200 if every < 160 else 161)
    for every, updates in ((81, 162), (100, 100), (300, 200)):
        with pytest.raises(ConfigError, match="not become as sparse"):
            check_changes(PruningConfig(method="gradual", change_every=every), updates)
    check_changes(PruningConfig(method="set", change_every=159), 200)
    with pytest.raises(ConfigError, match="never change"):
        check_changes(PruningConfig(method="set", change_every=160), 200)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"pruning": {"encoder_sparsity": 0.5}},
            r"encoder_sparsity=0.5 prunes nothing: agent=sac has no",
        ),
        ({"agent": {"name": "dqn"}, "pruning": {"actor_sparsity": 0.5}}, r"agent=dqn has no actor"),
        (
            {"sparsity": 0.9, "pruning": {"actor_sparsity": 0.0, "critic_sparsity": 0.0}},
            r"sparsity=0.9 prunes nothing: .*actor 0, critic 0",
        ),
        (
            {"sparsity": 0.1, "pruning": {"actor_sparsity": 0.5, "critic_sparsity": 0.9}},
            r"sparsity=0.1 is of no network.*actor 0.5, critic 0.9; give one of these",
        ),
        (
            {"pruning": {"actor_sparsity": 0.5, "critic_sparsity": 0.5}},
            r"sparsity=0 is of no network",
        ),
        ({"pruning": {"min_fan_out": 1, "pattern": "banded"}}, r"banded says where each weight is"),
        ({"pruning": {"min_fan_out": 1, "pattern": "block"}}, r"block reads every input"),
        ({"agent": {"updates_per_interaction": 0.0004}}, r"=0.0004 is no fraction.*allowed: >= 1/1000"),
        ({"agent": {"updates_per_interaction": 0.00075}}, r"=0.00075 is no fraction.*nearest is 1/1000"),
        ({"agent": {"updates_per_interaction": 0.005}}, r"makes no update: of 200 interactions 20 are"),
        ({"width": 2}, r"width=2 .* LayerNorms make a sign of two units; allowed: >= 3"),
        ({"width": 1}, r"a constant of one unit"),
    ],
)
def test_settings_that_belie_the_label_are_refused(
    make_config: MakeConfig, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        make_config(**changes)


def test_a_plant_without_free_entries_is_refused() -> None:
    data = {"agent": {"name": "azopg"}, "env": {"source": "lqr", "task": "chain"}, "width": 4}
    with pytest.raises(ConfigError, match=r"the actor, sparsity=0.99, would see nothing"):
        prepare_pack([run_config(data | {"sparsity": 0.99})])


def test_nothing_under_a_layer_norm_is_narrower_than_three(make_config: MakeConfig) -> None:
    sac = make_config().agent
    assert [sac.actor_width(w) for w in (3, 10, 11, 14, 16)] == [3, 3, 3, 4, 4]  # type: ignore[union-attr]
    mlp = make_config(agent={"network": "mlp", "actor_width_ratio": 0.25}).agent
    assert mlp.actor_width(4) == 1  # type: ignore[union-attr]
    drq = run_config({"agent": {"name": "drq"}, "env": {"source": "probe", "task": "picture"}}).agent
    assert [drq.feature_width(w) for w in (16, 51, 72, 1024)] == [3, 3, 4, 50]  # type: ignore[union-attr]


def test_ids_of_runs_that_compute_what_they_did_are_what_they_were() -> None:
    """The id is of before there was a minimum fan-out."""
    env = {"source": "gymnax", "task": "Pendulum-v1", "env_steps": 5000}
    data = {"env": env, "seed": 1, "width": 64, "sparsity": 0.9}
    assert run_config(data).run_id == "w64_s0.9_seed1_7ae18ca666"
    assert run_config(data | {"pruning": {"min_fan_out": 1}}).run_id != "w64_s0.9_seed1_7ae18ca666"


def test_convolutions_count_with_their_kernels() -> None:
    """The layers of DrQ's encoder at 0.8, 48 pictures' channels: Σ dims / Π dims, by hand.

    Of 9·9·32 + 3·(9·32·32) weights a fifth is left; (3 + 3 + 9 + 32)·ε and thrice (3 + 3 + 32 + 32)·ε.
    """
    wiring = wiring_of(Encoder("drq", 32, (84, 84, 9)))
    held = {wire.kernel: (9 * (9 if i == 0 else 32), 32) for i, wire in enumerate(wiring.layers)}
    counts = surviving_counts(kernel_shapes(wiring, held), 0.8)
    scale = 0.2 * (2592 + 3 * 9216) / (47 + 3 * 70)
    first, *others = counts.values()
    assert first == pytest.approx(47 * scale, abs=1)
    assert first / 2592 == pytest.approx(0.427, abs=1e-3)
    assert all(count == pytest.approx(70 * scale, abs=1) for count in others)


def test_the_plan_says_what_masks_leave_without_use(make_config: MakeConfig, tmp_path: Any) -> None:
    """SAC's actor at width 16 and 0.9: its first layer keeps 2 or 3 weights for 3 inputs and 4 units."""
    packs = [prepare_pack([make_config(sparsity=s, width=w)]) for s, w in ((0.9, 16), (0.0, 8))]
    written = io.StringIO()
    print_plan(Console(file=written, width=200), packs, {}, tmp_path, 1.0)
    lines = [line for line in written.getvalue().splitlines() if line.startswith("warning")]
    (loop, (run,)) = packs[0]
    found = connections_of(loop, run, dense_networks(loop))["actor"]
    kept = int(run.inputs.budgets["actor"]["trunk/embed/kernel"])
    assert kept < 4
    # each of so many units reads one of three inputs
    assert found.unread == pytest.approx(3 * (2 / 3) ** kept)
    assert (found.inputs, found.units) == (3, 4 + 16 + 4 + 1 + 1)
    here = "warning: width 16, actor at sparsity 0.9: "
    assert any(line.startswith(f"{here}{found.unread:.3g} of 3 inputs are read by") for line in lines)
    assert not any("width 8, " in line for line in lines)  # nothing is pruned there
    assert any(line.startswith("warning: width 8: the actor has 3 units, not 2") for line in lines)


def test_dense_layers_and_blocks_leave_nothing(make_config: MakeConfig) -> None:
    wiring, shapes = Wiring(chain("a", "b")), {"a/kernel": (5, 6), "b/kernel": (6, 2)}
    assert connections(wiring, shapes, {}, PruningConfig()) == (0.0, 5, 0.0, 8)
    how = PruningConfig(pattern="block")
    assert connections(wiring, shapes, {"a/kernel": 1}, how) == (0.0, 5, 0.0, 8)


def test_a_minimum_fan_out_lets_every_network_see(make_config: MakeConfig) -> None:
    """At width 24 and 0.8 the actor's first layer keeps three weights for three inputs, six units."""
    agent = {"network": "mlp", "actor_width_ratio": 0.25, "clipped_double_q": True}
    options: dict[str, Any] = {"width": 24, "sparsity": 0.8, "agent": agent}
    loop, (free,) = prepare_pack([make_config(**options)])
    assert connections_of(loop, free, dense_networks(loop))["actor"].unread > 0.5

    loop, inputs = off_policy(make_config(**options, pruning={"min_fan_out": 1}))
    assert jax.tree.map(int, inputs.budgets) == jax.tree.map(int, free.inputs.budgets)
    init = jax.jit(loop.agent.init)
    for mask_seed in range(5):
        state = init(jax.random.key(0), inputs._replace(mask_seed=np.uint32(mask_seed)))
        params, supports = loop.agent.parameters(state), loop.agent.supports(state)
        for name, expected in (("actor", 3), ("critic", 2 * 4)):
            found = unconnected(loop.agent.wiring[name], params[name], supports[name])
            assert (int(found.unread), found.inputs) == (0, expected)
        kept = sum(int(x.sum()) for x in jax.tree.leaves(supports))
        assert kept == sum(sum(map(int, b.values())) for b in inputs.budgets.values())


def test_weights_to_exchange_are_counted_where_masks_first_change(make_config: MakeConfig) -> None:
    """RigL's share falls as a cosine: at update 100 of 180, until 0.8 of them, 0.3 has come to 0.064."""
    shapes = {"actor": {"a": (5, 10)}}
    cases = (("rigl", 15, False), ("rigl", 16, True), ("set", 3, False), ("set", 4, True))
    for method, kept, works in cases:
        pruning = {"method": method, "drop_share": 0.3, "change_every": 100}
        config = make_config(sparsity=0.8, pruning=pruning)
        if works:
            check_exchanges(config, shapes, {"actor": {"a": kept}}, 180)
        else:
            with pytest.raises(ConfigError, match=f"of no layer's weights .at most {kept}. is one"):
                check_exchanges(config, shapes, {"actor": {"a": kept}}, 180)
