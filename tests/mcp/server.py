"""A real server of the SDK, for tests: over standard input and output, or over HTTP at a port that it writes to a file.

`python -m tests.mcp.server stdio|http FOLDER`: what it does leaves traces in the folder.
"""

import asyncio
import os
import socket
import sys
from pathlib import Path

import uvicorn
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.types import ToolAnnotations

FOLDER = Path(sys.argv[2]) if len(sys.argv) > 2 else Path()
server = MCPServer("notes", version="7.1")


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool(annotations=ToolAnnotations(idempotent_hint=True))
def put(name: str, text: str) -> str:
    """Keep a text."""
    (FOLDER / name).write_text(text)
    return "kept $1 {{x}}"


@server.tool()
def environment() -> list[str]:
    """Names of variables."""
    return sorted(os.environ)


@server.tool()
def fail(why: str) -> str:
    """Fail."""
    raise ValueError(why)


@server.tool()
def large(size: int) -> str:
    """A long text."""
    return "x" * size


@server.tool()
def die() -> str:
    """End the server in the middle of the call."""
    os._exit(3)


@server.tool()
async def wait(name: str) -> str:
    """Wait for ever, and tell when that was stopped."""
    (FOLDER / name).write_text("begun")
    try:
        await asyncio.Event().wait()
    finally:
        (FOLDER / name).write_text("stopped")
    return ""


@server.tool(name="odd/name")
def odd() -> str:
    """A name that needs another one here."""
    return "odd"


@server.tool()
def header(context: Context) -> str:
    """A header of the request that brought this call."""
    request = context.request_context.request
    return "" if request is None else str(request.headers.get("x-mine"))


class _Announcing(uvicorn.Server):
    """Says when it serves: whoever reads the pipe goes on."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        (FOLDER / "ready").write_text("ready")


def main() -> None:
    with (FOLDER / "starts").open("a") as file:
        file.write(f"{os.getpid()}\n")
    if sys.argv[1] == "stdio":
        server.run("stdio")
        return
    listening = socket.create_server(("127.0.0.1", int(sys.argv[3]) if len(sys.argv) > 3 else 0))
    (FOLDER / "port").write_text(str(listening.getsockname()[1]))
    config = uvicorn.Config(server.streamable_http_app(), log_level="error")
    asyncio.run(_Announcing(config).serve([listening]))


if __name__ == "__main__":
    main()
