"""`asterism workers`."""

from typing import Annotated, TypeAlias

import typer

from asterism.orchestrator.core.ids import WorkerId
from asterism.protocol.commands.options import Address, Output, OutputFormat, TokenFile

app = typer.Typer(help="List the workers; drain and label them.", invoke_without_command=True)
WorkerName: TypeAlias = Annotated[str, typer.Argument(metavar="NAME", help="As `asterism workers` shows it.")]


@app.callback()
def workers(
    context: typer.Context,
    address: Address = None,
    token_file: TokenFile = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """List the workers; drain and label them."""
    if context.invoked_subcommand is None:
        from asterism.protocol.commands.actions import workers as action

        action.list_workers(address, token_file, output)
        return
    given = {
        "--address": address is not None,
        "--token-file": token_file is not None,
        "--output": output != Output.TEXT,
    }
    if misplaced := [option for option, is_given in given.items() if is_given]:
        raise typer.BadParameter(f"give it after the word {context.invoked_subcommand}", param_hint=misplaced[0])


@app.command("drain")
def drain(
    name: WorkerName, address: Address = None, token_file: TokenFile = None, output: OutputFormat = Output.TEXT
) -> None:
    """Give a worker no new stars; what runs goes on."""
    from asterism.protocol.commands.actions import workers as action

    action.drain(WorkerId(name), True, address, token_file, output)


@app.command("undrain")
def undrain(
    name: WorkerName, address: Address = None, token_file: TokenFile = None, output: OutputFormat = Output.TEXT
) -> None:
    """Give a worker stars again."""
    from asterism.protocol.commands.actions import workers as action

    action.drain(WorkerId(name), False, address, token_file, output)


@app.command("label")
def label(
    name: WorkerName,
    labels: Annotated[list[str], typer.Argument(metavar="KEY=VALUE|KEY-", help="Set a label, or remove it.")],
    address: Address = None,
    token_file: TokenFile = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Set or remove an operator's labels of a worker; they win over its own."""
    from asterism.protocol.commands.actions import workers as action

    action.label(WorkerId(name), labels, address, token_file, output)
