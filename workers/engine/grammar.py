"""Answers that match a JSON schema, a regular expression or a Lark grammar: which tokens may come next.

llguidance does the parsing. It was chosen by measurement: 1 ms to make a matcher and 29 us a mask, where xgrammar took
24 ms and 11 us. It is imported with the first grammar. A grammar matches the answer's text exactly as it is streamed:
of a tokenizer whose words carry the white space before them, that is ` yes` behind a prompt, and not `yes`. Such words
do not spell every text, so an answer may come to a dead end (` 1` where ` 12` was wanted), which is its error.
"""

import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final, Literal, TypeVar, assert_never

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper, regex_to_lark
from numpy.typing import NDArray
from tokenizers import Tokenizer

from asterism.workers.engine.errors import InvalidRequest
from asterism.workers.engine.seam import Grammar

LIMITS: Final = LLParserLimits(
    # The engine's thread makes the masks, all its requests wait meanwhile. By llguidance's own figures (14,000 units of
    # fuel and 20,000 items a millisecond) a mask ends within about 5 ms; its defaults allow 17.
    step_lexer_fuel=50_000,
    step_max_items=20_000,
    # 1 to 2 kB each, so at most 40 MB a request; the default allows 500.
    max_lexer_states=20_000,
    # Built at the door, in a thread of its own: 20 ms.
    initial_lexer_fuel=1_000_000,
    max_grammar_size=100_000,
    verbose_errors=False,
)

STACK_BYTES: Final = 1 << 28
"""For compiling, of which only what is used takes memory: llguidance follows rules and `$ref`s by recursion, and on the
usual 8 MiB a grammar of 37,000 characters, 3,000 rules that each name the next, ended the process."""

_STACK_SIZE: Final = threading.Lock()
_T = TypeVar("_T")


class Matcher:
    """Where one answer stands in its grammar. One OS thread at a time uses it."""

    def __init__(self, matcher: LLMatcher, end_ids: Sequence[int]) -> None:
        self._matcher = matcher
        self._end_ids = np.array(end_ids, dtype=np.intp)

    def allowed(self, tokens: int) -> NDArray[np.bool_]:
        """Which of the ids 0 to tokens - 1 may come next; the end-of-text ids only where the grammar accepts.

        None is allowed at a dead end: what the grammar wants next has no tokens, or following it became too much work.
        """
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        allowed = np.zeros(tokens, dtype=np.bool_)
        if self._matcher.is_error():
            return allowed
        known = np.unpackbits(bits, count=min(tokens, 8 * len(bits)), bitorder="little")
        allowed[: len(known)] = known
        if not self._matcher.is_accepting():
            allowed[self._end_ids] = False
        return allowed

    def accept(self, token_id: int) -> None:
        """Goes on behind a token that was allowed."""
        self._matcher.consume_token(token_id)


class GrammarCompiler:
    """Makes matchers over the vocabulary of one model. Any OS thread may call it."""

    def __init__(self, tokenizer: Tokenizer, *, vocab_size: int, end_ids: Sequence[int]) -> None:
        """`vocab_size` is the model's, which may be larger than the tokenizer's."""
        self._source = tokenizer
        self._vocab_size = vocab_size
        self._end_ids = tuple(end_ids)
        self._lock = threading.Lock()
        self._vocabulary: tuple[LLTokenizer, bool] | None = None
        """And whether its tokens spell any text."""

    def compile(self, grammar: Grammar) -> Matcher:
        """A matcher at the beginning of an answer. Raises `InvalidRequest` for what this model cannot follow.

        The first call prepares the vocabulary.
        """
        return _on_large_stack(lambda: self._compile(grammar))

    def _compile(self, grammar: Grammar) -> Matcher:
        with self._lock:
            if self._vocabulary is None:
                self._vocabulary = self._prepare()
        tokenizer, spells = self._vocabulary
        matcher = LLMatcher(tokenizer, _source_text(grammar, may_force=spells), log_level=0, limits=LIMITS)
        if matcher.is_error():
            raise InvalidRequest("grammar", matcher.get_error())
        made = Matcher(matcher, self._end_ids)
        if not made.allowed(self._vocab_size).any():
            reason = "no token of the model can begin it, or to find one is too much work"
            raise InvalidRequest("grammar", reason)
        return made

    def _prepare(self) -> tuple[LLTokenizer, bool]:
        if not self._end_ids:
            raise InvalidRequest("grammar", "the model has no end-of-text token, so its answer cannot end by a grammar")
        layout = json.loads(self._source.to_str())
        if _uses_bytes(layout.get("decoder")):
            plain = Tokenizer.from_str(self._source.to_str())
            plain.no_padding()
            plain.no_truncation()
            return LLTokenizer(plain.to_str(), n_vocab=self._vocab_size, eos_token=list(self._end_ids)), True
        decoder = layout.get("decoder") or {"type": None}
        if layout["model"]["type"] == "WordLevel" and decoder["type"] in {None, "Fuse"}:
            words = TokenizerWrapper(_Words(self._source, self._end_ids))
            return LLTokenizer(words, n_vocab=self._vocab_size, eos_token=list(self._end_ids)), False
        reason = f"the model's tokenizer ({layout['model']['type']}, decoder {decoder['type']}) cannot be constrained"
        raise InvalidRequest("grammar", reason)


class _Words:
    """A vocabulary of whole words as llguidance reads one: each token is the bytes that it adds to an answer."""

    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer, end_ids: Sequence[int]) -> None:
        # A decoder that joins words with spaces, or with nothing, gives a token the same text behind every other one.
        before = tokenizer.decode([0], skip_special_tokens=False)
        size = tokenizer.get_vocab_size()
        texts = [tokenizer.decode([0, token_id], skip_special_tokens=False) for token_id in range(size)]
        self.tokens = [text.removeprefix(before).encode() for text in texts]
        self.eos_token_id = end_ids[0]
        added = tokenizer.get_added_tokens_decoder()
        self.special_token_ids = [token_id for token_id, token in added.items() if token.special]

    def __call__(self, text: bytes) -> list[int]:
        """No tokens: most texts have none. llguidance asks where a grammar forces text, unless told not to force."""
        return []


def _on_large_stack(work: Callable[[], _T]) -> _T:
    """What `work` gives or raises, done in an OS thread of its own."""
    done: Future[_T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # a panic of llguidance is no Exception; whoever waits gets it
            done.set_exception(error)

    thread = threading.Thread(target=run, name="grammar", daemon=True)
    with _STACK_SIZE:
        usual = threading.stack_size(STACK_BYTES)
        try:
            thread.start()
        finally:
            threading.stack_size(usual)
    return done.result()


def _uses_bytes(decoder: object) -> bool:
    """Whether a decoder, as JSON, is one of those that llguidance reads: byte-level, or with a fallback to bytes."""
    if not isinstance(decoder, dict):
        return False
    return decoder.get("type") in {"ByteLevel", "ByteFallback"} or any(map(_uses_bytes, decoder.get("decoders", ())))


def _source_text(grammar: Grammar, *, may_force: bool) -> str:
    """The grammar in Lark's notation, which can carry an option.

    Text that a grammar forces is tokenised at once, and only its first token is allowed then; words cannot do that.
    """
    kind: Literal["json_schema", "regex", "lark"] = grammar.kind
    match kind:
        case "json_schema":
            try:
                schema = json.loads(grammar.text)
            except (ValueError, RecursionError) as error:
                raise InvalidRequest("grammar", f"is no JSON: {error}") from error
            lark = f"start: %json {json.dumps(schema)}"
        case "regex":
            lark = f"start: /{regex_to_lark(grammar.text)}/"
        case "lark":
            lark = grammar.text
        case _:
            assert_never(kind)
    return LLMatcher.grammar_from_lark(lark if may_force else f'%llguidance {{"no_forcing": true}}\n{lark}')
