"""Shows how a graph came to be what it is, from its journal."""

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Final

from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.errors import InvalidField
from asterism.orchestrator.core.ids import ConstellationId
from asterism.orchestrator.core.records import ConstellationRecord, EditsApplied, EditsRefused
from asterism.orchestrator.core.values import Json
from asterism.protocol.answers import Picture
from asterism.protocol.commands.actions.connection import connected, journal_of
from asterism.protocol.commands.actions.running import run_to_exit
from asterism.protocol.commands.ending import ExitCode
from asterism.protocol.commands.options import Output
from asterism.protocol.graph.form import GraphForm
from asterism.protocol.graph.picture import read_history
from asterism.protocol.graph.render import render
from asterism.protocol.replaying import Difference, differences, divergences
from asterism.protocol.replaying import replay as replayed
from asterism.protocol.view.edits_text import describe_edits
from asterism.protocol.view.json_text import json_text
from asterism.protocol.view.wording import count, one_line

_WHY: Final = 100
_LINE: Final = 400
_RANGE: Final = re.compile(r"(\d+)\.\.(\d+)")


def history(
    constellation: ConstellationId,
    revision: int | None,
    diff: str | None,
    address: str | None,
    token_file: Path | None,
    output: Output,
) -> None:
    """Writes the edits, the graph at a revision, or the difference between two."""
    if revision is not None and diff is not None:
        raise InvalidField("--diff", "not together with --revision")
    ends = None if diff is None else _read_range(diff)
    run_to_exit(_history(constellation, revision, ends, address, token_file, output))


def replay(constellation: ConstellationId, address: str | None, token_file: Path | None, output: Output) -> None:
    """Rebuilds a constellation, and compares."""
    run_to_exit(_replay(constellation, address, token_file, output))


def _read_range(text: str) -> tuple[int, int]:
    found = _RANGE.fullmatch(text)
    if found is None:
        raise InvalidField("--diff", f"{text!r} is not two revisions such as 2..5; 0 is the empty graph")
    return int(found[1]), int(found[2])


async def _history(
    constellation: ConstellationId,
    revision: int | None,
    ends: tuple[int, int] | None,
    address: str | None,
    token_file: Path | None,
    output: Output,
) -> ExitCode:
    async with connected(address, token_file) as client:
        picture = await client.get(constellation)
        records = await journal_of(client, picture)
    for named, option in ((revision, "--revision"), *((end, "--diff") for end in ends or ())):
        if named is not None and named > picture.constellation.revision:
            reason = f"there is no revision {named}: the graph is at {picture.constellation.revision}"
            raise InvalidField(option, reason)
    if ends is not None:
        before, after = (_at(records, end) for end in ends)
        _write_differences(list(differences(before, after)), output)
    elif revision is not None:
        upto = _until(records, revision)
        shown = Picture(replayed(upto, revision), {})
        form = GraphForm.JSON if output is Output.JSON else GraphForm.TREE
        sys.stdout.write(render(form, shown, read_history(upto)))
    elif output is Output.JSON:
        edits = [_to_json(record) for record in records if isinstance(record, EditsApplied)]
        sys.stdout.write(json_text(edits, indent=2) + "\n")
    else:
        sys.stdout.writelines(f"{line}\n" for record in records for line in _lines(record))
    return ExitCode.SUCCEEDED


async def _replay(
    constellation: ConstellationId, address: str | None, token_file: Path | None, output: Output
) -> ExitCode:
    async with connected(address, token_file) as client:
        picture = await client.get(constellation)
        records = await journal_of(client, picture)
    found = list(divergences(replayed(records), picture.constellation))
    _write_differences(found, output, f"{count(len(records), 'record')} give revision {picture.constellation.revision}")
    return ExitCode.FAILED if found else ExitCode.SUCCEEDED


def _until(records: Sequence[ConstellationRecord], revision: int) -> list[ConstellationRecord]:
    """The records up to the edit that made the revision."""
    kept: list[ConstellationRecord] = []
    for record in records:
        kept.append(record)
        if isinstance(record, EditsApplied) and record.revision == revision:
            break
    return kept


def _at(records: Sequence[ConstellationRecord], revision: int) -> TaskConstellation:
    return replayed(records[:1]) if revision == 0 else replayed(records, revision)


def _write_differences(found: Sequence[Difference], output: Output, same: str = "no difference") -> None:
    if output is Output.JSON:
        rows: list[Json] = [asdict(difference) for difference in found]
        sys.stdout.write(json_text(rows, indent=2) + "\n")
        return
    lines = [one_line(str(difference), _LINE) for difference in found] or [same]
    sys.stdout.writelines(f"{line}\n" for line in lines)


def _to_json(record: EditsApplied) -> Json:
    return {
        "revision": record.revision,
        "at": record.at,
        "by": record.by,
        "reason": record.reason,
        "summary": describe_edits(record.edits),
    }


def _lines(record: ConstellationRecord) -> Iterator[str]:
    at = datetime.fromtimestamp(record.at).isoformat(" ", "milliseconds")
    if isinstance(record, EditsApplied):
        why = f"  ({one_line(record.reason, _WHY)})" if record.reason else ""
        yield f"{record.revision:>4}  {at}  {one_line(record.by, _WHY)}: {describe_edits(record.edits)}{why}"
    elif isinstance(record, EditsRefused):
        yield f"   -  {at}  {one_line(record.by, _WHY)}: refused, {one_line('; '.join(record.reasons), _LINE)}"
