"""The settings of pruning."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from sparse_rl.pruning import Distribution, Method, Pattern, Storage
from sparse_rl.settings.schema import at_least, later, limited, share

READ: dict[Method, tuple[str, ...]] = {
    "static": (),
    "gradual": ("change_every",),
    "set": ("change_every", "change_until", "drop_share"),
    "rigl": ("change_every", "change_until", "drop_share"),
}
"""Method → which settings of changing masks it reads."""


@dataclass(frozen=True)
class PruningConfig:
    """Which weights are removed; how many is ``sparsity``."""

    pattern: Pattern = "unstructured"
    distribution: Distribution = "erdos_renyi"
    storage: Literal["auto"] | Storage = "auto"
    min_fan_in: int = at_least(0, default=1)
    min_fan_out: int = later(at_least(0, default=0))
    block_fan_in: int = at_least(1, default=1)
    method: Method = "static"
    change_every: int = at_least(1, default=1000)
    change_until: float = limited("0 < value <= 1", lambda v: 0 < v <= 1, default=0.8)
    drop_share: float = limited("0 < value < 1", lambda v: 0 < v < 1, default=0.5)
    actor_sparsity: float | None = share(default=None)
    critic_sparsity: float | None = share(default=None)
    encoder_sparsity: float = share(default=0.0)
    mixer_sparsity: float | None = later(share(default=None))
    initial_scale: Literal["dense", "kept"] = later(field(default="dense"))

    def as_read(self) -> "PruningConfig":
        """The same, with what the method does not read at the values that stood there first."""
        first: dict[str, Any] = {"change_every": 100, "change_until": 0.75, "drop_share": 0.3}
        unread = {name: value for name, value in first.items() if name not in READ[self.method]}
        return dataclasses.replace(self, **unread)

    @property
    def fan_out(self) -> int:
        """Units that read each input at least, beside what a pattern does by itself: with blocks every
        input is read, and a band says where each weight is."""
        return self.min_fan_out if self.pattern in ("unstructured", "constant_fan_in") else 0
