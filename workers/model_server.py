"""This worker's models for other programs: OpenAI's APIs at an address, started by `asterism work --serve-models`.

It speaks plain HTTP. On an address other than loopback a credential is required, and a proxy with TLS belongs before
it: the credential and all texts would travel as they are.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import structlog

from asterism.orchestrator.core.errors import Misconfigured
from asterism.protocol.channel import is_loopback, split_address
from asterism.workers.engine.seam import Engine
from asterism.workers.model_settings import ServeTable


def read_serving(
    table: ServeTable | None, address: str | None, token_file: Path | None
) -> tuple[str | None, Path | None]:
    """Where to serve and with what credential: flags win over the worker's file."""
    if table is None:
        return address, token_file
    return address or table.listen, token_file or table.token_file


def check_serving(address: str | None, credential: str | None) -> None:
    """Raises Misconfigured for an address that is none, or that others reach and nobody guards."""
    if address is None:
        return
    host, _ = split_address(address)
    if not is_loopback(host) and credential is None:
        raise Misconfigured(
            "serve-models",
            f"{address} is not loopback: that needs a credential; name its file with --serve-models-token-file",
        )


@asynccontextmanager
async def serve_models(
    address: str | None, credential: str | None, engines: Mapping[str, Engine]
) -> AsyncIterator[None]:
    """Serves while the body runs; does nothing without an address. Raises Misconfigured where it cannot listen."""
    if address is None:
        yield
        return
    # A third of a second to import: a worker that serves nothing never pays it.
    from asterism.workers.engine.http_server import serving

    log = structlog.get_logger(__name__)
    host, port = split_address(address)
    async with AsyncExitStack() as stack:
        try:
            url = await stack.enter_async_context(serving(engines, host=host, port=port, credential=credential))
        except OSError as error:
            raise Misconfigured("serve-models", f"cannot listen at {address}: {error.strerror or error}") from error
        log.info("serving models", url=url, models=sorted(engines))
        if not is_loopback(host):
            log.warning("models are served as plain HTTP: put a proxy with TLS before it", url=url)
        yield
