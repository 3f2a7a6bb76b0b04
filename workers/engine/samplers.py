"""From a request to the sampler that chooses for it: where texts of the request become token ids of one model."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from asterism.workers.engine.errors import InvalidRequest
from asterism.workers.engine.sampler import Sampler
from asterism.workers.engine.sampling import RowLogprobs
from asterism.workers.engine.seam import GenerationRequest, Grammar, TokenLogprob

if TYPE_CHECKING:
    from asterism.workers.engine.grammar import GrammarCompiler, Matcher


class Samplers:
    """Makes samplers for one model, on the event loop."""

    def __init__(self, tokenizer: Tokenizer, *, vocab_size: int, end_ids: Sequence[int]) -> None:
        """`vocab_size` is how many logits the model gives, which may be more than the tokenizer has tokens."""
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._end_ids = tuple(end_ids)
        self._compiler: GrammarCompiler | None = None

    async def make(self, request: GenerationRequest, prompt_ids: Sequence[int]) -> Sampler:
        """The sampler of a checked request. Raises `InvalidRequest` for what this model cannot do."""
        banned_ids = [self._banned_id(text) for text in request.banned]
        if len(set(banned_ids)) == self._vocab_size:
            raise InvalidRequest("banned", "leaves no token")
        # A grammar may take 100 ms to compile, and the first one loads the library and reads the vocabulary.
        grammar = request.grammar
        matcher = None if grammar is None else await asyncio.to_thread(self._matcher, grammar)
        return Sampler(
            temperature=request.temperature,
            top_k=request.top_k,
            top_p=request.top_p,
            min_p=request.min_p,
            repetition_penalty=request.repetition_penalty,
            presence_penalty=request.presence_penalty,
            frequency_penalty=request.frequency_penalty,
            logprobs=request.logprobs,
            banned_ids=banned_ids,
            constraint=matcher,
            seed=request.seed,
            prompt_ids=prompt_ids,
        )

    def name(self, logprobs: RowLogprobs) -> TokenLogprob:
        """The same with tokens as texts, as each decodes by itself. Any OS thread may call it."""
        likeliest = tuple((self._text(token_id), logprob) for token_id, logprob in logprobs.likeliest)
        return TokenLogprob(self._text(logprobs.token_id), logprobs.logprob, likeliest)

    def _text(self, token_id: int) -> str:
        # Special tokens are kept, as in the answer's text.
        return self._tokenizer.decode([token_id], skip_special_tokens=False)

    def _banned_id(self, text: str) -> int:
        """The token of this text: as the vocabulary writes it, or else as the tokenizer reads it."""
        token_id: int | None = self._tokenizer.token_to_id(text)
        if token_id is not None:
            return token_id
        try:
            encoding = self._tokenizer.encode(text, add_special_tokens=False)
        except Exception as error:  # tokenizers raises bare Exception for what a model has no token for
            raise InvalidRequest("banned", f"{text!r}: {error}") from error
        if len(encoding.ids) != 1 or encoding.ids[0] == self._unknown_id():
            raise InvalidRequest("banned", f"{text!r} is no single token of the model")
        return encoding.ids[0]

    def _unknown_id(self) -> int | None:
        unknown: str | None = getattr(self._tokenizer.model, "unk_token", None)
        return None if unknown is None else self._tokenizer.token_to_id(unknown)

    def _matcher(self, grammar: Grammar) -> "Matcher":
        # Two threads may make a compiler each; the later one stays, and only the time of one preparation is lost.
        if self._compiler is None:
            try:
                from asterism.workers.engine.grammar import GrammarCompiler
            except ImportError as error:
                reason = f"needs llguidance, which is not installed here ({error})"
                raise InvalidRequest("grammar", reason) from error
            self._compiler = GrammarCompiler(self._tokenizer, vocab_size=self._vocab_size, end_ids=self._end_ids)
        return self._compiler.compile(grammar)
