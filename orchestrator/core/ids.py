"""The identifiers of the core, and the one rule that every name must keep."""

import re
from functools import lru_cache
from typing import NewType

ConstellationId = NewType("ConstellationId", str)
"""Chosen by the orchestrator; rises with time, so that rows of one request lie together."""
StarId = NewType("StarId", str)
"""Unique within its constellation; chosen by the planner."""
WorkerId = NewType("WorkerId", str)
"""The name of the identity that a worker joined with."""
FencingToken = NewType("FencingToken", int)
"""Grows with every lease of the whole orchestrator; a message with an old one changes nothing."""

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_.~-]{0,63}"
"""Star, worker, program and tool names: no separators, so that none can escape a folder or a URL."""
_NAME = re.compile(NAME_PATTERN)


def is_replan_name(star: str) -> bool:
    """Whether it is `replan.N`: these names are kept for the stars that ask for a rewrite."""
    return star.startswith("replan.") and star.removeprefix("replan.").isdecimal()


@lru_cache(16_384)
def is_name(text: str) -> bool:
    """Whether `text` may name a star, a worker, a program or a tool."""
    return _NAME.fullmatch(text) is not None
