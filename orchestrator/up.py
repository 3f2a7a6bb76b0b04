"""`asterism up`."""

from pathlib import Path
from typing import Annotated

import typer

from asterism.protocol.commands.options import Output, OutputFormat


def up(
    workers: Annotated[int, typer.Option("--workers", min=0, max=256, help="Local workers.")] = 3,
    listen: Annotated[str, typer.Option("--listen", help="HOST:PORT; port 0 takes a free one.")] = "127.0.0.1:7465",
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", help="Database and logs; by default the user's data folder.", show_default=False),
    ] = None,
    slots: Annotated[
        int | None, typer.Option("--slots", min=1, help="Stars at once on each worker.", show_default=False)
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", help="A model that the workers load.", show_default=False)
    ] = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Start an orchestrator and local workers, and keep them until Ctrl-C.

    One ready line goes to stdout when all workers have joined. Ctrl-C or SIGTERM drains and ends every process; so
    does the end of any of them, with a message that names it.
    """
    from asterism.protocol.commands.actions import up as action

    models = tuple(word for name in model or () for word in ("--model", name))
    action.up(data_dir, listen, workers, slots, models, output)
