"""`asterism run`."""

from pathlib import Path
from typing import Annotated

import typer

from asterism.protocol.commands.options import (
    Address,
    BudgetReplans,
    BudgetSeconds,
    BudgetStars,
    BudgetTokens,
    Form,
    Output,
    OutputFormat,
    RequestId,
    Source,
    TokenFile,
)


def run(
    source: Source,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, max=64, help="Local workers, if it starts its own (3).", show_default=False),
    ] = None,
    form: Form = None,
    graph_file: Annotated[
        Path | None,
        typer.Option("--graph", help="Also write the final graph (.svg, .json, .dot, .mmd).", show_default=False),
    ] = None,
    request_id: RequestId = None,
    max_stars: BudgetStars = None,
    max_seconds: BudgetSeconds = None,
    max_tokens: BudgetTokens = None,
    max_replans: BudgetReplans = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the answer.")] = False,
    address: Address = None,
    token_file: TokenFile = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Run a request and print its answer.

    Without an address (flag, environment or file) it starts an orchestrator and workers of its own on this machine,
    and ends them with the request. Ctrl-C cancels the request, a second one leaves at once.
    """
    from asterism.protocol.commands.actions import run as action
    from asterism.protocol.commands.actions.submit import budget_of

    action.run(
        source,
        form=form,
        workers=workers,
        graph_file=graph_file,
        request_id=request_id,
        budget=budget_of(max_stars, max_seconds, max_tokens, max_replans),
        is_quiet=quiet,
        address=address,
        token_file=token_file,
        output=output,
    )
