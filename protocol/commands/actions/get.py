"""How requests stand."""

import json
import sys
import time
from datetime import datetime
from pathlib import Path

from asterism.orchestrator.core.constellation import Pause, TaskConstellation
from asterism.orchestrator.core.ids import ConstellationId
from asterism.orchestrator.core.request import ConstellationState
from asterism.orchestrator.core.snapshot import Summary
from asterism.orchestrator.core.values import Json
from asterism.protocol.commands.actions.connection import connected, history_of, named_or_newest
from asterism.protocol.commands.actions.running import run_to_exit
from asterism.protocol.commands.ending import ExitCode
from asterism.protocol.commands.options import Output
from asterism.protocol.graph.picture import draw_picture
from asterism.protocol.view.answer import answer_text
from asterism.protocol.view.json_text import json_text
from asterism.protocol.view.result import shown_answer
from asterism.protocol.view.style import console
from asterism.protocol.view.wording import one_line


def get(constellation: str | None, address: str | None, token_file: Path | None, output: Output) -> None:
    """Shows one request."""
    run_to_exit(_get(constellation, address, token_file, output))


def list_requests(
    limit: int, states: tuple[ConstellationState, ...], address: str | None, token_file: Path | None, output: Output
) -> None:
    """Shows the newest requests, those in `states` only unless there are none."""
    run_to_exit(_list(limit, states, address, token_file, output))


async def _get(constellation: str | None, address: str | None, token_file: Path | None, output: Output) -> ExitCode:
    async with connected(address, token_file) as client:
        picture = await client.get(await named_or_newest(client, constellation))
        if output is Output.JSON:
            drawn = draw_picture(picture.constellation, await history_of(client, picture), picture.waiting_for)
            shown = {"paused": _paused(picture.constellation), "answer": shown_answer(picture.constellation.answer())}
            sys.stdout.write(json_text({**drawn, **shown}, indent=2) + "\n")
            return ExitCode.SUCCEEDED
    from asterism.protocol.view.tables import print_stars

    of = picture.constellation
    out = console()
    out.print(f"{of.id}  {one_line(of.request.name or of.request.form, 80)}", markup=False, soft_wrap=True)
    state = f"{_state(of.state, of.reason)}  revision {of.revision}, {len(of.stars)} stars"
    out.print(state, markup=False, soft_wrap=True)
    if of.pause is not None:
        out.print(_pause_text(of.id, of.pause), markup=False, soft_wrap=True)
    print_stars(out, of, picture.waiting_for, time.time())
    if of.state.is_terminal:
        sys.stdout.write(answer_text(of.answer()) + "\n")
    return ExitCode.SUCCEEDED


async def _list(
    limit: int, states: tuple[ConstellationState, ...], address: str | None, token_file: Path | None, output: Output
) -> ExitCode:
    found: list[Summary] = []
    async with connected(address, token_file) as client:
        async for summary in client.list(states=states, page_size=min(limit, 500)):
            found.append(summary)
            if len(found) == limit:
                break
    if output is Output.JSON:
        json.dump({"constellations": [_summary(summary) for summary in found]}, sys.stdout, indent=2)
        sys.stdout.write("\n")
    elif found:
        from asterism.protocol.view.tables import print_requests

        print_requests(console(), found)
    else:
        sys.stdout.write("no requests\n")
    return ExitCode.SUCCEEDED


def _summary(summary: Summary) -> dict[str, str | int | float | None]:
    return {
        "id": summary.id,
        "request_id": summary.request_id,
        "owner": summary.owner,
        "name": summary.name,
        "form": summary.form,
        "created_at": summary.created_at,
        "state": summary.state.value,
        "reason": summary.reason,
        "ended_at": summary.ended_at,
        "revision": summary.revision,
        "stars": summary.stars,
        "stars_terminal": summary.stars_terminal,
    }


def _paused(of: TaskConstellation) -> Json:
    return None if of.pause is None else {"by": of.pause.by, "reason": of.pause.reason, "at": of.pause.at}


def _pause_text(constellation: ConstellationId, pause: Pause) -> str:
    """Who holds a request back, since when and why, and how to let it go on."""
    since = datetime.fromtimestamp(pause.at).strftime("%Y-%m-%d %H:%M:%S")
    why = f": {one_line(pause.reason, 160)}" if pause.reason else ""
    return f"paused by {one_line(pause.by, 80)} since {since}{why}  (asterism resume {constellation} lets it go on)"


def _state(state: ConstellationState, reason: str) -> str:
    return f"{state.value}: {one_line(reason, 160)}" if reason else state.value
