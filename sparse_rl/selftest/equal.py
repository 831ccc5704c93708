"""Are a chunk's numbers those of a CPU? Every agent in every storage, in float32 with highest precision.

A pack of two runs, batched as on an accelerator, is begun and trained for one chunk of few updates on
the device, and each of its runs alone on the CPU. Masks come of whole random numbers that are sorted, so
they are equal bit for bit. The rest differs by rounding: sums of n terms in another order by √n float32
ε of their size. Adam divides gradients by their own size, so a weight whose gradient is nothing but
rounding may move either way; those are few. So what is compared is how far the networks' weights end
apart, over how far the chunk moved them. Between the two programs on one CPU that is below 10⁻⁶ (PPO,
compact); one weight in 100,000 that moves the other way makes it 0.006; a wrong product, a transposed
block or a lost gradient makes it 0.1 to 2.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sparse_rl.agents import OFF_POLICY, ON_POLICY, RECALLING, STREAMING
from sparse_rl.runs import Run, prepare_pack, stack
from sparse_rl.selftest import lines
from sparse_rl.selftest.child import Asked
from sparse_rl.selftest.lines import WRONG, Lines
from sparse_rl.settings.run import RunConfig, run_config

APART = 0.02
"""Of two runs' weights, over how far they moved: far above rounding, and far below a wrong number."""
BEGUN_APART = 1e-5
"""Of weights before any update, over the largest: orthogonal ones come from a device's own solver."""
ROW_APART = 0.02
"""Of a column of the row, relative; ratios and ranks of layers may differ by one unit besides."""

CHEAPLY: dict[str, str | bool] = {
    "xla_backend_optimization_level": "0",
    "xla_cpu_use_fusion_emitters": False,
}
"""How programs for a CPU are compiled here, which compute much less than they take to compile. What is
computed is decided before."""
WIDTH, STEPS = 16, 64
REPLAYED = {"batch_size": 32, "random_interactions": 48, "updates_per_interaction": 0.5}
ROLLOUTS = {"num_envs": 8, "num_steps": 8}
SHUFFLED = ROLLOUTS | {"minibatches": 2, "epochs": 1}
SEQUENCES = {
    "num_envs": 2,
    "sequence_length": 3,
    "batch_size": 16,
    "random_interactions": 16,
    "target_every": 2,
}
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    **dict.fromkeys(("sac", "ddpg"), REPLAYED),
    "drq": REPLAYED
    | {
        "network": "drq_strided",
        "encoder_width_ratio": 0.25,
        "feature_width_ratio": 0.5,
        "n_steps": 2,
        "noise_steps": 500,
    },
    **dict.fromkeys(("ppo", "ippo", "mappo", "pqn_vdn"), SHUFFLED),
    **dict.fromkeys(("paac", "dqn"), ROLLOUTS),
    **dict.fromkeys(("iql", "vdn", "qmix"), SEQUENCES),
    "stream_q": {"network": "stream_mlp"},
}
TEAMS = ("ippo", "mappo", "pqn_vdn", *RECALLING)
ENVS = {
    **dict.fromkeys(("dqn", "stream_q"), ("gymnax", "CartPole-v1")),
    **dict.fromkeys(TEAMS, ("jaxmarl", "spread")),
    "drq": ("probe", "picture"),
}
STORAGES = {"masked": "unstructured", "compact": "unstructured", "block": "block"}


class Case(NamedTuple):
    """An agent in a storage."""

    agent: str
    storage: str


QUICK = (
    Case("sac", "block"),
    Case("ppo", "masked"),
    Case("vdn", "compact"),
    Case("stream_q", "compact"),
)
"""One agent of each kind of loop: on a CPU a case takes half a minute to compile."""


def cases(quick: bool) -> Sequence[Case]:
    """Every agent in every storage, each agent once before any comes again; or a few."""
    agents = [*OFF_POLICY, *ON_POLICY, *RECALLING, *STREAMING]
    turns = [(agent, list(STORAGES)[(i + k) % 3]) for k in range(3) for i, agent in enumerate(agents)]
    return QUICK if quick else [Case(*each) for each in turns]


def config_of(case: Case, seed: int) -> RunConfig:
    """A run of one chunk, half of whose weights are gone."""
    source, task = ENVS.get(case.agent, ("gymnax", "Pendulum-v1"))
    return run_config(
        {
            "agent": {"name": case.agent, **SETTINGS.get(case.agent, {})},
            "env": {"source": source, "task": task, "eval_episodes": 1},
            "pruning": {"pattern": STORAGES[case.storage], "storage": case.storage},
            "width": WIDTH,
            "sparsity": 0.5,
            "seed": seed,
            "env_steps": STEPS,
            "log_every": STEPS,
            "eval_every": STEPS,
        }
    )


class Chunk(NamedTuple):
    """What a chunk made, on the host."""

    begun: Any
    """Weights as they are stored, before it."""
    ended: Any
    """And after it."""
    supports: Any
    row: Mapping[str, Any]


def chunk_on(device: Any, loop: Any, runs: list[Run], batched: bool) -> tuple[list[Chunk], set[Any]]:
    """What each run's first chunk makes on a device, and the devices that its results lay on."""

    def whole(inputs: Any) -> Chunk:
        state = loop.init(inputs)
        after, row = loop.chunk(jnp.int32(0), state)
        agent = loop.agent
        weights = agent.parameters(state.agent), agent.parameters(after.agent)
        return Chunk(*weights, agent.supports(after.agent), row)

    inputs = [run.inputs for run in runs]
    given = [stack(inputs)] if batched else inputs
    options = CHEAPLY if device.platform == "cpu" else {}
    with jax.default_device(device), jax.default_matmul_precision("highest"):
        low = jax.jit(jax.vmap(whole) if batched else whole).lower(given[0])
        program = low.compile(compiler_options=options)
        made = [program(one) for one in given]
    found = [jax.tree.map(lambda x, i=i: x[i], made[0]) for i in range(len(runs))] if batched else made
    return jax.device_get(found), {at for leaf in jax.tree.leaves(made) for at in leaf.devices()}


def _norm(tree: Any) -> float:
    return float(np.sqrt(sum(np.sum(np.square(x, dtype=np.float64)) for x in jax.tree.leaves(tree))))


def _minus(a: Any, b: Any) -> Any:
    return jax.tree.map(lambda x, y: np.subtract(x, y, dtype=np.float64), a, b)


def weights_apart(found: Chunk, expected: Chunk) -> tuple[float, float]:
    """How far two runs' weights lie apart before the chunk, over the largest weight, and after it, over
    how far it moved those that are expected; the worst network's. NaN where nothing moved."""
    begun, ended = 0.0, 0.0
    for name in expected.begun:
        largest = max(
            float(np.max(np.abs(x), initial=0.0)) for x in jax.tree.leaves(expected.begun[name])
        )
        off = jax.tree.leaves(_minus(found.begun[name], expected.begun[name]))
        begun = np.maximum(begun, max(float(np.max(np.abs(x), initial=0.0)) for x in off) / largest)
        moved = _norm(_minus(expected.ended[name], expected.begun[name]))
        apart = _norm(_minus(found.ended[name], expected.ended[name]))
        ended = np.maximum(ended, apart / moved if moved else np.nan)  # NaN stays
    return float(begun), float(ended)


def _row_apart(name: str, found: float, expected: float) -> bool:
    """Whether a column differs by more than rounding, and than one unit or rank that it turned."""
    if np.isnan(expected) or np.isnan(found):
        return bool(np.isnan(expected) != np.isnan(found))
    unit = {"srank": 1.0, "dormant_ratio": 2.0 / WIDTH}.get(name.partition("/")[0], 1e-4)
    return abs(found - expected) > ROW_APART * abs(expected) + unit


def columns_apart(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """Names of columns of two rows that differ by more than they may."""
    if set(found) != set(expected):
        return sorted(set(found) ^ set(expected))
    return [n for n in sorted(expected) if _row_apart(n, float(found[n]), float(expected[n]))]


def judged(found: Chunk, expected: Chunk) -> tuple[dict[str, Any], str | None]:
    """How far two runs lie apart, and what of that is wrong."""
    same = jax.tree.map(np.array_equal, found.supports, expected.supports)
    begun, ended = weights_apart(found, expected)
    columns = columns_apart(found.row, expected.row)
    wrong = None
    if not all(jax.tree.leaves(same)):
        wrong = "other weights are pruned"
    elif not begun <= BEGUN_APART:
        wrong = f"weights begin {begun:.2g} of the largest apart"
    elif not ended <= APART:
        wrong = f"weights end {ended:.2g} of what they moved apart"
    elif columns:
        name = columns[0]
        wrong = f"{name} is {float(found.row[name]):g} and not {float(expected.row[name]):g}"
    return {"begun apart": begun, "apart": ended, "columns": len(expected.row)}, wrong


def _where(devices: set[Any]) -> str:
    return ", ".join(sorted({str(device.platform) for device in devices}))


def compare(case: Case, device: Any, reference: Any) -> Iterator[lines.Line]:
    """One row. ``device`` and ``reference``: of jax."""
    loop, runs = prepare_pack([config_of(case, seed) for seed in (0, 1)])
    ours, at = chunk_on(device, loop, runs, batched=True)
    expected, beside = chunk_on(reference, loop, runs, batched=False)
    verdicts = [judged(one, other) for one, other in zip(ours, expected, strict=True)]
    numbers = {name: max(told[name] for told, _ in verdicts) for name in verdicts[0][0]}
    wrong = next((why for _, why in verdicts if why), None)
    if (at, beside) != ({device}, {reference}):
        wrong = f"computed on {_where(at)} beside {_where(beside)}"
    row = {**case._asdict(), "on": _where(at), "beside": _where(beside), **numbers}
    yield lines.row(**row, **({WRONG: f"{case.agent}, {case.storage}: {wrong}"} if wrong else {}))


def lines_of(asked: Asked) -> Lines:
    """A row per agent and storage."""
    device, reference = jax.devices(asked.device)[0], jax.devices("cpu")[0]
    if asked.device == "cpu":
        yield lines.note(
            "On a CPU the batched program of a pack is compared with that of a single run; this says "
            "nothing of an accelerator."
        )
    every = cases(asked.quick)
    for i, case in enumerate(every):
        yield lines.doing(f"{case.agent}, {case.storage} ({i + 1} of {len(every)})")
        try:
            yield from compare(case, device, reference)
        except ModuleNotFoundError as error:
            yield lines.not_run(f"{case.agent}, {case.storage}", str(error))
        jax.clear_caches()
