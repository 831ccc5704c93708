"""Settings that are allowed one by one, and together make a run that is not what its label says."""

from fractions import Fraction
from typing import TYPE_CHECKING

from sparse_rl.settings.agents import LEAST_NORMED, AgentConfig, OffPolicyConfig, ReplayConfig
from sparse_rl.settings.schema import ConfigError

if TYPE_CHECKING:
    from sparse_rl.settings.run import RunConfig


def check_method(config: "RunConfig") -> None:
    """Masks that change need an agent and a storage that can change them."""
    method, agent = config.pruning.method, config.agent
    if method == "static":
        return
    if not isinstance(agent, OffPolicyConfig):
        raise ConfigError(f"pruning.method={method} is for agent=sac and ddpg, not for {agent.name}")
    if config.storage.storage != "masked" or config.pruning.pattern == "block":
        raise ConfigError(
            f"pruning.method={method} changes single weights: it needs pruning.storage=masked (or auto) "
            "and a pattern other than block"
        )
    if agent.reset_every is not None:
        raise ConfigError(f"give one of pruning.method={method} and agent.reset_every, not both")


def check_sparsities(config: "RunConfig") -> None:
    """A sparsity must be that of a network which the agent has."""
    pruning, networks = config.pruning, config.agent.NETWORKS
    for name in ("actor", "critic", "encoder"):
        if getattr(pruning, f"{name}_sparsity") and name not in networks:
            raise ConfigError(
                f"pruning.{name}_sparsity={getattr(pruning, f'{name}_sparsity'):g} prunes nothing: "
                f"agent={config.agent.name} has no {name}, only {' and '.join(networks)}"
            )
    if config.sparsity and not any(config.sparsities.values()):
        told = ", ".join(f"{name} {value:g}" for name, value in config.sparsities.items())
        raise ConfigError(
            f"sparsity={config.sparsity:g} prunes nothing: pruning.*_sparsity set {told}; "
            "give sparsity=0"
        )
    if pruning.min_fan_out > max(pruning.fan_out, type(pruning)().min_fan_out):
        why = "reads every input" if pruning.pattern == "block" else "says where each weight is"
        raise ConfigError(
            f"pruning.min_fan_out={pruning.min_fan_out} is for the patterns unstructured and "
            f"constant_fan_in; {pruning.pattern} {why}: give 0"
        )


def check_width(config: "RunConfig") -> None:
    """LayerNorm leaves nothing of one number, and of two their order."""
    if config.agent.network == "simba" and config.width < LEAST_NORMED:
        raise ConfigError(
            f"width={config.width} is out of range for agent.network=simba: its LayerNorms make "
            f"{'a constant of one unit' if config.width == 1 else 'a sign of two units'}; "
            f"allowed: >= {LEAST_NORMED}"
        )


def check_updates(config: "RunConfig") -> None:
    """A run must learn, and as often as it says."""
    agent = config.agent
    if not isinstance(agent, ReplayConfig):
        return
    wanted, ratio = agent.updates_per_interaction, agent.updates_ratio
    if abs(ratio - Fraction(wanted)) > Fraction(wanted) / 100:
        raise ConfigError(
            f"agent.updates_per_interaction={wanted:g} is no fraction of whole numbers up to "
            f"{agent.MOST_INTERACTIONS}; the nearest is {max(ratio, Fraction(1, 1000))}, allowed: "
            f">= 1/{agent.MOST_INTERACTIONS}"
        )
    random = agent.random_of(config.interactions)
    if (config.interactions - random) * ratio < 1:
        raise ConfigError(
            f"env_steps={config.env_steps} makes no update: of {config.interactions:,} interactions "
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
