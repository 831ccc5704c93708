"""Settings that a run does not read, told by hand."""

from typing import Any

import pytest
from conftest import MakeConfig

from sparse_rl.settings.agents import AGENT_CONFIGS
from sparse_rl.settings.run import run_config, schema_keys
from sparse_rl.settings.schema import fields_of
from sparse_rl.settings.unread import POSSIBLE, given, unread, what_is_read

SAC: dict[str, Any] = {"agent": {"name": "sac"}, "env": {"source": "gymnax", "task": "Pendulum-v1"}}
PAAC: dict[str, Any] = SAC | {"agent": {"name": "paac"}, "sparsity": 0.5}
AZOPG: dict[str, Any] = {"agent": {"name": "azopg"}, "env": {"source": "lqr", "task": "chain"}}
CHANGES = {"pruning.change_every", "pruning.change_until", "pruning.drop_share"}
DENSE = CHANGES | {"mask_seed", "pruning.min_fan_in", "pruning.min_fan_out", "pruning.block_fan_in"}
DENSE |= {"pruning.initial_scale"}
BASE = {"agent.base_width", "agent.base_density"}
"""Of a parametrisation that is the same at every base."""


@pytest.mark.parametrize(
    ("composed", "keys"),
    [
        (SAC | {"sparsity": 0.5}, CHANGES | {"pruning.block_fan_in"}),
        (SAC, DENSE),
        (SAC | {"pruning": {"critic_sparsity": 0.5}}, CHANGES | {"pruning.block_fan_in"}),
        (SAC | {"sparsity": 0.5, "width": None, "env_steps": "???"}, CHANGES | {"pruning.block_fan_in"}),
        (SAC | {"width": 64, "env_steps": 5000}, DENSE | {"agent.width", "env.env_steps"}),
        (SAC | {"log_every": 500, "eval_every": 500}, DENSE | {"env.log_every", "env.eval_every"}),
        (
            SAC | {"sparsity": 0.5, "width": 64, "pruning": {"pattern": "block"}},
            CHANGES | {"agent.width"},
        ),
        (
            SAC | {"sparsity": 0.5, "pruning": {"method": "gradual"}},
            {"pruning.change_until", "pruning.drop_share", "pruning.block_fan_in"},
        ),
        (SAC | {"sparsity": 0.5, "pruning": {"method": "set"}}, {"pruning.block_fan_in"}),
        (
            SAC | {"agent": {"name": "sac", "network": "mlp"}, "sparsity": 0.5},
            CHANGES | {"pruning.block_fan_in", "agent.actor_blocks", "agent.critic_blocks"},
        ),
        (
            PAAC | {"agent": {"name": "paac", "network": "simba", "learning_rate": 0.01}},
            CHANGES | {"pruning.block_fan_in", "agent.learning_rate_per_env"},
        ),
        (
            PAAC | {"agent": {"name": "paac", "network": "simba"}},
            CHANGES | {"pruning.block_fan_in"},
        ),
        (AZOPG, DENSE | {"agent.work", "agent.estimate_seconds"}),
        (AZOPG | {"agent": {"name": "azopg", "clock": "real"}}, DENSE),
        (
            SAC | {"agent": {"name": "stream_ac"}},
            DENSE | {"agent.value_share", "agent.policy_share"},
        ),
        (
            SAC | {"agent": {"name": "stream_ac", "step_rule": "intentional"}},
            DENSE | {"agent.value_kappa", "agent.policy_kappa"},
        ),
        (SAC | {"agent": {"name": "stream_q"}}, DENSE | {"agent.value_share"}),
    ],
)
def test_what_is_not_read_by_hand(composed: dict[str, Any], keys: set[str]) -> None:
    found = unread(composed, run_config(composed))
    assert set(found) == keys | (BASE if "parametrisation" in schema_of(composed) else set())
    assert keys | BASE <= POSSIBLE
    assert all(found.values())


def schema_of(composed: dict[str, Any]) -> dict[str, Any]:
    schema: Any = AGENT_CONFIGS[composed["agent"]["name"]]
    return fields_of(schema)


@pytest.mark.parametrize(
    ("parametrisation", "keys"), [("standard", BASE), ("mup", {"agent.base_density"}), ("smup", set())]
)
def test_a_parametrisation_reads_of_its_base_what_it_follows(
    parametrisation: str, keys: set[str]
) -> None:
    agent = {"name": "sac", "parametrisation": parametrisation, "base_width": 64}
    composed = SAC | {"agent": agent, "sparsity": 0.5}
    assert BASE & set(unread(composed, run_config(composed))) == keys


def test_every_key_that_may_be_unread_is_one_of_the_schema() -> None:
    assert set(schema_keys()) >= POSSIBLE
    assert not given({"width": "???"}, "width")
    assert given({"sparsity": 0.0}, "sparsity")


def test_runs_that_differ_in_what_they_do_not_read_read_the_same(make_config: MakeConfig) -> None:
    """And in nothing else; ids are another matter: they stay what they were."""
    dense, sparse = make_config(seed=3), make_config(seed=3, sparsity=0.5)
    read = what_is_read(dense)
    for same in (
        make_config(seed=3, mask_seed=7),
        make_config(seed=3, agent={"width": 99}),
        make_config(seed=3, env={"env_steps": 99, "log_every": 77, "eval_every": 99}),
        make_config(seed=3, pruning={"change_every": 33, "min_fan_in": 0}),
    ):
        assert what_is_read(same) == read
    for other in (
        sparse,
        make_config(seed=4),
        make_config(seed=3, width=17),
        make_config(seed=3, pruning={"pattern": "constant_fan_in"}),
        make_config(seed=3, agent={"critic_blocks": 3}),
        make_config(seed=3, env={"eval_episodes": 4}),
    ):
        assert what_is_read(other) != read
    assert what_is_read(make_config(seed=3, sparsity=0.5, mask_seed=7)) != what_is_read(sparse)
