"""From token ids to text that may be shown: the incremental detokeniser and the stop-string scanner. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

CONTEXT_TOKENS = 5
"""Prompt tokens that the first generated ones are decoded with: whether a token carries a space depends on what is
before it. vLLM and TGI use the same number."""

UNFINISHED = "\ufffd"
"""What a decoder gives for the first bytes of a character whose other bytes are in the next token."""

CHARACTER_TOKENS = 4
"""Tokens that a character may take: UTF-8 has at most so many bytes for one, and a token has at least one of them."""

MAX_HELD = 16
"""Tokens held back before those that begin no character are shown: a model may write bytes that never become one."""


class Detokeniser:
    """Turns a growing list of token ids into text, piece by piece, in constant time per token.

    Pieces continue the text of the prompt, so that prompt + pieces is the text of the whole sequence.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], prompt_ids: Sequence[int]) -> None:
        self._decode = decode
        self._shown = list(prompt_ids[-CONTEXT_TOKENS:])
        self._shown_text = decode(self._shown)
        self._held: list[int] = []

    def push(self, token_id: int) -> str:
        """The text that became certain with this token; empty in the middle of a character."""
        self._held.append(token_id)
        text = self._decode(self._shown + self._held)
        if not text.endswith(UNFINISHED):
            return self._show(text, len(self._held))
        return self._show_first(text) if len(self._held) > MAX_HELD else ""

    def flush(self) -> str:
        """What is left when no more tokens come, an unfinished character as the replacement character."""
        return self._show(self._decode(self._shown + self._held), len(self._held)) if self._held else ""

    def _show_first(self, text: str) -> str:
        """What stands before the last few tokens, where it stays as it is without them; empty where it does not."""
        held = self._decode(self._held)
        for tokens in range(len(self._held) - CHARACTER_TOKENS, len(self._held) - 2 * CHARACTER_TOKENS, -1):
            first = self._decode(self._shown + self._held[:tokens])
            if first + held[len(self._decode(self._held[:tokens])) :] == text:
                return self._show(first, tokens)
        return ""

    def _show(self, text: str, tokens: int) -> str:
        """Shows what `text`, of the first `tokens` that are held, has more than was shown."""
        piece = text[len(self._shown_text) :]
        self._shown, self._held = self._held[:tokens], self._held[tokens:]
        self._shown_text = self._decode(self._shown)
        return piece


@dataclass(frozen=True, slots=True)
class Scanned:
    """Text that is safe to show, and the stop string that ended it, if one was completed."""

    text: str
    stop: str | None


class StopScanner:
    """Cuts a stream of text before the first stop string that is completed in it, however the text is split.

    When one character completes several stop strings, the longest one, which starts first, counts.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._longest = max((len(stop) for stop in stops), default=0)
        self._held = ""

    def push(self, text: str) -> Scanned:
        """What `text` makes certain. After a stop was found, nothing more may be pushed."""
        if not self._stops:
            return Scanned(text, None)
        buffer = self._held + text
        found = [(at + len(stop), at, stop) for stop in self._stops if (at := buffer.find(stop)) >= 0]
        if found:
            _, start, stop = min(found)
            self._held = ""
            return Scanned(buffer[:start], stop)
        keep = self._held_back(buffer)
        self._held = buffer[len(buffer) - keep :]
        return Scanned(buffer[: len(buffer) - keep], None)

    def flush(self) -> str:
        """The text that was held back, when no more comes."""
        held, self._held = self._held, ""
        return held

    def _held_back(self, buffer: str) -> int:
        """How many characters at the end may still become a stop string."""
        for size in range(min(self._longest - 1, len(buffer)), 0, -1):
            tail = buffer[-size:]
            if any(stop.startswith(tail) for stop in self._stops):
                return size
        return 0
