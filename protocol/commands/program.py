"""From the words of a command line to the end of a command: found by name, only its own module is imported."""

import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points, version
from typing import Annotated, Final, NoReturn

import typer

from asterism.orchestrator.core.errors import AsterismError
from asterism.protocol.commands.ctrl_c import take_back
from asterism.protocol.commands.ending import ExitCode, advice, print_error
from asterism.protocol.commands.streams import give_up_stdout, is_broken_pipe, prepare_streams, words_of

_GROUP: Final = "asterism.commands"
_EXTRAS: Final = {
    "asterism.orchestrator": "orchestrator",
    "asterism.planner": "orchestrator",
    # What it edits is a plan file, which the planner's room reads.
    "asterism.protocol.commands.edit": "orchestrator",
    "asterism.workers": "worker",
}
"""Room, or command, -> the extra that brings what its commands import. The rooms' code itself is always there."""

_TAKING_CTRL_C: Final = ("asterism.protocol.", "asterism.orchestrator.up")
"""How the module of a command begins that does nothing to be ended with care before `run_to_exit` takes Ctrl-C."""


def run_program(given: list[str]) -> NoReturn:
    """Runs one command and exits with its code."""
    commands = {point.name: point for point in entry_points(group=_GROUP)}
    chosen = given[0] if given and given[0] in commands else None  # only --help and --version may stand before it
    points = [commands[chosen]] if chosen else [] if given == ["--version"] else list(commands.values())
    prepare_streams()
    try:
        try:
            program = _program(points)
            if chosen is not None and not commands[chosen].module.startswith(_TAKING_CTRL_C):
                take_back()
            program(args=given, prog_name="asterism")
        finally:
            sys.stdout.flush()  # else a fault of it would come up behind our back
    except AsterismError as error:
        print_error(error.message, advice(error, chosen or ""))
        sys.exit(ExitCode.of(error))
    except OSError as error:
        if error.errno is None:
            raise  # not the system's word: a deadline that nobody caught is a fault of ours
        if not is_broken_pipe(error):
            print_error(words_of(error))
        give_up_stdout()
        sys.exit(ExitCode.FAILED if is_broken_pipe(error) else ExitCode.USAGE)
    except ModuleNotFoundError as error:
        extra = None if chosen is None else _missing_extra(commands[chosen], error)
        if extra is None:
            raise
        print_error(
            f"asterism {chosen} needs the {extra} extra ({error.name} is not installed)",
            f"pip install 'asterism[{extra}]'",
        )
        sys.exit(ExitCode.USAGE)
    sys.exit(ExitCode.SUCCEEDED)


def _program(points: Sequence[EntryPoint]) -> typer.Typer:
    """The program with the commands of `points` only."""
    app = typer.Typer(
        name="asterism",
        callback=_asterism,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # rich would double the time of --help
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    order = {name: place for place, name in enumerate(_ORDER)}
    for point in sorted(points, key=lambda point: (order.get(point.name, len(order)), point.name)):
        command = point.load()
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=point.name)
        else:
            app.command(point.name)(command)
    return app


_ORDER: Final = (
    *("run", "up", "submit", "watch", "get", "fetch", "list", "cancel", "retry", "edit", "graph", "history", "replay"),
    *("workers", "serve", "work"),
)
"""How `--help` lists them: what a newcomer needs first. Others follow by name."""


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"asterism {version('asterism')}")
        raise typer.Exit


def _asterism(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """One request becomes a task constellation that runs on your machines and is rewritten as results stream back."""


def _missing_extra(point: EntryPoint, error: ModuleNotFoundError) -> str | None:
    """The extra that would bring the module which is missing, or None where the fault is another."""
    if error.name is None or error.name.split(".")[0] == "asterism":
        return None
    return next((extra for room, extra in _EXTRAS.items() if point.module.startswith(room)), None)
