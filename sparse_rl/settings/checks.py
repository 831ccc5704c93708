"""Settings that are allowed one by one, and together make a run that is not what its label says."""

from collections.abc import Mapping
from fractions import Fraction

from sparse_rl.extensions import OwnCode
from sparse_rl.pruning import Storage
from sparse_rl.settings.agents import AgentConfig, AzopgConfig
from sparse_rl.settings.common import ParametrisedConfig, RememberingConfig, sharing_of
from sparse_rl.settings.curricula import (
    CurriculumConfig,
    NoCurriculum,
    PairedConfig,
    ReplayingConfig,
)
from sparse_rl.settings.off_policy import OffPolicyConfig, ReplayConfig
from sparse_rl.settings.on_policy import ActorCriticConfig, OnPolicyConfig
from sparse_rl.settings.pruning import PruningConfig
from sparse_rl.settings.schema import ConfigError
from sparse_rl.settings.streaming import StreamingConfig
from sparse_rl.settings.widths import LEAST_NORMED


def check_method(pruning: PruningConfig, agent: AgentConfig, storage: Storage) -> None:
    """Masks that change need an agent and a storage that can change them."""
    method = pruning.method
    if method == "static":
        return
    if not isinstance(agent, OffPolicyConfig):
        raise ConfigError(f"pruning.method={method} is for agent=sac and ddpg, not for {agent.name}")
    if storage != "masked" or pruning.pattern == "block":
        raise ConfigError(
            f"pruning.method={method} changes single weights: it needs pruning.storage=masked (or auto) "
            "and a pattern other than block"
        )
    if agent.reset_every is not None:
        raise ConfigError(f"give one of pruning.method={method} and agent.reset_every, not both")


def check_sharing(agent: AgentConfig, storage: Storage, sparsities: Mapping[str, float]) -> None:
    """Weights that several agents use, each through its own mask, are held whole."""
    pruned = any(sparsity for name, sparsity in sparsities.items() if name != "mixer")
    if sharing_of(agent) == "masks" and storage != "masked" and pruned:
        raise ConfigError(
            f"agent.sharing=masks: pruning.storage={storage} holds the places of one mask, and here "
            "each agent has its own; give pruning.storage=masked (or auto), or agent.sharing=none"
        )


def check_parametrisation(
    pruning: PruningConfig, agent: AgentConfig, sparsities: Mapping[str, float]
) -> None:
    """A parametrisation needs a base, one density of each network, and the initial scale for itself."""
    if pruning.initial_scale == "kept" and any(sparsities.values()):
        if isinstance(agent, AzopgConfig):
            raise ConfigError(
                "pruning.initial_scale=kept scales nothing: agent=azopg begins at 0; give dense"
            )
        _check_one_scale(pruning, agent)
    if not isinstance(agent, ParametrisedConfig) or agent.parametrisation == "standard":
        return
    here = f"agent.parametrisation={agent.parametrisation}"
    if agent.base_width is None:
        raise ConfigError(f"{here} is the standard one at some width; give it: agent.base_width=…")
    check_width(agent, agent.base_width)
    if agent.parametrisation == "smup" and pruning.method == "gradual":
        raise ConfigError(
            f"{here} follows the density of each layer, and pruning.method=gradual changes it while "
            "training; give agent.parametrisation=mup, or another method"
        )
    apart = [f"{name}_sparsity" for name in sparsities if _apart(pruning, name)]
    if agent.base_density < 1 and apart:
        raise ConfigError(
            f"agent.base_density={agent.base_density:g} is of all networks, and "
            f"{', '.join(f'pruning.{name}' for name in apart)} tells one apart; give base_density=1, or "
            "sparsity alone"
        )


def _apart(pruning: PruningConfig, network: str) -> bool:
    """Whether a network's sparsity was told apart; an encoder's is 0 unless it was."""
    return bool(
        getattr(pruning, f"{network}_sparsity") not in ((0.0,) if network == "encoder" else (None,))
    )


def _check_one_scale(pruning: PruningConfig, agent: AgentConfig) -> None:
    """``initial_scale=kept`` must be the only thing that follows density at the start."""
    if getattr(agent, "parametrisation", None) == "smup":
        raise ConfigError(
            "pruning.initial_scale=kept and agent.parametrisation=smup would both scale the initial "
            "weights by density; give pruning.initial_scale=dense"
        )
    if pruning.method == "gradual":
        raise ConfigError(
            "pruning.initial_scale=kept scales what a mask left at the start, and "
            "pruning.method=gradual leaves everything then; give dense"
        )


def check_curriculum(curriculum: CurriculumConfig, agent: AgentConfig) -> None:
    """A curriculum needs an agent that learns from rollouts, and scores in units of its values."""
    if isinstance(curriculum, NoCurriculum):
        return
    if not isinstance(agent, OnPolicyConfig):
        raise ConfigError(
            f"curriculum.method={curriculum.method} is for agents that learn from rollouts (ppo, paac, "
            f"dqn), not for {agent.name}"
        )
    if isinstance(curriculum, PairedConfig) and not isinstance(agent, ActorCriticConfig):
        raise ConfigError(f"curriculum.method=paired is for agents with an actor, not for {agent.name}")
    curriculum.check(agent.num_envs)
    if isinstance(curriculum, ReplayingConfig) and curriculum.score == "max_mc":
        changed = {"normalise_rewards": agent.normalise_rewards, "reward_clip": agent.reward_clip}
        for key, value in changed.items():
            if value:
                raise ConfigError(
                    f"curriculum.score=max_mc compares returns with values, and agent.{key}={value} has "
                    "these of other rewards; give another score, or leave rewards as they are"
                )


def check_sparsities(
    pruning: PruningConfig, agent: AgentConfig, sparsity: float, sparsities: Mapping[str, float]
) -> None:
    """A sparsity must be that of a network which the agent has.

    Args:
        pruning, agent, sparsity: of the run.
        sparsities: network → what comes of them.
    """
    networks = agent.NETWORKS
    for name in ("actor", "critic", "encoder", "mixer"):
        if getattr(pruning, f"{name}_sparsity") and name not in networks:
            raise ConfigError(
                f"pruning.{name}_sparsity={getattr(pruning, f'{name}_sparsity'):g} prunes nothing: "
                f"agent={agent.name} has no {name}, only {' and '.join(networks)}"
            )
    if sparsity and not any(sparsities.values()):
        told = ", ".join(f"{name} {value:g}" for name, value in sparsities.items())
        raise ConfigError(
            f"sparsity={sparsity:g} prunes nothing: pruning.*_sparsity set {told}; give sparsity=0"
        )
    if sparsity not in sparsities.values():
        told = ", ".join(f"{name} {value:g}" for name, value in sparsities.items())
        raise ConfigError(
            f"sparsity={sparsity:g} is of no network, and the run would be listed under it: "
            f"pruning.*_sparsity set {told}; give one of these as sparsity"
        )
    if pruning.min_fan_out > max(pruning.fan_out, type(pruning)().min_fan_out):
        why = "reads every input" if pruning.pattern == "block" else "says where each weight is"
        raise ConfigError(
            f"pruning.min_fan_out={pruning.min_fan_out} is for the patterns unstructured and "
            f"constant_fan_in; {pruning.pattern} {why}: give 0"
        )


def check_own(agent: AgentConfig, storage: Storage) -> None:
    """What a user's network cannot do."""
    if not isinstance(agent.network, OwnCode):
        return
    if storage == "block":
        raise ConfigError(
            f"agent.network={agent.network} computes in a layout of its own, and pruning.storage=block "
            "wants another; give masked or compact"
        )
    if isinstance(agent, RememberingConfig) and agent.memory != "none":
        raise ConfigError(
            f"agent.memory={agent.memory} is for networks of ours; "
            f"agent.network={agent.network} remembers nothing"
        )


def check_width(agent: AgentConfig, width: int) -> None:
    """LayerNorm leaves nothing of one number, and of two their order."""
    normed = agent.network == "simba" or isinstance(agent, StreamingConfig)
    if normed and width < LEAST_NORMED:
        raise ConfigError(
            f"width={width} is out of range for agent.network={agent.network}: its LayerNorms make "
            f"{'a constant of one unit' if width == 1 else 'a sign of two units'}; "
            f"allowed: >= {LEAST_NORMED}"
        )


def check_updates(agent: AgentConfig, interactions: int, env_steps: int) -> None:
    """A run must learn, and as often as it says."""
    if not isinstance(agent, ReplayConfig):
        return
    wanted, ratio = agent.updates_per_interaction, agent.updates_ratio
    if abs(ratio - Fraction(wanted)) > Fraction(wanted) / 100:
        raise ConfigError(
            f"agent.updates_per_interaction={wanted:g} is no fraction of whole numbers up to "
            f"{agent.MOST_INTERACTIONS}; the nearest is {max(ratio, Fraction(1, 1000))}, allowed: "
            f">= 1/{agent.MOST_INTERACTIONS}"
        )
    random = agent.random_of(interactions)
    if (interactions - random) * ratio < 1:
        raise ConfigError(
            f"env_steps={env_steps} makes no update: of {interactions:,} interactions "
            f"{random:,} are random, and agent.updates_per_interaction={wanted:g}; raise either"
        )


def raised(agent: AgentConfig, width: int) -> dict[str, tuple[int, int]]:
    """What would be too narrow for its LayerNorm beside a critic of this width → units that its ratio
    gives, and that it has."""
    found = {}
    for part in ("actor", "feature"):
        ratio = getattr(agent, f"{part}_width_ratio", None)
        if ratio is not None:
            units: int = getattr(agent, f"{part}_width")(width)
            found[part] = max(1, round(ratio * width)), units
    return {part: (wanted, given) for part, (wanted, given) in found.items() if wanted != given}
