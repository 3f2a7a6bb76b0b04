"""The options that several commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

# What an orchestrator takes (`core/machine.py`, `convert/checks.py`). Larger numbers are refused here, since the fields
# of a message do not even hold all of them.
_MAX_STARS: Final = 1_000_000
_MAX_TOKENS: Final = 10**15
MAX_SEQ: Final = 2**63 - 1
"""Largest number of a journal record."""


class Output(StrEnum):
    """For whom a command prints."""

    TEXT = "text"
    JSON = "json"


Address: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--address",
        help="HOST:PORT of the orchestrator, or of several with commas.  [env: ASTERISM_ADDRESS]",
        show_default=False,
    ),
]
TokenFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        help="File with your credential (a flag would show it to every process).  [env: ASTERISM_TOKEN]",
        show_default=False,
    ),
]
OutputFormat: TypeAlias = Annotated[Output, typer.Option("--output", help="For people, or for programs.")]
Form: TypeAlias = Annotated[
    str | None,
    typer.Option("--form", help="boards, plan or text; without it the form is guessed.", show_default=False),
]
Source: TypeAlias = Annotated[
    str, typer.Argument(metavar="FILE|TEXT", help="A file, `-` for standard input, or the request itself.")
]
ConstellationArgument: TypeAlias = Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it.")]
StarArgument: TypeAlias = Annotated[str, typer.Argument(metavar="STAR", help="As `get` shows it.")]
NewestByDefault: TypeAlias = Annotated[
    str | None, typer.Argument(metavar="[ID]", help="As `list` shows it; the newest without it.", show_default=False)
]
RequestId: TypeAlias = Annotated[
    str | None,
    typer.Option("--request-id", help="Makes a repeated submit harmless; random without it.", show_default=False),
]
BudgetStars: TypeAlias = Annotated[int | None, typer.Option("--max-stars", min=1, max=_MAX_STARS, show_default=False)]
BudgetSeconds: TypeAlias = Annotated[float | None, typer.Option("--max-seconds", min=0.001, show_default=False)]
BudgetTokens: TypeAlias = Annotated[
    int | None,
    typer.Option("--max-tokens", min=1, max=_MAX_TOKENS, help="That models may write for it.", show_default=False),
]
BudgetReplans: TypeAlias = Annotated[
    int | None,
    typer.Option("--max-replans", min=0, max=100, help="How often a model may mend it (3).", show_default=False),
]

STDIN: Final = "-"
