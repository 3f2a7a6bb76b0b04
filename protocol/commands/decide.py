"""`asterism approve`, `reject`, `replan`, `pause` and `resume`: what people do to a request while it runs."""

from typing import Annotated

import typer

from asterism.orchestrator.core.ids import ConstellationId, StarId
from asterism.protocol.commands.options import (
    Address,
    ConstellationArgument,
    Output,
    OutputFormat,
    StarArgument,
    TokenFile,
)

WhyDecided = Annotated[str, typer.Option("--reason", help="Kept with the request, for who asks later.")]
Value = Annotated[
    str | None,
    typer.Option("--value", metavar="JSON", help="Goes with the approval, for what comes next.", show_default=False),
]


def approve(
    constellation: ConstellationArgument,
    star: StarArgument,
    reason: WhyDecided = "",
    value: Value = None,
    address: Address = None,
    token_file: TokenFile = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Say yes to a star that waits for a person: the stars behind it go on."""
    from asterism.protocol.commands.actions import decide as action

    action.decide(ConstellationId(constellation), StarId(star), True, reason, value, address, token_file, output)


def reject(
    constellation: ConstellationArgument,
    star: StarArgument,
    reason: WhyDecided = "",
    address: Address = None,
    token_file: TokenFile = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Say no to a star that waits for a person: it has failed, and what needs it is skipped."""
    from asterism.protocol.commands.actions import decide as action

    action.decide(ConstellationId(constellation), StarId(star), False, reason, None, address, token_file, output)


def replan(
    constellation: ConstellationArgument,
    why: Annotated[str, typer.Argument(metavar="WHY", help="What is to be changed, in words, for the model.")],
    address: Address = None,
    token_file: TokenFile = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Have a model rewrite what has not begun of a request; what it changes is in `asterism watch` and the graph."""
    from asterism.protocol.commands.actions import decide as action

    action.replan(ConstellationId(constellation), why, address, token_file, output)


def pause(
    constellation: ConstellationArgument,
    reason: WhyDecided = "",
    address: Address = None,
    token_file: TokenFile = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Hold a request back: no star of it begins any more, what runs goes on, and so does its budget of seconds."""
    from asterism.protocol.commands.actions import decide as action

    action.pause(ConstellationId(constellation), True, reason, address, token_file, output)


def resume(
    constellation: ConstellationArgument,
    reason: WhyDecided = "",
    address: Address = None,
    token_file: TokenFile = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Let a paused request go on."""
    from asterism.protocol.commands.actions import decide as action

    action.pause(ConstellationId(constellation), False, reason, address, token_file, output)
