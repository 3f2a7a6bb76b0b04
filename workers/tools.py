"""The tools of a worker, wherever they run: described in one place, and no call begins whose arguments are wrong."""

import asyncio
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, Protocol

import structlog

from asterism.agents.asks import Effect, Json, ToolDescription, ToolError, ToolOutcome, ToolResult
from asterism.agents.json_check import JsonCheck
from asterism.agents.tools import ToolSpec
from asterism.orchestrator.core.errors import Misconfigured
from asterism.orchestrator.core.ids import is_name

MAY_HAVE_RUN: Final = frozenset({"tool_crashed", "tool_timed_out", "tool_disconnected"})
"""Errors of which nobody knows how far the tool had come."""

MAX_TOOLS: Final = 256
"""As many as a worker may announce."""
MAX_DESCRIBED: Final = 384 * 1024
"""Characters of all schemas and summaries; programs have their share of what may be announced too."""

_log = structlog.get_logger(__name__)


class ToolProvider(Protocol):
    """Some of a worker's tools, and whatever they run in. Every error of theirs is a `ToolError`."""

    @property
    def descriptions(self) -> Sequence[ToolDescription]:
        """What it has, from the start to the end."""
        ...

    async def call(self, name: str, arguments: Mapping[str, Json], attempt: str) -> ToolOutcome:
        """Run one of its tools; `arguments` match its schema."""
        ...

    async def forget(self, attempt: str) -> None:
        """Remove what the calls of an attempt have left; not cancelled half-way."""
        ...

    async def close(self) -> None:
        """End everything that runs."""
        ...


class Toolbox:
    """The tools of this worker. Use it as an async context manager: leaving it closes what tools run in.

    Raises Misconfigured for two tools of one name. A tool that cannot be offered, for its name or its schema, is left
    out, and a warning says why: one odd tool of a foreign server is no reason to have none.
    """

    def __init__(self, providers: Sequence[ToolProvider], quick: Mapping[str, ToolSpec] = MappingProxyType({})) -> None:
        self._providers = tuple(providers)
        self._quick = {name: spec.function for name, spec in quick.items()}
        self._provider: dict[str, ToolProvider] = {}
        self._described: dict[str, ToolDescription] = {}
        self._checks: dict[str, JsonCheck] = {}
        self._characters = 0
        for spec in quick.values():
            self._add(spec.description)
        for provider in self._providers:
            for description in provider.descriptions:
                self._add(description, provider)

    def _add(self, description: ToolDescription, provider: ToolProvider | None = None) -> None:
        name = description.name
        if name in self._described:
            raise Misconfigured("tools", f"two tools have the name {name}")
        try:
            if not is_name(name):
                raise ValueError("its name has more than 64 characters, or others than letters, digits and ._~-")
            check = JsonCheck(description.schema)
            size = self._characters + len(check.text) + len(description.summary)
            if len(self._described) == MAX_TOOLS or size > MAX_DESCRIBED:
                raise ValueError(f"there are {MAX_TOOLS} tools already, or {MAX_DESCRIBED} characters of schemas")
        except ValueError as error:
            _log.warning("a tool is left out", tool=name[:200], reason=str(error))
            return
        self._characters = size
        self._described[name], self._checks[name] = description, check
        if provider is not None:
            self._provider[name] = provider

    async def __aenter__(self) -> "Toolbox":
        return self

    async def __aexit__(self, *_: object) -> None:
        for provider in self._providers:
            await provider.close()

    @property
    def descriptions(self) -> Sequence[ToolDescription]:
        """Every tool that is offered, sorted by name."""
        return [self._described[name] for name in sorted(self._described)]

    def call_quick(self, name: str, arguments: Mapping[str, Json]) -> ToolOutcome | None:
        """Run a quick tool here and now; None when `name` is none."""
        quick = self._quick.get(name)
        if quick is None:
            return None
        refusal = self._refusal(name, arguments)
        if refusal is not None:
            return refusal
        try:
            return ToolResult(quick(arguments))
        except Exception as error:  # the supervisor of quick tools: the caller gets the error as a value
            return ToolError("tool_error", f"{type(error).__name__}: {error}"[:1000])

    async def call(self, name: str, arguments: Mapping[str, Json], attempt: str = "") -> ToolOutcome:
        """Run a tool; whatever is wrong with the call, and whatever the tool does wrong, is a `ToolError`."""
        outcome = self.call_quick(name, arguments)
        if outcome is not None:
            return outcome
        provider = self._provider.get(name)
        if provider is None:
            there = ", ".join(sorted(self._described)) or "none"
            return ToolError("unknown_tool", f"no tool {name[:64]!r} here; there are {there}"[:1000], may_repeat=True)
        # Arguments may be of many megabytes: not on the event loop.
        refusal = await asyncio.to_thread(self._refusal, name, arguments)
        if refusal is not None:
            return refusal
        outcome = await provider.call(name, arguments, attempt)
        if isinstance(outcome, ToolError) and outcome.code in MAY_HAVE_RUN:
            may_repeat = outcome.may_repeat and self._described[name].effect is not Effect.NONE
            return ToolError(outcome.code, outcome.message, may_repeat=may_repeat)
        return outcome

    async def forget(self, attempt: str) -> None:
        """Remove what the calls of this attempt have left."""
        for provider in self._providers:
            await provider.forget(attempt)

    def _refusal(self, name: str, arguments: Mapping[str, Json]) -> ToolError | None:
        fault = self._checks[name].find_fault(arguments)
        return None if fault is None else ToolError("invalid_arguments", f"{name}: {fault}"[:1000])
