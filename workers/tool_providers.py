"""Puts a worker's tools together from its settings, and says loudly what does not hold here."""

import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from types import MappingProxyType

import structlog

from asterism.agents.tools import TOOLS
from asterism.workers.mcp.provider import open_mcp
from asterism.workers.sandbox.confinement import Confinement, find_confinement
from asterism.workers.sandbox.sandbox import Sandbox
from asterism.workers.tool_pool import ToolPool
from asterism.workers.tool_settings import McpSettings, ToolSettings
from asterism.workers.tools import Toolbox, ToolProvider

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def open_tools(
    settings: ToolSettings, servers: Mapping[str, McpSettings] = MappingProxyType({}), *, at_once: int
) -> AsyncIterator[Toolbox]:
    """Every tool of this worker, at most `at_once` calls of a kind at a time."""
    quick = {name: spec for name, spec in TOOLS.items() if spec.is_quick}
    slow = [spec.description for spec in TOOLS.values() if not spec.is_quick]
    providers: list[ToolProvider] = [ToolPool(slow, max_processes=at_once)]
    if settings.enable:
        confinement = await find_confinement(settings.user)
        if may_run(settings, confinement):
            providers.append(Sandbox(settings, confinement, at_once=at_once))
    async with AsyncExitStack() as stack:
        if servers:
            providers.append(await stack.enter_async_context(open_mcp(servers)))
        yield await stack.enter_async_context(Toolbox(providers, quick))


def may_run(settings: ToolSettings, confinement: Confinement) -> bool:
    """Whether the tools that touch this machine may be offered; logs what holds, and a warning where nothing does."""
    tools = sorted(settings.enable)
    if confinement.is_confined:
        _log.info("tools are confined", tools=tools, holds=confinement.holds)
        return True
    if settings.unconfined and sys.platform != "win32":
        _log.warning(
            "tools run UNCONFINED: they reach whatever this user does; only the limits of a process hold",
            tools=tools,
            why=confinement.holds,
        )
        return True
    _log.warning(
        "tools are NOT OFFERED: this machine cannot confine them (tools.unconfined = true runs them all the same)",
        tools=tools,
        why=confinement.holds,
    )
    return False
