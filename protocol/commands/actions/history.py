"""Tells the revisions of a graph, draws one, tells two apart, and rebuilds the whole from the journal."""

import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.errors import InvalidField
from asterism.orchestrator.core.records import ConstellationRecord, EditsApplied
from asterism.orchestrator.core.values import Json
from asterism.protocol.answers import Picture
from asterism.protocol.commands.actions.connection import connected, journal_of, named_or_newest
from asterism.protocol.commands.actions.graph import check_form, write
from asterism.protocol.commands.actions.running import run_to_exit
from asterism.protocol.commands.ending import ExitCode
from asterism.protocol.commands.options import Output
from asterism.protocol.graph.form import GraphForm
from asterism.protocol.graph.picture import read_history
from asterism.protocol.graph.render import form_of_file, render
from asterism.protocol.replay import Replayed, differences, replay, result_hash, until_revision
from asterism.protocol.view.difference import as_json, difference, in_words, summary
from asterism.protocol.view.edits_text import describe_edits
from asterism.protocol.view.json_text import json_text
from asterism.protocol.view.style import console
from asterism.protocol.view.wording import count, one_line

_RANGE: Final = re.compile(r"(\d{1,18})\.\.(\d{1,18})?")
_REASON: Final = 60
"""Characters of a reason in a list."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One revision, or the difference of two, or (neither) the list."""

    revision: int | None
    difference: tuple[int, int | None] | None
    form: GraphForm | None
    file: Path | None


def read_range(text: str) -> tuple[int, int | None]:
    """`A..B`; without B it is the newest revision."""
    found = _RANGE.fullmatch(text)
    if found is None:
        raise InvalidField("--diff", f"{text!r} is no A..B, as in --diff 3..7; 3.. is from revision 3 to the newest")
    return int(found[1]), None if found[2] is None else int(found[2])


def history(
    constellation: str | None, asked: Asked, address: str | None, token_file: Path | None, output: Output
) -> None:
    """Shows what was asked for."""
    if asked.revision is not None and asked.difference is not None:
        raise InvalidField("--diff", "give --revision or --diff, not both")
    if asked.revision is None and (asked.form is not None or asked.file is not None):
        raise InvalidField("--revision", "--format and --out draw one revision: say which")
    check_form(asked.form, output)
    run_to_exit(_history(constellation, asked, address, token_file, output))


def replay_journal(
    constellation: str | None, until: int | None, address: str | None, token_file: Path | None, output: Output
) -> None:
    """Rebuilds, compares, and says what came of it."""
    run_to_exit(_replay(constellation, until, address, token_file, output))


async def _read(
    constellation: str | None, address: str | None, token_file: Path | None
) -> tuple[Picture, list[ConstellationRecord]]:
    """What the orchestrator says, and the journal up to there."""
    async with connected(address, token_file) as client:
        picture = await client.get(await named_or_newest(client, constellation))
        return picture, await journal_of(client, picture.constellation.id, picture.constellation.seq)


async def _history(
    constellation: str | None, asked: Asked, address: str | None, token_file: Path | None, output: Output
) -> ExitCode:
    picture, records = await _read(constellation, address, token_file)
    of = picture.constellation
    if asked.revision is not None:
        graph = _at_revision(of, records, asked.revision, "--revision")
        _draw(graph, [record for record in records if record.seq <= graph.seq], asked, output)
    elif asked.difference is not None:
        first, last = asked.difference
        before = _at_revision(of, records, first, "--diff")
        after = _at_revision(of, records, of.revision if last is None else last, "--diff")
        _tell(before, after, output)
    else:
        _list(of, records, output)
    return ExitCode.SUCCEEDED


def _at_revision(
    of: TaskConstellation, records: Sequence[ConstellationRecord], revision: int, option: str
) -> TaskConstellation:
    if revision > of.revision:
        raise InvalidField(option, f"there is no revision {revision}; the newest is {of.revision}")
    return replay(of.id, until_revision(records, revision)).constellation


def _draw(graph: TaskConstellation, records: Sequence[ConstellationRecord], asked: Asked, output: Output) -> None:
    form = asked.form
    if form is None and asked.file is not None:
        form = form_of_file(asked.file)
    if form is None:
        form = GraphForm.JSON if output is Output.JSON else GraphForm.TREE
    write(render(form, Picture(graph, {}), read_history(records)), asked.file)


def _tell(before: TaskConstellation, after: TaskConstellation, output: Output) -> None:
    found = difference(before, after)
    if output is Output.JSON:
        told: dict[str, Json] = {"id": after.id, "from": before.revision, "to": after.revision, **as_json(found)}
        sys.stdout.write(json_text(told) + "\n")
        return
    words = [f"revision {before.revision} to {after.revision}: {summary(found)}", *in_words(found)]
    sys.stdout.write("\n".join(words) + "\n")


def _list(of: TaskConstellation, records: Sequence[ConstellationRecord], output: Output) -> None:
    revisions = [record for record in records if isinstance(record, EditsApplied)]
    if output is Output.JSON:
        listed: list[Json] = [
            {
                "revision": record.revision,
                "at": record.at,
                "by": record.by,
                "reason": record.reason,
                "summary": describe_edits(record.edits),
            }
            for record in revisions
        ]
        sys.stdout.write(json_text({"id": of.id, "revision": of.revision, "revisions": listed}) + "\n")
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim")
    # Where there is little room, what was done and why is wrapped, and the rest stays whole.
    for name, least in (("revision", 8), ("time", 19), ("by", 8), ("what", 12), ("why", 12)):
        is_whole = name in ("revision", "time", "by")
        table.add_column(name, no_wrap=is_whole, min_width=least, justify="right" if name == "revision" else "left")
    for record in revisions:
        time = datetime.fromtimestamp(record.at).strftime("%Y-%m-%d %H:%M:%S")
        words = (one_line(record.by, 32), describe_edits(record.edits), one_line(record.reason, _REASON))
        table.add_row(str(record.revision), time, *(Text(text) for text in words))
    console().print(table)


async def _replay(
    constellation: str | None, until: int | None, address: str | None, token_file: Path | None, output: Output
) -> ExitCode:
    picture, records = await _read(constellation, address, token_file)
    of = picture.constellation
    if until is not None and until > of.revision:
        raise InvalidField("--until", f"there is no revision {until}; the newest is {of.revision}")
    rebuilt = replay(of.id, records if until is None else until_revision(records, until))
    found = [] if until is not None else list(differences(rebuilt.constellation, of))
    if output is Output.JSON:
        sys.stdout.write(json_text(_as_json(rebuilt, until, found)) + "\n")
    else:
        sys.stdout.write("\n".join(_in_words(rebuilt, until, found)) + "\n")
    return ExitCode.FAILED if found else ExitCode.SUCCEEDED


def _as_json(rebuilt: Replayed, until: int | None, found: Sequence[str]) -> dict[str, Json]:
    of = rebuilt.constellation
    return {
        "id": of.id,
        "records": rebuilt.records,
        "seq": of.seq,
        "revision": of.revision,
        "state": of.state.value,
        "stars": {
            star_id: {
                "state": star.state.value,
                "attempts": len(star.attempts),
                "result_sha256": result_hash(star.result),
            }
            for star_id, star in of.stars.items()
        },
        **({} if until is not None else {"is_equal": not found, "differences": list(found)}),
    }


def _in_words(rebuilt: Replayed, until: int | None, found: Sequence[str]) -> list[str]:
    of = rebuilt.constellation
    states = Counter(star.state.value for star in of.stars.values())
    counts = ", ".join(f"{number} {state}" for state, number in states.items()) or "no stars"
    lines = [
        f"{of.id}  {count(rebuilt.records, 'record')} up to {of.seq}, revision {of.revision}, {of.state.value}",
        f"{count(len(of.stars), 'star')}: {counts}",
    ]
    if until is not None:
        return lines
    if not found:
        return [*lines, "the journal and the orchestrator agree: states, lines, attempts, results, revision"]
    return [*lines, f"{count(len(found), 'difference')}:", *(one_line(text, 400) for text in found)]
