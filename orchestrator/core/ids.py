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


def successor(star: StarId) -> StarId:
    """The name of the star that retries `star`: `b`, `b~2`, `b~3`."""
    name, tilde, number = star.rpartition("~")
    if tilde and number.isdecimal():
        return StarId(f"{name}~{int(number) + 1}")
    return StarId(f"{star}~2")


def first_of(star: StarId) -> StarId:
    """The name of the star that `star` retries, or its own."""
    return StarId(star.rpartition("~")[0]) if is_successor(star) else star


def is_successor(star: StarId) -> bool:
    """Whether `star` has the name of a retry."""
    _, tilde, number = star.rpartition("~")
    return bool(tilde) and number.isdecimal()
