"""Agents: one file per algorithm, and what families of them share; each is a handful of pure functions
over one state (:mod:`~sparse_rl.agents.contract`).

Not here: what drives them in environments (:mod:`sparse_rl.loops`), and what they remember
(:mod:`sparse_rl.experience`).
"""

from sparse_rl.agents import (
    azopg,
    ddpg,
    dqn,
    drq,
    gradients,
    mixing,
    paac,
    ppo,
    pqn_vdn,
    sac,
    stream_ac,
    stream_q,
)
from sparse_rl.agents.actions import actions_of
from sparse_rl.agents.azopg import AzopgAgent, AzopgState, of_kernel
from sparse_rl.agents.batches import ordered
from sparse_rl.agents.choosing import exploration
from sparse_rl.agents.comparators import compare
from sparse_rl.agents.contract import (
    ActingAgent,
    Experience,
    Happened,
    Learned,
    Learner,
    Memories,
    Metrics,
    OffPolicyAgent,
    OnPolicyAgent,
    RecallingAgent,
    RunInputs,
    StreamingAgent,
    Streams,
    View,
)
from sparse_rl.agents.pruned import acting

OFF_POLICY = {"sac": sac.make, "ddpg": ddpg.make, "drq": drq.make}
"""Algorithms that learn from a replay buffer, by name."""
RECALLING = {"iql": mixing.make, "vdn": mixing.make, "qmix": mixing.make}
"""Those of teams that do."""
ON_POLICY = {
    "ppo": ppo.make, "paac": paac.make, "dqn": dqn.make, "ippo": ppo.make, "mappo": ppo.make,
    "pqn_vdn": pqn_vdn.make,
}  # fmt: skip
"""Those that learn from rollouts, each once."""
STREAMING = {"stream_ac": stream_ac.make, "stream_q": stream_q.make}
"""Those that learn from single transitions, each once."""

__all__ = [
    "OFF_POLICY",
    "ON_POLICY",
    "RECALLING",
    "STREAMING",
    "ActingAgent",
    "AzopgAgent",
    "AzopgState",
    "Experience",
    "Happened",
    "Learned",
    "Learner",
    "Memories",
    "Metrics",
    "OffPolicyAgent",
    "OnPolicyAgent",
    "RecallingAgent",
    "RunInputs",
    "StreamingAgent",
    "Streams",
    "View",
    "acting",
    "actions_of",
    "azopg",
    "compare",
    "exploration",
    "gradients",
    "of_kernel",
    "ordered",
]
