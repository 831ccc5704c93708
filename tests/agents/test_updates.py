"""Updates of SAC, DDPG and DrQ beside references in float64 that were written from the papers: several
in a row, on two actions, with masks, in every storage."""

from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")

import references.ddpg as ddpg  # noqa: E402
import references.drq as drq  # noqa: E402
import references.sac as sac  # noqa: E402
from beside import QUICK, agree, as_float64, begin, dense, double  # noqa: E402
from conftest import MakeConfig  # noqa: E402
from jax.extend.core import jaxprs_in_params  # noqa: E402
from references.arithmetic import cut, flat, norm, trunk  # noqa: E402
from references.arithmetic import dense as layer_of  # noqa: E402
from torch_threads import one_thread  # noqa: E402, F401
from uneven import PICTURE  # noqa: E402
from watching import watched  # noqa: E402

from sparse_rl.experience import NStep, Transition  # noqa: E402
from sparse_rl.pruning import support_masks  # noqa: E402

UPDATES, SIZE = 4, 7
SETTINGS = {
    "learning_rate": 3e-3,
    "target_rate": 0.13,
    "actor_width_ratio": 0.75,
    "num_envs": 2,
}
SAC = SETTINGS | {
    "name": "sac",
    "weight_decay": 0.07,
    "initial_temperature": 0.3,
    "target_entropy_per_action": -0.7,
}
DDPG = SETTINGS | {
    "name": "ddpg",
    "weight_decay": 0.07,
    "exploration_noise": 0.23,
    "actor_blocks": 2,
    "critic_blocks": 1,
}
DRQ = SETTINGS | {
    "name": "drq",
    "updates_per_interaction": 0.4,
    "initial_noise": 0.9,
    "final_noise": 0.15,
    "noise_steps": 500,
    "noise_clip": 0.25,
    "shift": 3,
}
SIMBA, MLP = {"network": "simba"}, {"network": "mlp"}
TWICE = {"clipped_double_q": True}
BLOCKS = {"pattern": "block", "storage": "block"}


class Case(NamedTuple):
    """What makes a run."""

    agent: dict[str, Any]
    sparsity: float
    pruning: dict[str, Any]


class Ours(NamedTuple):
    """Our side of successive updates, on the host."""

    before: dict[str, Any]
    """network, and ``target`` → dense weights."""
    masks: dict[str, Any]
    updates: list[Any]
    """Of each: dense weights, state, metrics, what was drawn, and then what it does on the batch's
    observations, exploring and not."""


CASES = {
    "SAC, MLP, two critics, masked": Case(SAC | MLP | TWICE, 0.5, {}),
    "SAC, SimBa, compact": Case(SAC | SIMBA, 0.5, {"storage": "compact"}),
    "DDPG, SimBa, two critics, blocks": Case(DDPG | SIMBA | TWICE, 0.5, BLOCKS),
    "DDPG, MLP, dense": Case(DDPG | MLP, 0.0, {}),
}


def transitions(seed: int) -> Transition:
    """Scales far from 1; every third is a termination."""
    rng = np.random.default_rng(seed)
    seen = 1.7 * rng.normal(size=(2, SIZE, 3))
    action, reward = rng.uniform(-1, 1, (SIZE, 2)), 20 * rng.normal(size=SIZE)
    fields: Any = seen[0], action, reward, seen[1], np.arange(SIZE) % 3 == 0
    return Transition(*fields)


def ours(agent: Any, state: Any, batches: list[Any], networks: tuple[str, ...]) -> Ours:
    """Successive updates in float64; no two draws of them are from one key."""
    made = []

    def once(state: Any, batch: Any, key: Any) -> Any:
        (after, metrics), draws = watched(agent.update)(state, batch, key)
        tried, noise = watched(agent.act)(after, batch.observation, jax.random.key(77))
        done = tried, noise["normal"][0][1], agent.act_greedily(after, batch.observation)
        start = dense(state, networks), support_masks(state.supports)
        return start, (dense(after, networks), after, metrics, draws, done)

    with double():
        state, update = as_float64(state), jax.jit(once, compiler_options=QUICK)
        for i, batch in enumerate(batches):
            start, found = jax.device_get(update(state, batch, jax.random.key(100 + i)))
            made.append((start, found))
            state = found[1]
    drawn = [key for _, (*_, draws, _) in made for kind in draws.values() for key, _ in kind]
    assert len({tuple(key) for key in drawn}) == len(drawn) > 0
    before, masks = ({name: flat(tree) for name, tree in part.items()} for part in made[0][0])
    return Ours(before, masks, [found for _, found in made])


@pytest.mark.parametrize("name", CASES)
def test_updates_are_those_of_the_reference(make_config: MakeConfig, name: str) -> None:
    """300 interactions of two frames in an episode: γ = 59/60. Two actions: a target entropy of −1.4."""
    case = CASES[name]
    config = make_config(
        agent=case.agent,
        sparsity=case.sparsity,
        pruning=case.pruning,
        env={"source": "probe", "task": "uneven", "action_repeat": 2},
    )
    networks, plain = ("actor", "critic", "target"), case.agent["name"] == "ddpg"
    agent, state = begin(config)
    if not plain:
        state = state._replace(log_temperature=np.float32(np.log(0.3)))
    batches = [transitions(seed) for seed in range(UPDATES)]
    found = ours(agent, state, batches, networks)
    assert any(found.masks.values()) == (case.sparsity > 0)
    if (
        case.agent["network"] == "simba"
    ):  # blocks: one in the actor and two in critics, where nothing else was asked for
        blocks = {name: sum("expand/kernel" in path for path in found.before[name]) for name in networks}
        critics = case.agent.get("critic_blocks", 2) * len(state.critic)
        assert blocks == {
            "actor": case.agent.get("actor_blocks", 1),
            "critic": critics,
            "target": critics,
        }
    theirs = sac.start(found.before["actor"], found.before["critic"], found.masks, np.log(0.3))
    theirs = theirs._replace(target=found.before["target"])
    settings = sac.Settings(59 / 60, 3e-3, 0.07, 0.13, -1.4)
    scale = 0.23 if plain else 1.0
    for batch, (weights, after, metrics, draws, done) in zip(batches, found.updates, strict=True):
        given = sac.Batch(*(torch.tensor(x, dtype=torch.float64) for x in batch))
        assert [len(kind) for kind in draws.values()] == [2, 0, 0]
        first, second = (scale * torch.tensor(numbers) for _, numbers in draws["normal"])
        theirs, expected = (ddpg if plain else sac).update(settings, theirs, given, (first, second))
        agree(metrics, expected, "metrics")
        for network in networks:
            agree(flat(weights[network]), getattr(theirs, network), network)
        acted = cut(theirs.actor, found.masks["actor"])
        for ours_did, noise in ((done[0], scale * torch.tensor(done[1])), (done[2], 0.0 * first)):
            did = ddpg.explore(acted, given[0], noise) if plain else sac.draw(acted, given[0], noise)[0]
            agree({"did": ours_did}, {"did": did}, "action")
        if not plain:
            agree({"log": after.log_temperature}, theirs.log_temperature, "temperature")


def pictures(seed: int) -> NStep:
    rng = np.random.default_rng(seed)
    seen = rng.integers(0, 256, (2, SIZE, int(np.prod(PICTURE)))).astype(np.uint8)
    action, reward = rng.uniform(-1, 1, (SIZE, 2)), 5 * rng.normal(size=SIZE)
    fields: Any = seen[0], action, reward, seen[1], np.where(np.arange(SIZE) % 3 == 0, 0.0, 0.7)
    return NStep(*fields)


@pytest.mark.parametrize("storage", ["masked", "block"])
def test_updates_of_drq_are_those_of_the_reference(make_config: MakeConfig, storage: str) -> None:
    """Of 300 interactions twenty are random, four frames each; then 0.4 updates each, so ten frames an
    update: noise falls from 0.9 to 0.15 within 500 frames, and has come 80 + 10k of them at update k."""
    pruning = (BLOCKS if storage == "block" else {}) | {"encoder_sparsity": 0.5}
    env = {"source": "probe", "task": "uneven", "action_repeat": 2}
    budget = {"env_steps": 1200, "log_every": 400, "eval_every": 400}
    config = make_config(agent=DRQ, sparsity=0.5, pruning=pruning, env=env, **budget)
    agent, state = begin(config, pictures=True)
    state.actor["mean"]["bias"][0] = 1.4  # with noise some actions are at their limits
    networks = (*drq.NETWORKS, "target")
    batches = [pictures(seed) for seed in range(UPDATES)]
    found = ours(agent, state, batches, networks)
    assert all(found.masks.values())
    theirs = drq.start(found.before, found.masks)._replace(target=found.before["target"])
    settings = drq.Settings(3e-3, 0.13, 0.25, 3, (2, 2, 1))
    for k, (batch, (weights, after, metrics, draws, done)) in enumerate(
        zip(batches, found.updates, strict=True)
    ):
        given = [torch.tensor(x, dtype=torch.float64) for x in batch]
        given[0], given[3] = (x.reshape(-1, *PICTURE) for x in (given[0], given[3]))
        scale = 0.9 - 0.75 * (80 + 10 * k) / 500
        noise = [scale * torch.tensor(numbers) for _, numbers in draws["normal"]]
        offsets = [torch.tensor(numbers) for _, numbers in draws["randint"]]
        assert all(x.min() >= 0 and x.max() <= 6 for x in offsets)
        theirs, expected = drq.update(settings, theirs, drq.Batch(*given), drq.Draws(*offsets, *noise))
        agree(metrics, expected | {"exploration_noise": scale}, "metrics")
        for network in networks:
            agree(flat(weights[network]), getattr(theirs, network), network)
        assert int(after.updates) == k + 1
        used = {name: cut(getattr(theirs, name), found.masks[name]) for name in ("actor", "encoder")}
        best = drq.act(used["actor"], drq.encode(settings, used["encoder"], given[0]))
        tried = drq.noisy(best, (scale - 0.015) * torch.tensor(done[1]), np.inf)
        agree({"best": done[2], "tried": done[0]}, {"best": best, "tried": tried}, "action")


def test_health_is_that_of_the_networks_on_the_probe(make_config: MakeConfig) -> None:
    """Norms of the features of the actor, and of both critics on the actions that were taken."""
    env = {"source": "probe", "task": "uneven", "action_repeat": 2}
    agent, state = begin(make_config(agent=SAC | MLP | TWICE, env=env))
    batch = transitions(0)
    found = jax.jit(agent.diagnose, compiler_options=QUICK)(state, batch)
    seen = torch.tensor(batch.observation)
    both = torch.cat([seen, torch.tensor(batch.action)], -1)
    expected = {
        "actor": [trunk(flat(state.actor), seen)],
        "critic": [trunk(flat(state.critic[i]), both) for i in ("0", "1")],
    }
    for network, features in expected.items():
        norms = [float(x.norm(dim=-1).mean()) for x in features]
        assert float(found[f"feature_norm/{network}"]) == pytest.approx(np.mean(norms), rel=1e-5)
        size = norm(flat(getattr(state, network)))
        assert float(found[f"param_norm/{network}"]) == pytest.approx(size, rel=1e-5)


def test_health_of_drq_is_that_on_pictures_as_they_are(make_config: MakeConfig) -> None:
    env = {"source": "probe", "task": "uneven", "action_repeat": 2}
    budget = {"env_steps": 1200, "log_every": 400, "eval_every": 400}
    agent, state = begin(make_config(agent=DRQ, env=env, **budget), pictures=True)
    batch = pictures(0)
    found = jax.jit(agent.diagnose, compiler_options=QUICK)(state, batch)
    settings = drq.Settings(3e-3, 0.13, 0.25, 3, (2, 2, 1))
    shown = torch.tensor(batch.observation, dtype=torch.float64).reshape(-1, *PICTURE)
    x = drq.few(flat(state.actor), drq.encode(settings, flat(state.encoder), shown))
    for layer in ("dense_0", "dense_1"):
        x = torch.relu(layer_of(flat(state.actor), f"trunk/{layer}", x))
    norms = float(x.norm(dim=-1).mean())
    assert float(found["feature_norm/actor"]) == pytest.approx(norms, rel=1e-4)


def products(jaxpr: Any, shape: tuple[int, int]) -> int:
    """Products of a program that read or make a matrix of this shape, either way around."""
    found = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            shapes = [v.aval.shape for v in (*equation.invars, *equation.outvars)]
            found += shape in shapes or shape[::-1] in shapes
        for inner in jaxprs_in_params(equation.params):
            found += products(inner, shape)
    return found


@pytest.mark.parametrize("agent", [SAC | MLP, DDPG | MLP])
def test_passes_are_the_products_of_an_update(make_config: MakeConfig, agent: dict[str, Any]) -> None:
    """Counted in the program, for the second hidden layers: 16×16 in the critic, 12×12 in the actor."""
    env = {"source": "probe", "task": "uneven", "action_repeat": 2}
    made, state = begin(make_config(agent=agent, env=env))
    program = jax.make_jaxpr(made.update)(state, transitions(0), jax.random.key(0)).jaxpr
    counted = {"actor": products(program, (12, 12)), "critic": products(program, (16, 16))}
    assert counted == made.passes == {"actor": 4, "critic": 6}


def test_traffic_is_what_an_optimiser_and_a_moving_average_touch(make_config: MakeConfig) -> None:
    """Parameter, gradient and two moments, each read and written: 8. Of targets two are read, one is
    written."""
    made, _ = begin(make_config(agent=SAC | MLP, env={"source": "probe", "task": "uneven"}))
    assert made.traffic == {"actor": 8, "critic": 8 + 3}
