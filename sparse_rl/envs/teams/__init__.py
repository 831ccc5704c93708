"""Environments of many agents (:class:`~sparse_rl.envs.contract.TeamEnv`), through public libraries.

Nothing that a library declares of sizes is believed: they are those of what it computes.
"""

from sparse_rl.envs.teams import jaxmarl, jumanji
from sparse_rl.envs.teams.naming import named, with_names
from sparse_rl.envs.teams.relabelling import relabelled

__all__ = ["jaxmarl", "jumanji", "named", "relabelled", "with_names"]
