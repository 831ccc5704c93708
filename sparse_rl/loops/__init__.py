"""What drives agents in environments, from one log point to the next: compiled, on the host
(:mod:`~sparse_rl.loops.hosted`), and zero-order workers (:mod:`~sparse_rl.loops.zero_order`).

Not here: how an agent learns (:mod:`sparse_rl.agents`), what many runs share (:mod:`sparse_rl.runs`).
"""

from sparse_rl.loops.contract import Beside, HostedLoop, Loop, PureLoop, Workload
from sparse_rl.loops.coordinates import SIZE, Coordinates
from sparse_rl.loops.curriculum import CurriculumLoop
from sparse_rl.loops.evaluation import Whole, whole_episodes
from sparse_rl.loops.held_out import Act, Attempts, policy, regret, try_set, worst
from sparse_rl.loops.hosted.off_policy import HostOffPolicyLoop
from sparse_rl.loops.hosted.on_policy import HostLoop
from sparse_rl.loops.hosted.sessions import seeds_of
from sparse_rl.loops.hosted.streaming import HostStreamingLoop
from sparse_rl.loops.learning import LearnerState
from sparse_rl.loops.making import agent_of, drawn, make_loop
from sparse_rl.loops.off_policy import OffPolicyLoop
from sparse_rl.loops.on_policy import OnPolicyLoop
from sparse_rl.loops.paired import PairedLoop
from sparse_rl.loops.probing import TREATMENTS, Prober
from sparse_rl.loops.recalling import RecallingLoop
from sparse_rl.loops.replaying import RunState, interaction_keys
from sparse_rl.loops.rollout import view_of
from sparse_rl.loops.streaming import StreamingLoop
from sparse_rl.loops.zero_order.master import MasterLoop

__all__ = [
    "SIZE",
    "TREATMENTS",
    "Act",
    "Attempts",
    "Beside",
    "Coordinates",
    "CurriculumLoop",
    "HostLoop",
    "HostOffPolicyLoop",
    "HostStreamingLoop",
    "HostedLoop",
    "LearnerState",
    "Loop",
    "MasterLoop",
    "OffPolicyLoop",
    "OnPolicyLoop",
    "PairedLoop",
    "Prober",
    "PureLoop",
    "RecallingLoop",
    "RunState",
    "StreamingLoop",
    "Whole",
    "Workload",
    "agent_of",
    "drawn",
    "interaction_keys",
    "make_loop",
    "policy",
    "regret",
    "seeds_of",
    "try_set",
    "view_of",
    "whole_episodes",
    "worst",
]
