"""Runs a request: submit, follow, print the answer; with an orchestrator of its own where none is named."""

import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.errors import Misconfigured, NotLeading, Unreachable
from asterism.orchestrator.core.ids import ConstellationId
from asterism.orchestrator.core.request import Budget, ConstellationState, Request
from asterism.orchestrator.core.star import StarState
from asterism.orchestrator.core.values import Result
from asterism.protocol.answers import Picture
from asterism.protocol.commands.actions.answers import readable_answer
from asterism.protocol.commands.actions.connection import client_of, settings_of
from asterism.protocol.commands.actions.following import View, follow, in_sight, view_of
from asterism.protocol.commands.actions.graph import write
from asterism.protocol.commands.actions.local import (
    LocalFleet,
    LocalSetup,
    all_joined,
    claim_data_folder,
    local_fleet,
    missing_extras,
)
from asterism.protocol.commands.actions.running import Interrupts, beside, run_to_exit
from asterism.protocol.commands.actions.source import read_request
from asterism.protocol.commands.ending import ExitCode, NotCancelled, advice, print_error
from asterism.protocol.commands.options import Output
from asterism.protocol.graph.picture import History, draw_picture, read_history
from asterism.protocol.graph.render import form_of_file, render
from asterism.protocol.view.answer import answer_text
from asterism.protocol.view.json_text import json_text
from asterism.protocol.view.progress import Progress
from asterism.protocol.view.result import shown_answer
from asterism.protocol.view.wording import count, one_line, seconds

if TYPE_CHECKING:
    from asterism.protocol.client import AsyncClient


_WORKERS: Final = 3
"""Of a fleet of its own, where nobody says how many."""
_OWN: Final = "run-"
"""Begins the request ids that `run` chooses: such a request ends with its `run`."""


class _Left(Exception):
    """The user does not want to wait any more: for the end of what is cancelled, or for word that it is."""

    def __init__(self, is_cancelled: bool) -> None:
        super().__init__()
        self.is_cancelled = is_cancelled


@dataclass(frozen=True, slots=True)
class _Wish:
    """What the command line asks for."""

    request: Request
    request_id: str
    budget: Budget | None
    output: Output
    is_quiet: bool
    graph_file: Path | None


def run(
    source: str,
    *,
    form: str | None,
    workers: int | None,
    graph_file: Path | None,
    request_id: str | None,
    budget: Budget | None,
    is_quiet: bool,
    address: str | None,
    token_file: Path | None,
    output: Output,
) -> None:
    """Runs it to the end of the process's work, and exits with its code."""
    if graph_file is not None:
        _check_graph_file(graph_file)
    wish = _Wish(
        request=read_request(source, form),
        request_id=request_id or f"{_OWN}{uuid4().hex}",
        budget=budget,
        output=output,
        is_quiet=is_quiet,
        graph_file=graph_file,
    )
    interrupts = Interrupts()
    run_to_exit(_run(interrupts, wish, workers, address, token_file), interrupts)


def _check_graph_file(file: Path) -> None:
    """What is wrong with it should not be found out after the work."""
    form_of_file(file, "")
    if not file.parent.is_dir():
        raise Misconfigured("--graph", f"cannot write {file}: there is no folder {file.parent}")


async def _run(
    interrupts: Interrupts, wish: _Wish, workers: int | None, address: str | None, token_file: Path | None
) -> ExitCode:
    from asterism.protocol.client import AsyncClient

    settings = settings_of(address, token_file)
    if not settings.address.is_default:
        if workers is not None:
            raise Misconfigured("--workers", f"{settings.address.value} has its own workers; leave out one of the two")
        async with client_of(settings) as client:
            return await _follow(client, interrupts, wish, None)
    with claim_data_folder() as claim:
        if claim.held_by is not None:
            async with AsyncClient(claim.held_by) as client:
                return await _follow(client, interrupts, wish, None)
        if not wish.is_quiet:
            sys.stderr.write(f"starting an orchestrator and {count(workers or _WORKERS, 'worker')} on this machine\n")
        async with _own(claim.folder, workers or _WORKERS) as fleet, AsyncClient(fleet.address) as client:
            await fleet.guard(_cancel_orphans(client))
            # Else the door would judge the request by the workers of an earlier time.
            await fleet.guard(all_joined(client, workers or _WORKERS))
            return await fleet.guard(_follow(client, interrupts, wish, fleet))


@asynccontextmanager
async def _own(folder: Path, workers: int) -> AsyncIterator[LocalFleet]:
    """The local fleet, after a look at whether it can be started."""
    if missing := missing_extras():
        raise Misconfigured(
            "address",
            f"none is set, and to run here asterism needs pip install 'asterism[{','.join(missing)}]'",
        )
    async with local_fleet(LocalSetup(folder, workers=workers)) as fleet:
        yield fleet


async def _cancel_orphans(client: "AsyncClient") -> None:
    """Ends what an earlier `run` left behind in this data folder when it was killed: nobody waits for it any more."""
    async for summary in client.list(states=(ConstellationState.RUNNING,)):
        if summary.request_id.startswith(_OWN):
            await client.cancel(summary.id, "the program that ran it is gone")


async def _follow(client: "AsyncClient", interrupts: Interrupts, wish: _Wish, fleet: LocalFleet | None) -> ExitCode:
    constellation = (await client.submit(wish.request, request_id=wish.request_id, budget=wish.budget)).constellation
    with in_sight(constellation):
        return await _follow_to_end(client, interrupts, wish, constellation, fleet)


async def _follow_to_end(
    client: "AsyncClient",
    interrupts: Interrupts,
    wish: _Wish,
    constellation: ConstellationId,
    fleet: LocalFleet | None,
) -> ExitCode:
    progress = Progress(constellation)
    view = view_of(progress, is_live=wish.output is Output.TEXT, is_quiet=wish.is_quiet)
    try:
        with interrupts.listening(), view:
            records = await beside(
                follow(client, constellation, view),
                _cancel_at_first(interrupts, client, constellation, view),
            )
    except _Left as left:
        if fleet is not None:
            fleet.kill()
        elif not left.is_cancelled:
            error = NotCancelled(constellation, Unreachable(client.address, "it has not answered yet"))
            print_error(error.message, advice(error))
        return ExitCode.INTERRUPTED
    picture = await client.get(constellation)
    answer = await readable_answer(client, picture.constellation) if wish.output is Output.TEXT else {}
    _print(picture, answer, read_history(records), wish)
    return ExitCode.INTERRUPTED if interrupts.has_come else ExitCode.of_state(picture.constellation.state)


async def _cancel_at_first(
    interrupts: Interrupts, client: "AsyncClient", constellation: ConstellationId, view: View
) -> None:
    """Cancels the request; the view goes on until it has ended, or until there is a second interrupt."""
    await interrupts.first()
    view.say("cancelling the request; Ctrl-C again leaves at once")
    view.refresh()
    try:
        cancelling = client.cancel(constellation, "interrupted by its user")
        await beside(cancelling, _leave_at_second(interrupts, is_cancelled=False))
    except (Unreachable, NotLeading) as error:
        raise NotCancelled(constellation, error) from error
    await _leave_at_second(interrupts, is_cancelled=True)


async def _leave_at_second(interrupts: Interrupts, *, is_cancelled: bool) -> None:
    await interrupts.second()
    raise _Left(is_cancelled)


def _print(picture: Picture, answer: Mapping[str, Result], history: History, wish: _Wish) -> None:
    """The answer on stdout; what else there is to say on stderr."""
    of = picture.constellation
    if wish.output is Output.JSON:
        drawn = draw_picture(of, history, picture.waiting_for)
        sys.stdout.write(json_text({**drawn, "answer": shown_answer(of.answer())}, indent=2) + "\n")
    elif answer or of.state is ConstellationState.SUCCEEDED:
        sys.stdout.write(answer_text(answer) + "\n")
    sys.stdout.flush()
    if wish.graph_file is not None:
        write(render(form_of_file(wish.graph_file), picture, history), wish.graph_file, "--graph")
    if not wish.is_quiet:
        sys.stderr.write(f"{_summary(of, history)}\n")
    if of.state is not ConstellationState.SUCCEEDED:
        print_error(f"{of.id} {of.state.value}: {of.reason or 'no reason was given'}")
        for star in of.stars.values():
            if star.state is StarState.FAILED and star.error is not None:
                sys.stderr.write(f"  {star.spec.id}: {one_line(star.error.message, 300)}\n")


def _summary(of: TaskConstellation, history: History) -> str:
    """The request in one line, for those who saw the view vanish."""
    took = seconds((of.ended_at or of.created_at) - of.created_at)
    workers = {attempt.worker for star in of.stars.values() for attempt in star.attempts}
    rewritten = sum(revision.after_execution_began for revision in history.revisions)
    return (
        f"{of.state.value} in {took}: {count(len(of.stars), 'star')}, revision {of.revision} "
        f"({rewritten} made while stars ran), {count(len(workers), 'worker')}  [{of.id}]"
    )
