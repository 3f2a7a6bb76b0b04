"""From prompts and conversations to token ids, as the model's tokenizer and its chat template have it."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from asterism.workers.engine.answer_memo import AnswerMemo, IdMemo, Ids
from asterism.workers.engine.conversation import Conversations
from asterism.workers.engine.errors import InvalidRequest
from asterism.workers.engine.folder import ModelFolder
from asterism.workers.engine.plain_chat import plain_chat
from asterism.workers.engine.seam import GenerationRequest, Message

INLINE_CHARACTERS: Final = 20_000
"""What a call brings up to this length is read on the event loop: about 2 ms, a trip to a thread takes 0.1 ms."""
INLINE_MESSAGES: Final = 16
"""The same: a conversation that is new here is rendered turn by turn, in some 0.5 ms a message."""

_Segment = tuple[str, bool]
"""A text, and whether the tokenizer adds the tokens that it adds to whole texts, such as one for their beginning."""


class PromptReader:
    """Reads the prompts of one model; what was read before is looked up. Belongs to the event loop."""

    def __init__(self, model: ModelFolder) -> None:
        self._tokenizer = model.tokenizer
        self._unknown: str | None = getattr(model.tokenizer.model, "unk_token", None)
        self._unknown_id = None if self._unknown is None else model.tokenizer.token_to_id(self._unknown)
        self.answers = AnswerMemo()
        """What the engine decoded: told by it, found here."""
        self._read: IdMemo[_Segment] = IdMemo()
        """Prompts and segments of them, as the tokenizer reads them: a text that forks asks again and again."""
        self._conversations = Conversations(_renderer(model), is_cut=_reads_parts_alike(self._encode_part))

    async def read(self, requests: Sequence[GenerationRequest]) -> list[list[int]]:
        """Token ids of each request; what several of them have is read once. Raises `InvalidRequest`."""
        texts = [await self._segments(request) for request in requests]
        segments = dict.fromkeys(part for each in texts for part in each)
        read: dict[_Segment, Ids] = {}
        # What some answer said is read when its place is known: there it may have the ids that were decoded.
        wanted = [part for part in segments if not self.answers.knows(part[0])]
        while True:
            read |= await self._read_texts(wanted)
            found = [self._find_ids(each, read) for each in texts]
            wanted = list(dict.fromkeys(each for each in found if isinstance(each, tuple)))
            if not wanted:
                return [each for each in found if not isinstance(each, tuple)]

    async def _segments(self, request: GenerationRequest) -> list[_Segment]:
        if not request.messages:
            prompt = (request.prompt,) if isinstance(request.prompt, str) else request.prompt
            return [(part, number == 0) for number, part in enumerate(prompt)]
        # A template writes the tokens of a beginning itself.
        messages = request.messages
        if len(messages) > INLINE_MESSAGES or sum(len(each.text) for each in messages) > INLINE_CHARACTERS:
            prompt = await asyncio.to_thread(self._conversations.segments, messages)
        else:
            prompt = self._conversations.segments(messages)
        return [(part, False) for part in prompt]

    def _find_ids(self, segments: Iterable[_Segment], read: Mapping[_Segment, Ids]) -> list[int] | _Segment:
        """A prompt's token ids, or the first of its segments that has to be read for them."""
        token_ids: list[int] = []
        for segment in segments:
            ids = self.answers.find(token_ids, segment[0]) or read.get(segment)
            if ids is None:
                return segment
            token_ids += ids
        return token_ids

    async def _read_texts(self, texts: Sequence[_Segment]) -> dict[_Segment, Ids]:
        """Texts as the tokenizer reads them."""
        read = {text: ids for text in texts if (ids := self._read.find(text)) is not None}
        unread = [text for text in texts if text not in read]
        if sum(len(text) for text, _ in unread) > INLINE_CHARACTERS:
            encoded = await asyncio.to_thread(self._encode_all, unread)
        else:
            encoded = self._encode_all(unread)
        for text, ids in encoded.items():
            self._read.remember(text, ids)
        return read | encoded

    def _encode_all(self, texts: Iterable[_Segment]) -> dict[_Segment, Ids]:
        return {(text, is_first): tuple(self._encode(text, is_first)) for text, is_first in texts}

    def _encode(self, prompt: str, is_first: bool) -> list[int]:
        """Token ids of a segment. A word unknown to the model is refused: the answer would be about something else."""
        try:
            encoding = self._tokenizer.encode(prompt, add_special_tokens=is_first)
        except Exception as error:  # tokenizers raises bare Exception for what a model has no token for
            raise InvalidRequest("prompt", str(error)) from error
        ids: list[int] = encoding.ids
        if self._unknown_id is not None and self._unknown_id in ids:
            for token_id, (begin, end) in zip(ids, encoding.offsets, strict=True):
                # The unknown token by its own name is fine: a model may have written it.
                if token_id == self._unknown_id and prompt[begin:end] != self._unknown:
                    raise InvalidRequest("prompt", f"has {prompt[begin:end]!r}, which the model has no token for")
        return ids

    def _encode_part(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids


def _renderer(model: ModelFolder) -> Callable[[Sequence[Message]], str]:
    template = model.chat_template
    if template is None:
        return plain_chat
    return lambda messages: template.render([{"role": each.role, "content": each.text} for each in messages])


def _reads_parts_alike(encode: Callable[[str], list[int]]) -> bool:
    """Whether the tokenizer reads a text in parts as it reads it whole, where words begin.

    Some put a space before every text that they read (the `Prepend` normalizer of Llama 2), also before a part.
    """
    try:
        return encode("a\na") == encode("a\n") + encode("a")
    except Exception:  # it has no token for these; then it has no merges that reach over a border either
        return True
