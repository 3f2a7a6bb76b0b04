"""Progress as plain lines, for logs and pipes."""

from collections.abc import Iterable
from typing import Final, TextIO

from asterism.orchestrator.core.events import Chunk
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.records import ConstellationRecord
from asterism.protocol.view.progress import Progress
from asterism.protocol.view.wording import one_line, seconds

_LINE: Final = 4096
"""Characters of a printed line at most."""


class PlainView:
    """Follows one request line by line. Streamed text is printed for one star only, if one is named: of all together,
    its threads would be mixed beyond reading."""

    def __init__(
        self, stream: TextIO, progress: Progress, *, is_quiet: bool = False, star: StarId | None = None
    ) -> None:
        self._stream = stream
        self._is_quiet = is_quiet
        """Whether only the program's own lines are printed."""
        self._progress = progress
        self._star = star

    def __enter__(self) -> "PlainView":
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.flush()

    def show(self, record: ConstellationRecord) -> None:
        """Prints a record's news, if it has any, behind the time since the request was accepted."""
        change = self._progress.apply(record)
        if change is not None and not self._is_quiet:
            since = change.at - (self._progress.accepted_at or change.at)
            self._stream.write(f"{seconds(since):>8} {change.text}\n")

    def hear(self, star: StarId, attempt: int, chunks: Iterable[Chunk]) -> None:
        """Prints each piece of the named star's text behind the name of its thread."""
        if star == self._star:
            for chunk in chunks:
                if text := one_line(chunk.text, _LINE):
                    self._stream.write(f"{one_line(chunk.thread, _LINE)}: {text}\n")
        self._progress.hear(star, attempt, chunks)

    def say(self, text: str) -> None:
        """Prints a line of the program's own."""
        self._stream.write(f"{text}\n")

    def refresh(self) -> None:
        """Hands what is written to the reader."""
        self._stream.flush()
