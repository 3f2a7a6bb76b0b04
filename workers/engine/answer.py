"""A live request on the side of the OS thread: from token ids to the text that may be said."""

from dataclasses import dataclass, field

from asterism.workers.engine.answer_memo import Decoded, prompt_key
from asterism.workers.engine.batch_sequence import BatchSequence
from asterism.workers.engine.sampler import Sampler
from asterism.workers.engine.seam import EngineEvent, GenerationChunk, GenerationRequest, TokenLogprob
from asterism.workers.engine.stops import Detokeniser, StopScanner


@dataclass(slots=True)
class Answer:
    """What is kept for a live request beside its sequence."""

    request: GenerationRequest
    sequence: BatchSequence
    sampler: Sampler
    detokeniser: Detokeniser
    scanner: StopScanner = field(init=False)
    waits_since: float
    """Seconds on the clock of the engine: when it came, later when it got its last token."""
    text: list[str] = field(default_factory=list)
    """Pieces that may be shown, from the first."""
    decoded: list[int] = field(default_factory=list)
    """Characters that were decoded with each token and those before it, where a stop string may cut them."""
    unsaid: int = 0
    """How many of `text`, from the end, were not said yet."""
    unsaid_tokens: int = 0
    """Decoded since the last chunk."""
    unsaid_logprobs: list[TokenLogprob] = field(default_factory=list)
    dead_end: str | None = None
    """Why no token was left to choose, or could be turned into text."""

    def __post_init__(self) -> None:
        self.scanner = StopScanner(self.request.stop)

    def push(self, token_id: int) -> str | None:
        """Takes in a token; gives the stop string that it completed."""
        piece = self.detokeniser.push(token_id)
        if self.request.stop:
            self.decoded.append(len(piece) + (self.decoded[-1] if self.decoded else 0))
        scanned = self.scanner.push(piece)
        self._show(scanned.text)
        return scanned.stop

    def flush(self) -> None:
        """Shows what was held back, when no more tokens come and no stop string ended the text."""
        self._show(self.scanner.push(self.detokeniser.flush()).text + self.scanner.flush())

    def take_chunk(self) -> list[EngineEvent]:
        """What is to be said, at most one chunk."""
        if not self.unsaid:
            return []
        chunk = GenerationChunk(
            request_id=self.request.id,
            text="".join(self.text[-self.unsaid :]),
            tokens=self.unsaid_tokens,
            logprobs=tuple(self.unsaid_logprobs),
        )
        self.unsaid, self.unsaid_tokens, self.unsaid_logprobs = 0, 0, []
        return [chunk]

    def find_decoded(self, *, is_stopped: bool, has_end_id: bool) -> Decoded | None:
        """The whole text and the ids that make it up; None when there is none, or when a token crosses its end."""
        text, sequence = "".join(self.text), self.sequence
        ids = sequence.token_ids[sequence.prompt_tokens :]
        if has_end_id:
            del ids[-1:]
        if is_stopped:
            if len(text) not in self.decoded:
                return None
            del ids[self.decoded.index(len(text)) + 1 :]
        if not text:
            return None
        return Decoded(prompt_key(sequence.token_ids[: sequence.prompt_tokens]), text, ids)

    def _show(self, text: str) -> None:
        if text:
            self.text.append(text)
            self.unsaid += 1
