"""The tools of others' servers, as tools of this worker: `NAME.tool`, with their schemas, bounded in time and size."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import structlog

from asterism.agents.asks import Effect, Json, ToolDescription, ToolError, ToolOutcome, ToolResult
from asterism.orchestrator.core.errors import Misconfigured
from asterism.workers.mcp.connection import Connection, Unavailable, describe
from asterism.workers.tool_settings import McpSettings

if TYPE_CHECKING:
    from mcp import Client
    from mcp.types import CallToolResult, Tool

MOST_TOOLS: Final = 256
"""Of one server; as many as a worker may announce."""
_SPARE_S: Final = 5.0
"""How long after the time of a call the client may take to say so."""
_NO_NAME: Final = re.compile(r"[^A-Za-z0-9_.~-]")
_MAX_MESSAGE: Final = 1000

_log = structlog.get_logger(__name__)


class McpTools:
    """The provider of every server's tools."""

    def __init__(self) -> None:
        self.descriptions: Sequence[ToolDescription] = ()
        self._tools: dict[str, tuple[Connection, str]] = {}

    async def add(self, connection: Connection) -> None:
        """Ask a server for its tools; one that gives none is named in a warning, and has none."""
        try:
            async with asyncio.timeout(connection.settings.start_s):
                client = await connection.client()
                tools = await _list_tools(client)
        except (Unavailable, TimeoutError) as error:
            _log.warning("a server's tools are not offered", server=connection.name, reason=str(error) or "too slow")
            return
        except Exception as error:  # the supervisor of a server's first words: the others have tools all the same
            _log.warning("a server's tools are not offered", server=connection.name, reason=describe(error))
            return
        allowed = connection.settings.allow
        version = "" if client.server_info is None else client.server_info.version[:64]
        found = []
        for tool in tools:
            name = f"{connection.name}.{_NO_NAME.sub('-', tool.name)}"
            if name in self._tools or (allowed is not None and tool.name not in allowed):
                continue
            self._tools[name] = (connection, tool.name)
            found.append(_described(name, tool, version, connection.settings))
        self.descriptions = (*self.descriptions, *found)
        _log.info("a server's tools", server=connection.name, tools=[tool.name for tool in found])

    async def call(self, name: str, arguments: Mapping[str, Json], attempt: str) -> ToolOutcome:
        """Call it; started again, a server has forgotten what it was told before."""
        connection, tool = self._tools[name]
        settings = connection.settings
        try:
            client = await connection.client()
        except Unavailable as error:
            return ToolError("tool_unavailable", str(error)[:_MAX_MESSAGE], may_repeat=True)
        try:
            async with asyncio.timeout(settings.time_s + _SPARE_S):
                result = await client.call_tool(tool, dict(arguments), settings.time_s)
        except TimeoutError:
            return ToolError("tool_timed_out", f"not finished within {settings.time_s:g} s", may_repeat=True)
        except Exception as error:  # the supervisor of a call: whatever a server does wrong is a value for the caller
            failed = _error_of(error, settings)
            if failed.code == "tool_disconnected":
                connection.drop()
            return failed
        return await asyncio.to_thread(_outcome, result, settings.result_bytes)

    async def until_lost(self, server: str) -> None:
        """Wait until a server is gone, whether anybody asked it or not."""
        lost = next(connection.is_lost for connection, _ in self._tools.values() if connection.name == server)
        await lost.wait()

    async def forget(self, attempt: str) -> None:
        """Servers know of no attempts."""

    async def close(self) -> None:
        """The connections are ended by whoever runs them."""


@asynccontextmanager
async def open_mcp(servers: Mapping[str, McpSettings]) -> AsyncIterator[McpTools]:
    """Connects to every server, all at the same time, and ends them with the context.

    Raises Misconfigured where the SDK is not installed.
    """
    if find_spec("mcp") is None:
        raise Misconfigured(f"mcp.{next(iter(servers))}", "the SDK is not installed: pip install 'asterism[mcp]'")
    provider = McpTools()
    connections = [Connection(name, settings) for name, settings in servers.items()]
    async with asyncio.TaskGroup() as group:
        for connection in connections:
            group.create_task(connection.run(), name=f"server of tools {connection.name}")
        try:
            async with asyncio.TaskGroup() as adding:
                for connection in connections:
                    adding.create_task(provider.add(connection))
            yield provider
        finally:
            for connection in connections:
                connection.close()


async def _list_tools(client: "Client") -> list["Tool"]:
    tools: list[Tool] = []
    cursor: str | None = None
    while True:
        page = await client.list_tools(cursor=cursor)
        tools += page.tools
        cursor = page.next_cursor
        if cursor is None or len(tools) >= MOST_TOOLS:
            return tools[:MOST_TOOLS]


def _described(name: str, tool: "Tool", version: str, settings: McpSettings) -> ToolDescription:
    summary = " ".join((tool.description or tool.title or tool.name).split())
    return ToolDescription(
        name=name, summary=summary, schema=tool.input_schema, effect=_effect(tool, settings), version=version
    )


def _effect(tool: "Tool", settings: McpSettings) -> Effect:
    """What the file says, else the server's hints: it is trusted as far as being named there. Nothing is called pure,
    since what is read may change."""
    if tool.name in settings.effects:
        return settings.effects[tool.name]
    hints = tool.annotations
    may_repeat = hints is not None and (hints.read_only_hint or hints.idempotent_hint)
    return Effect.IDEMPOTENT if may_repeat else Effect.NONE


def _error_of(error: Exception, settings: McpSettings) -> ToolError:
    from mcp import MCPError
    from mcp.types import CONNECTION_CLOSED, INVALID_PARAMS, REQUEST_TIMEOUT

    code = error.code if isinstance(error, MCPError) else CONNECTION_CLOSED
    message = describe(error)
    match code:
        case _ if code == REQUEST_TIMEOUT:
            return ToolError("tool_timed_out", f"not finished within {settings.time_s:g} s", may_repeat=True)
        case _ if code == INVALID_PARAMS:
            return ToolError("invalid_arguments", message)
        case _ if code == CONNECTION_CLOSED:
            return ToolError("tool_disconnected", f"the server went away: {message}", may_repeat=True)
        case _:
            return ToolError("tool_error", message)


def _outcome(result: "CallToolResult", most: int) -> ToolOutcome:
    """The structured value where there is one, else the text, else the blocks as they are."""
    texts = [block.text for block in result.content if block.type == "text"]
    if result.is_error:
        return ToolError("tool_error", "\n".join(texts)[:_MAX_MESSAGE] or "the server calls it an error")
    value: Any = result.structured_content
    if value is None and len(texts) == len(result.content):
        value = "\n".join(texts)
    elif value is None:
        value = [block.model_dump(mode="json", by_alias=True, exclude_none=True) for block in result.content]
    size = len(json.dumps(value))
    if size > most:
        return ToolError("too_large", f"the result has {size} bytes; at most {most}")
    return ToolResult(value)
