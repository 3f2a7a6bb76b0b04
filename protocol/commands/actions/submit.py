"""Hands a request over, and goes."""

import json
import sys
from pathlib import Path

from asterism.orchestrator.core.request import Budget, Request
from asterism.protocol.commands.actions.connection import connected
from asterism.protocol.commands.actions.running import run_to_exit
from asterism.protocol.commands.ending import ExitCode
from asterism.protocol.commands.options import Output


def submit(
    request: Request,
    request_id: str,
    budget: Budget | None,
    address: str | None,
    token_file: Path | None,
    output: Output,
) -> None:
    """Submits, and prints the constellation's id."""
    run_to_exit(_submit(request, request_id, budget, address, token_file, output))


async def _submit(
    request: Request,
    request_id: str,
    budget: Budget | None,
    address: str | None,
    token_file: Path | None,
    output: Output,
) -> ExitCode:
    async with connected(address, token_file) as client:
        submitted = await client.submit(request, request_id=request_id, budget=budget)
    if output is Output.JSON:
        answer = {"id": submitted.constellation, "request_id": request_id, "is_new": submitted.is_new}
        sys.stdout.write(json.dumps(answer) + "\n")
    else:
        sys.stdout.write(f"{submitted.constellation}\n")
    return ExitCode.SUCCEEDED


def budget_of(
    stars: int | None, seconds: float | None, tokens: int | None = None, replans: int | None = None
) -> Budget | None:
    """The budget that was asked for; None leaves it to the orchestrator."""
    if all(value is None for value in (stars, seconds, tokens, replans)):
        return None
    usual = Budget()
    return Budget(
        stars=usual.stars if stars is None else stars,
        attempts=usual.attempts,
        seconds=usual.seconds if seconds is None else seconds,
        tokens=tokens,
        replans=usual.replans if replans is None else replans,
    )
