"""Invariant 16: when all jobs have ended, owners and executors have nothing more to say."""

from typing import Final

from meshd_node.core.executor.config import ExecutorConfig
from meshd_sim.jobs.rules.require import require

# The last recalls are on their way; and a wide window is taken back once, when its owner was idle.
SETTLED_S: Final = 20.0 + ExecutorConfig().window_idle_ms / 1_000


def check_silence(last_word: str, said_at: float, ended_at: float) -> None:
    """`ended_at`: when both the last job and the last fault were over."""
    late = said_at - ended_at
    require(late <= SETTLED_S, 16, f"a {last_word} was sent {late:.1f} s after the last job ended")
