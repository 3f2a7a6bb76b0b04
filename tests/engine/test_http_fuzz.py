"""Any bytes at our server's endpoints: each is answered or refused in OpenAI's words, and nothing goes on behind it."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from asterism.workers.engine.http_server import completion_app
from asterism.workers.engine.scripted import ScriptedEngine
from tests.fuzzing import fuzz, patient

pytestmark = patient

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["scripted", "user", "assistant", "text", "json_schema", "json_object", "one", "\ud800", ""]),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(max_size=8), inside, max_size=4),
    max_leaves=12,
)
SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example)
MESSAGES = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant"]), "content": st.text(min_size=1)}),
    min_size=1,
    max_size=4,
) | st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["system", "user", "assistant", "developer"]) | JSON,
            "content": st.text(max_size=9) | JSON,
        },
        optional={"name": JSON, "extra": JSON},
    ),
    max_size=4,
)
FIELDS: Mapping[str, st.SearchStrategy[Any]] = {
    "model": st.just("scripted"),
    "prompt": st.text(max_size=20) | st.lists(st.text(max_size=5), max_size=3),
    "messages": MESSAGES,
    "max_tokens": st.integers(-1, 9),
    "max_completion_tokens": st.integers(-1, 9),
    "temperature": st.floats(0, 3) | st.floats(),
    "top_p": st.floats(0, 1) | st.floats(),
    "top_k": st.integers(-2, 5),
    "min_p": st.floats(0, 1),
    "repetition_penalty": st.floats(0, 2),
    "presence_penalty": st.floats(-2, 2) | st.floats(),
    "frequency_penalty": st.floats(-2, 2) | st.floats(),
    "stop": st.text(max_size=4) | st.lists(st.text(max_size=4), max_size=4),
    "seed": st.integers(),
    "bad_words": st.lists(st.text(max_size=4), max_size=3),
    "structured_outputs": st.dictionaries(st.sampled_from(["json", "regex", "grammar"]), JSON, max_size=2),
    "response_format": st.fixed_dictionaries({"type": st.sampled_from(["text", "json_object", "json_schema"])})
    | st.fixed_dictionaries({"type": st.just("json_schema"), "json_schema": st.fixed_dictionaries({"schema": JSON})}),
    "logprobs": st.booleans() | st.integers(-1, 22),
    "top_logprobs": st.integers(-1, 22),
    "priority": st.integers(-3, 3),
    "keep_s": st.floats(0, 4000),
    "stream": st.booleans(),
    "stream_options": st.dictionaries(st.sampled_from(["include_usage", "continuous_usage_stats"]), st.booleans()),
    "n": st.integers(0, 2),
    "user": st.text(max_size=4),
    "echo": st.booleans(),
    "suffix": st.none() | st.text(max_size=2),
    "tools": JSON,
}
"""What could be right, so that much of it is; any of it is exchanged for anything."""


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """A body, most often nearly a right one; at times cut off, or with bytes that are none of JSON's."""
    asked = draw(st.sampled_from(["prompt", "messages"]))
    names = draw(st.sets(st.sampled_from(sorted(FIELDS)), max_size=5)) | {"model", asked}
    body = {name: draw(FIELDS[name]) for name in sorted(names)}
    if draw(st.booleans()):
        body[draw(st.sampled_from(sorted(names)))] = draw(JSON)
    data = json.dumps(body).encode()
    if draw(st.integers(0, 9)) == 0:
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(st.binary(max_size=3)) + data[at + draw(st.integers(0, 3)) :]
    return data


async def answered(engine: ScriptedEngine, path: str, body: bytes) -> tuple[int, bytes]:
    """Status and body that a client gets, through the application itself."""
    status, said = 0, b""
    coming = iter(({"type": "http.request", "body": body, "more_body": False},))
    has_ended = asyncio.Event()

    async def receive() -> dict[str, Any]:
        for message in coming:
            return message
        await has_ended.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal status, said
        if message["type"] == "http.response.start":
            assert not status
            status = message["status"]
        else:
            said += message.get("body", b"")
            if not message.get("more_body"):
                has_ended.set()

    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": []}
    await completion_app({"scripted": engine})(scope, receive, send)
    assert has_ended.is_set()
    return status, said


def read_stream(said: bytes) -> list[Any]:
    """The events of a stream, which ends as it should."""
    *lines, done, nothing = said.decode().split("\n\n")
    assert (done, nothing) == ("data: [DONE]", "")
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def check(path: str, status: int, said: bytes) -> None:
    if said.startswith(b"data: "):
        assert status == 200
        ended = {"finish_reason": "error"}
        choices = [choice for event in read_stream(said) for choice in event.get("choices", [ended])]
        assert any(choice["finish_reason"] for choice in choices)
        return
    value = json.loads(said)
    if status == 200:
        assert [choice["finish_reason"] for choice in value["choices"]]
        assert value["usage"]["total_tokens"] >= 0
    else:
        assert status in (400, 404), value
        assert value["error"]["message"]
        assert value["error"]["code"] == status


@pytest.mark.parametrize(
    ("path", "right"),
    [
        ("/v1/completions", {"model": "scripted", "prompt": "go", "stream": True}),
        (
            "/v1/chat/completions",
            {"model": "scripted", "messages": [{"role": "user", "content": "go"}], "stream": True},
        ),
    ],
)
def test_any_body_is_answered_or_refused(path: str, right: dict[str, Any]) -> None:
    statuses: set[int] = set()

    @settings(max_examples=100, deadline=None, database=None, suppress_health_check=SLOW)
    @example(json.dumps(right).encode())
    @given(bodies() | st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode()))
    def some(body: bytes) -> None:
        async def ask() -> None:
            engine = ScriptedEngine(lambda request: " one two three", context_tokens=40)
            await engine.start()
            status, said = await answered(engine, path, body)
            check(path, status, said)
            statuses.add(status)
            assert engine.stats().num_requests_running == 0
            await engine.close()

        asyncio.run(ask())

    fuzz(some)
    assert {200, 400} <= statuses
