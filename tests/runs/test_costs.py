"""What a run costs, in exact numbers worked by hand from its configuration."""

from conftest import MakeConfig

from sparse_rl.pruning import prunable_shapes
from sparse_rl.runs.costs import dense_networks
from sparse_rl.runs.pack import prepare_pack


def test_a_sparse_run_of_sac_by_hand(make_config: MakeConfig) -> None:
    """Pendulum: three numbers seen, one action. Multilayer perceptrons, the actor of 20 units, the
    critic of 40, one critic; 0.7 and 0.55 of their weights are gone.

    Actor: 60 + 400 and two heads of 20 are 500 weights, 42 biases: 150 survive. Critic: 160 + 1600 and
    40 are 1800 weights, 81 biases: 810 survive.
    """
    pruning = {"critic_sparsity": 0.55}
    agent = {"network": "mlp", "actor_width_ratio": 0.5, "batch_size": 48, "clipped_double_q": False}
    loop, (run,) = prepare_pack([make_config(width=40, sparsity=0.7, pruning=pruning, agent=agent)])
    costs = run.costs
    shapes = {name: prunable_shapes(tree) for name, tree in dense_networks(loop).items()}
    assert sum(map(len, shapes.values())) == 4 + 3
    assert costs.parameters == {"actor": (542, 192), "critic": (1881, 891)}
    assert (costs.parameters_total, costs.parameters_nonzero) == (2423, 1083)
    # four products with the actor's weights, six with the critic's
    assert costs.flops_per_update == 2 * 48 * (150 * 4 + 810 * 6)
    assert costs.flops_per_update_dense == 2 * 48 * (500 * 4 + 1800 * 6)
    # Adam reads and writes 8 numbers, the critic's target 3
    assert costs.bytes_per_update == 4 * (542 * (4 + 8) + 1881 * (6 + 8 + 3))


def test_blocks_are_all_that_is_read_and_held(make_config: MakeConfig) -> None:
    """A quarter of the critic's 4 × 40 and 40 × 40 in four groups of a block each, without padding; its
    head of one unit stays whole: 40 + 400 + 40 weights and 81 biases. The actor is dense."""
    pruning = {
        "pattern": "block",
        "distribution": "uniform",
        "actor_sparsity": 0,
        "critic_sparsity": 0.75,
    }
    agent = {"network": "mlp", "actor_width_ratio": 0.5, "batch_size": 48, "clipped_double_q": False}
    costs = prepare_pack([make_config(width=40, pruning=pruning, agent=agent)])[1][0].costs
    assert costs.parameters == {"actor": (542, 542), "critic": (1881, 561)}
    assert costs.flops_per_update == 2 * 48 * (500 * 4 + 480 * 6)
    assert costs.bytes_per_update == 4 * (542 * (4 + 8) + 561 * (6 + 8 + 3))
