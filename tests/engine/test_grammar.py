"""Answers that match their grammar, with the tokenizers of byte pairs and of words, and grammars that are refused."""

import asyncio
import json
import random
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from asterism.workers.engine.errors import InvalidRequest
from asterism.workers.engine.folder import ModelFolder
from asterism.workers.engine.grammar import GrammarCompiler, Matcher
from asterism.workers.engine.sampler import Sampler
from asterism.workers.engine.sampling import choose_tokens
from asterism.workers.engine.seam import MAX_GRAMMAR_CHARACTERS, GenerationRequest, Grammar, GrammarKind
from asterism.workers.engine.torch_engine import TorchEngine
from tests.engine.conftest import CHARACTERS, Collect, character_tokenizer, random_decoder

MODELS = Path(__file__).parents[2] / "workers" / "models"
PERSON = {
    "type": "object",
    "properties": {"age": {"type": "integer", "minimum": 0, "maximum": 120}, "tall": {"type": "boolean"}},
    "required": ["age", "tall"],
    "additionalProperties": False,
}
END = "<end>"


@pytest.fixture(scope="module")
def bytes_tokenizer() -> Tokenizer:
    """Byte-level BPE over the text of this page."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, special_tokens=[END], show_progress=False)
    tokenizer.train_from_iterator([Path(__file__).read_text(encoding="utf-8")], trainer)
    return tokenizer


@pytest.fixture(scope="module")
def words_tokenizer() -> Tokenizer:
    """That of the shipped model: words between white space."""
    tokenizer: Tokenizer = Tokenizer.from_file(str(MODELS / "countdown" / "tokenizer.json"))
    return tokenizer


def id_of(tokenizer: Tokenizer, token: str) -> int:
    token_id: int | None = tokenizer.token_to_id(token)
    assert token_id is not None
    return token_id


def compiler(tokenizer: Tokenizer, vocab_size: int | None = None) -> GrammarCompiler:
    end_id = id_of(tokenizer, END)
    return GrammarCompiler(tokenizer, vocab_size=vocab_size or tokenizer.get_vocab_size(), end_ids=[end_id])


def allowed_words(tokenizer: Tokenizer, matcher: Matcher) -> set[str]:
    return {str(tokenizer.id_to_token(int(at))) for at in matcher.allowed(tokenizer.get_vocab_size()).nonzero()[0]}


def answer(tokenizer: Tokenizer, matcher: Matcher, seed: int, tokens: int = 400) -> str | None:
    """What a model without an opinion says under a grammar; None when it did not come to the end."""
    vocab = tokenizer.get_vocab_size()
    chooser = Sampler(temperature=1.0, constraint=matcher, seed=seed)
    said: list[int] = []
    for _ in range(tokens):
        chosen = choose_tokens(torch.zeros(1, vocab), [chooser])
        assert not chosen.errors
        if chosen.token_ids[0] == id_of(tokenizer, END):
            return tokenizer.decode(said)
        said.append(chosen.token_ids[0])
    return None


@pytest.mark.parametrize("seed", range(8))
def test_json_fits_its_schema(bytes_tokenizer: Tokenizer, seed: int) -> None:
    text = answer(bytes_tokenizer, compiler(bytes_tokenizer).compile(Grammar("json_schema", json.dumps(PERSON))), seed)

    value = json.loads(text or "")
    assert value.keys() == {"age", "tall"}
    assert 0 <= value["age"] <= 120
    assert isinstance(value["tall"], bool)


@pytest.mark.parametrize("regex", [r"[a-c]{2,9}", r"(yes|no)( indeed)?", r"\d{3}/\d{2}", "é+\N{SNOWMAN}?", ""])
def test_text_matches_its_expression(bytes_tokenizer: Tokenizer, regex: str) -> None:
    for seed in range(5):
        text = answer(bytes_tokenizer, compiler(bytes_tokenizer).compile(Grammar("regex", regex)), seed)
        assert text is None or re.fullmatch(regex, text), text


def test_text_follows_a_lark_grammar(bytes_tokenizer: Tokenizer) -> None:
    grammar = Grammar("lark", 'start: "(" start ")" | "x"')
    texts = {answer(bytes_tokenizer, compiler(bytes_tokenizer).compile(grammar), seed) for seed in range(12)}

    assert all(text is not None and re.fullmatch(r"\(*x\)*", text) for text in texts)
    assert all(text is not None and text.count("(") == text.count(")") for text in texts)
    assert len(texts) > 1


def test_words_carry_the_space_before_them(words_tokenizer: Tokenizer) -> None:
    matcher = compiler(words_tokenizer).compile(Grammar("regex", r"( yes| no)( try)?"))

    assert allowed_words(words_tokenizer, matcher) == {"yes", "no"}
    matcher.accept(id_of(words_tokenizer, "no"))
    assert allowed_words(words_tokenizer, matcher) == {"try", END}
    matcher.accept(id_of(words_tokenizer, "try"))
    assert allowed_words(words_tokenizer, matcher) == {END}


@pytest.mark.parametrize("text", [" yes no -> 3", " yes no try"])
def test_words_of_a_forced_text_come_one_by_one(words_tokenizer: Tokenizer, text: str) -> None:
    matcher = compiler(words_tokenizer).compile(Grammar("regex", text))

    assert answer(words_tokenizer, matcher, seed=0) == text.strip()


def test_a_dead_end_allows_nothing(words_tokenizer: Tokenizer) -> None:
    matcher = compiler(words_tokenizer).compile(Grammar("regex", " yes yep"))
    matcher.accept(id_of(words_tokenizer, "yes"))

    assert allowed_words(words_tokenizer, matcher) == set()


def test_the_end_is_allowed_only_where_the_grammar_accepts(bytes_tokenizer: Tokenizer) -> None:
    rng = random.Random(4)
    for _ in range(20):
        text = "".join(rng.choices("ab", k=rng.randrange(1, 9)))
        matcher = compiler(bytes_tokenizer).compile(Grammar("regex", "(ab)+"))
        said = ""
        for character in text:
            token_id = id_of(bytes_tokenizer, character)
            if not matcher.allowed(600)[token_id]:
                break
            matcher.accept(token_id)
            said += character
            assert matcher.allowed(600)[0] == bool(re.fullmatch("(ab)+", said))


def test_logits_beyond_the_tokens_are_never_allowed(bytes_tokenizer: Tokenizer) -> None:
    tokens = bytes_tokenizer.get_vocab_size()
    matcher = compiler(bytes_tokenizer, vocab_size=tokens + 12).compile(Grammar("regex", "(?s:.*)"))

    allowed = matcher.allowed(tokens + 12)
    assert allowed[:tokens].any()
    assert not allowed[tokens:].any()


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("regex", "((("),
        ("regex", "[a-"),
        ("regex", "(?=a)b"),
        ("json_schema", "{"),
        ("json_schema", "[1]"),
        ("json_schema", '{"type": "person"}'),
        ("json_schema", '{"not": {}}'),
        ("json_schema", '{"$ref": "http://example.com/schema"}'),
        ("json_schema", '{} foo\nfoo: "a"'),
        ("json_schema", '{"items":' * 5000 + "{}" + "}" * 5000),
        ("lark", "start: foo"),
        ("lark", 'begin: "a"'),
        ("lark", "start: A\nA: /.*a.{12}/ & /.*b.{13}/ & /.*c.{14}/"),
    ],
)
def test_a_bad_grammar_is_refused(bytes_tokenizer: Tokenizer, kind: GrammarKind, text: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        compiler(bytes_tokenizer).compile(Grammar(kind, text))
    assert refused.value.field == "grammar"
    assert refused.value.reason


def test_a_grammar_that_no_token_can_begin_is_refused(words_tokenizer: Tokenizer) -> None:
    with pytest.raises(InvalidRequest, match="no token of the model can begin it"):
        compiler(words_tokenizer).compile(Grammar("json_schema", "{}"))


def test_a_model_without_an_end_cannot_follow_one(bytes_tokenizer: Tokenizer) -> None:
    with pytest.raises(InvalidRequest, match="no end-of-text token"):
        GrammarCompiler(bytes_tokenizer, vocab_size=500, end_ids=[]).compile(Grammar("regex", "a"))


def test_a_tokenizer_that_cannot_be_read_is_refused() -> None:
    pieces = Tokenizer(models.WordPiece({"a": 0, "##b": 1, END: 2}, unk_token=END))
    pieces.decoder = decoders.WordPiece()

    with pytest.raises(InvalidRequest, match="WordPiece"):
        compiler(pieces).compile(Grammar("regex", "a"))


def test_engines_are_imported_without_the_library() -> None:
    program = "import sys, asterism.workers.engine.torch_engine; print('llguidance' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()

    assert found == "False"


ASK = GenerationRequest(id="a", prompt="how many are there", max_tokens=40)


@pytest_asyncio.fixture
async def engine() -> AsyncIterator[TorchEngine]:
    ending = random_decoder(seed=1, eos_token_ids=(CHARACTERS.index("9"),))
    engine = TorchEngine(ModelFolder("ending", ending, character_tokenizer()))
    await engine.start()
    yield engine
    await engine.close()


class TestEngine:
    async def test_answers_match_and_end(self, engine: TorchEngine, collect: Collect) -> None:
        requests = [
            replace(ASK, id="greedy", grammar=Grammar("regex", "[1-5]{2,4} (apples|pears)")),
            replace(ASK, id="drawn", grammar=Grammar("regex", "[1-5]{2,4} (apples|pears)"), temperature=2.0, seed=4),
            replace(ASK, id="free", temperature=1.0),
        ]
        answers = await collect(engine, requests)

        for name in ("greedy", "drawn"):
            text, end = answers[name]
            assert re.fullmatch("[1-5]{2,4} (apples|pears)", text)
            assert end.finish_reason == "end"
        assert answers["free"][0] == (await collect(engine, [requests[2]]))["free"][0]

    async def test_a_dead_end_is_the_error_of_its_request_alone(self, engine: TorchEngine, collect: Collect) -> None:
        requests = [replace(ASK, id="dead", grammar=Grammar("regex", "ab[$]")), replace(ASK, id="other")]
        answers = await collect(engine, requests)

        text, end = answers["dead"]
        assert (text, end.finish_reason, end.tokens) == ("ab", "error", 2)
        assert "no token is left" in (end.error or "")
        assert answers["other"][1].finish_reason in {"length", "end"}
        assert engine.stats().generation_tokens == sum(end.tokens for _, end in answers.values())

    async def test_cancel_while_the_grammar_is_compiled_is_not_lost(
        self, engine: TorchEngine, collect: Collect
    ) -> None:
        request = replace(ASK, max_tokens=900, grammar=Grammar("regex", "a{900}"))
        call = asyncio.ensure_future(collect(engine, [request, replace(request, id="other", max_tokens=5)]))
        await asyncio.sleep(0)  # the call has begun, and its grammars take an OS thread
        await engine.cancel([request.id])
        answers = await call
        assert answers[request.id][1].finish_reason == "cancelled"
        assert answers["other"][0] == "aaaaa"

    async def test_a_bad_grammar_is_refused_with_its_batch(self, engine: TorchEngine) -> None:
        with pytest.raises(InvalidRequest) as refused:
            await anext(engine.generate([ASK, replace(ASK, id="b", grammar=Grammar("regex", "("))]))
        assert refused.value.field == "grammar"

    async def test_banned_tokens_are_never_said(self, engine: TorchEngine, collect: Collect) -> None:
        text, _ = (await collect(engine, [ASK]))["a"]
        banned = tuple(sorted(set(text[:6]) - {" "}))
        without, _ = (await collect(engine, [replace(ASK, banned=banned)]))["a"]

        assert set(banned) <= set(text)
        assert not set(banned) & set(without)

    @pytest.mark.parametrize("banned", ["ab", "$", "a"])
    async def test_a_ban_names_one_token(self, engine: TorchEngine, collect: Collect, banned: str) -> None:
        request = replace(ASK, banned=(banned,))
        if banned == "a":
            assert (await collect(engine, [request]))["a"]
            return
        with pytest.raises(InvalidRequest) as refused:
            await anext(engine.generate([request]))
        assert refused.value.field == "banned"


def chain_of_rules(length: int) -> Grammar:
    rules = (f"r{n}: r{n + 1}" for n in range(length))
    return Grammar("lark", "\n".join(("start: r0", *rules, f'r{length}: "1"')))


def chain_of_schemas(length: int) -> Grammar:
    definitions: dict[str, object] = {f"{n}": {"items": {"$ref": f"#/$defs/{n + 1}"}} for n in range(length)}
    schema = {"$ref": "#/$defs/0", "$defs": definitions | {f"{length}": {"type": "integer"}}}
    return Grammar("json_schema", json.dumps(schema, separators=(",", ":")))


@pytest.mark.parametrize("grammar", [chain_of_rules(4500), chain_of_schemas(1600)], ids=["rules", "schemas"])
def test_a_grammar_as_deep_as_its_text_allows_ends_no_process(bytes_tokenizer: Tokenizer, grammar: Grammar) -> None:
    assert 50_000 < len(grammar.text) <= MAX_GRAMMAR_CHARACTERS
    matcher = compiler(bytes_tokenizer).compile(grammar)
    matcher.accept(id_of(bytes_tokenizer, "1" if grammar.kind == "lark" else "["))
    assert matcher.allowed(bytes_tokenizer.get_vocab_size()).any()
