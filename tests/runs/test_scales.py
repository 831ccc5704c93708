"""Factors of whole runs: counted from their masks, none at the base, the same in every storage."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import MakeConfig, off_policy
from effects import difference

from sparse_rl.agents.pruned import draw_pruned
from sparse_rl.networks import Critic, wiring_of
from sparse_rl.pruning import survivors
from sparse_rl.runs.pack import prepare_pack, program_of
from sparse_rl.runs.scales import at_base
from sparse_rl.settings.run import RunConfig
from sparse_rl.settings.schema import ConfigError
from sparse_rl.sweeps.grid import packs

SMUP = {"network": "mlp", "actor_width_ratio": 0.5, "parametrisation": "smup", "base_width": 12}
KERNEL = "0/trunk/dense_1/kernel"


def test_rates_of_a_run_follow_its_layers_own_densities(make_config: MakeConfig) -> None:
    """The critic's hidden matrix of 30 × 30 beside 12 × 12 at the base, whose density is 1."""
    pack = prepare_pack([make_config(width=30, sparsity=s, agent=SMUP) for s in (0.6, 0.85)])
    for run in pack.runs:
        kept = survivors(run.inputs.budgets["critic"][KERNEL]) / 900
        m = 30 / 12 * kept
        found = run.inputs.scales["critic"][KERNEL]
        np.testing.assert_allclose(found.step, 1 / m, rtol=1e-6)
        np.testing.assert_allclose(found.initial, np.sqrt(30 / 12 / m), rtol=1e-6)
        assert found.step.dtype == np.float32
        reads = run.inputs.scales["critic"]["0/trunk/dense_0/kernel"]
        kept = survivors(run.inputs.budgets["critic"]["0/trunk/dense_0/kernel"]) / (4 * 30)
        np.testing.assert_allclose(reads.step, 1 / kept, rtol=1e-6)
    one, two = (str(jax.tree.structure(run.inputs)) for run in pack.runs)
    assert one == two


def test_mup_asks_for_no_density(make_config: MakeConfig) -> None:
    config = make_config(width=30, sparsity=0.85, agent=SMUP | {"parametrisation": "mup"})
    _, (run,) = prepare_pack([config])
    found = run.inputs.scales["critic"]
    np.testing.assert_allclose(found[KERNEL].step, 0.4, rtol=1e-6)
    np.testing.assert_allclose(found["0/trunk/dense_0/kernel"].step, 1.0)


def test_a_sparse_base_has_the_densities_of_its_layers(make_config: MakeConfig) -> None:
    """By Erdős–Rényi layers of 12 × 12 and 30 × 30 keep other shares at one sparsity."""
    pack = prepare_pack([make_config(width=30, sparsity=0.85, agent=SMUP | {"base_density": 0.3})])
    base = prepare_pack(
        [make_config(width=12, sparsity=0.7, agent=SMUP | {"parametrisation": "standard"})]
    )
    kept = survivors(pack.runs[0].inputs.budgets["critic"][KERNEL]) / 900
    first = survivors(base.runs[0].inputs.budgets["critic"][KERNEL]) / 144
    found = pack.runs[0].inputs.scales["critic"][KERNEL]
    np.testing.assert_allclose(found.step, (12 / 30) * (first / kept), rtol=1e-6)


@pytest.mark.parametrize(
    ("agent", "sparsity", "same"),
    [
        ({}, 0.0, True),
        ({}, 0.7, False),
        ({"parametrisation": "mup"}, 0.7, True),
        ({"base_density": 0.3}, 0.7, True),
        ({"base_density": 0.3}, 0.0, False),
        ({"base_width": 13}, 0.0, False),
    ],
)
def test_at_its_base_a_run_is_the_standard_one_bit_for_bit(
    make_config: MakeConfig, agent: dict[str, Any], sparsity: float, same: bool
) -> None:
    """One program, given the same: there is nothing that could differ."""
    config = make_config(width=12, sparsity=sparsity, agent=SMUP | agent)
    plain = make_config(width=12, sparsity=sparsity, agent=SMUP | {"parametrisation": "standard"})
    assert config.run_id != plain.run_id
    assert at_base(config) is same
    assert (program_of(config) == program_of(plain)) is same
    assert (difference(plain, config) is None) is same


def test_a_pack_does_not_mix_runs_at_the_base_with_others(make_config: MakeConfig) -> None:
    agent = SMUP | {"base_density": 0.3}
    configs = [make_config(width=12, sparsity=s, agent=agent) for s in (0.7, 0.8, 0.9)]
    assert [len(pack) for pack in packs(configs)] == [1, 2]


def test_what_a_run_does_not_read_of_a_base_is_no_part_of_it(make_config: MakeConfig) -> None:
    plain = make_config(sparsity=0.5)
    assert make_config(sparsity=0.5, agent={"base_width": 40, "base_density": 0.4}) == plain
    mup = {"parametrisation": "mup", "base_width": 40}
    assert make_config(agent=mup | {"base_density": 0.4}) == make_config(agent=mup)
    assert make_config(pruning={"initial_scale": "kept"}) == make_config()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"agent": {"parametrisation": "smup"}}, "agent.base_width="),
        ({"agent": {"parametrisation": "mup", "base_width": 2}}, "width=2 is out of range"),
        ({"agent": SMUP, "pruning": {"initial_scale": "kept"}, "sparsity": 0.5}, "initial_scale=dense"),
        (
            {"agent": SMUP, "pruning": {"method": "gradual"}, "sparsity": 0.5},
            "pruning.method=gradual changes it",
        ),
        (
            {"pruning": {"method": "gradual", "initial_scale": "kept"}, "sparsity": 0.5},
            "pruning.method=gradual leaves everything",
        ),
        (
            {"agent": SMUP | {"base_density": 0.5}, "pruning": {"actor_sparsity": 0.2}},
            "pruning.actor_sparsity tells one apart",
        ),
    ],
)
def test_what_cannot_be_scaled_is_refused(
    make_config: MakeConfig, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        make_config(**changes)


def test_an_agent_without_such_an_optimiser_is_refused_by_name(make_config: MakeConfig) -> None:
    from sparse_rl.settings.agents import build_agent

    with pytest.raises(ConfigError, match="not for azopg"):
        build_agent({"name": "azopg", "parametrisation": "smup"})


def equal_weights(config: RunConfig) -> tuple[Any, Any, Any]:
    """A network whose every weight is 0.25 or −0.25, pruned and scaled as a run's."""
    loop, inputs = off_policy(config)
    network = Critic("mlp", config.width, 1)
    params = jax.eval_shape(
        lambda: network.init(jax.random.key(0), jnp.zeros((1, 3)), jnp.zeros((1, 1)))
    )

    def initial(key: Any) -> Any:
        ones = jax.tree.map(lambda x: jnp.full(x.shape, 0.25), params["params"])
        return {"critic": {"0": ones}, "actor": {}}

    wiring = {**loop.agent.wiring, "critic": wiring_of(network)}
    held, supports = draw_pruned(config, wiring, initial, jax.random.key(1), inputs)
    return held["critic"]["0"], supports["critic"]["0"], inputs.budgets["critic"]


@pytest.mark.parametrize("storage", ["masked", "compact", "block"])
def test_kept_restores_the_squares_that_a_mask_takes(make_config: MakeConfig, storage: str) -> None:
    """Of equal weights the squares of a layer sum to the same, pruned or not."""
    pattern = "block" if storage == "block" else "unstructured"
    pruning = {"initial_scale": "kept", "storage": storage, "pattern": pattern}
    agent = {"network": "mlp", "actor_width_ratio": 1.0}
    config = make_config(width=64, sparsity=0.7, agent=agent, pruning=pruning)
    held, _, budgets = equal_weights(config)
    for layer, shape in (("dense_0", (4, 64)), ("dense_1", (64, 64))):
        whole = 0.25**2 * shape[0] * shape[1]
        found = np.sum(np.square(np.asarray(held["trunk"][layer]["kernel"], np.float64)))
        np.testing.assert_allclose(found, whole, rtol=1e-6)
    assert survivors(budgets[KERNEL]) < 0.5 * 64 * 64
    np.testing.assert_array_equal(held["trunk"]["dense_1"]["bias"], 0.25)


def test_kept_leaves_the_optimiser_alone(make_config: MakeConfig) -> None:
    plain = make_config(sparsity=0.5, pruning={"initial_scale": "dense"})
    kept = make_config(sparsity=0.5, pruning={"initial_scale": "kept"})
    one, two = (off_policy(config) for config in (plain, kept))
    states = [jax.eval_shape(loop.init, inputs).agent for loop, inputs in (one, two)]
    assert str(jax.tree.structure(states[0])) == str(jax.tree.structure(states[1]))
    assert one[1].scales == ()
    kernel = two[1].scales["critic"]["0/trunk/embed/kernel"]
    share = survivors(two[1].budgets["critic"]["0/trunk/embed/kernel"]) / (4 * 16)
    np.testing.assert_allclose(kernel.initial, share**-0.5, rtol=1e-6)
