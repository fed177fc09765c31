"""Who may have what: text -> CompiledPolicy, and the decision over it.

Pure: no clock, no environment, no files, no network. The operator's tools (`lint`, `explain`,
`cases`, `diff`, `matrix`) are in `review`, which a function never loads.
"""

from tokenvend.policy.compiled import CompiledPolicy, Grant, Mode
from tokenvend.policy.compiler import check_platform, compile_policy
from tokenvend.policy.decision import Decision, decide, grants_of
from tokenvend.policy.reading.problems import PolicyError, Problem

__all__ = [
    "CompiledPolicy",
    "Decision",
    "Grant",
    "Mode",
    "PolicyError",
    "Problem",
    "check_platform",
    "compile_policy",
    "decide",
    "grants_of",
]
