"""Doors of tools: arguments that a model writes, paths, the steps of a tool loop, and the file that allows them."""

import json
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from asterism.agents.asks import Effect, Json, ProgramFailed, ToolDescription
from asterism.agents.chatting import Question, Written
from asterism.agents.json_check import JsonCheck
from asterism.agents.react import react, read_step, step_check
from asterism.orchestrator.core.errors import Misconfigured
from asterism.workers.sandbox.declared import describe
from asterism.workers.sandbox.errors import CallFailed
from asterism.workers.sandbox.fetching import check_url
from asterism.workers.sandbox.files import list_files, read_file, search_files, write_file
from asterism.workers.sandbox.order import Limits, Order
from asterism.workers.worker_file import load_worker_file
from tests.agents.driver import CONTEXT
from tests.agents.talker import Talker, echo, one_tool
from tests.agents.test_json_check import VALUES
from tests.fuzzing import fuzz, patient

pytestmark = patient
QUIET = settings(
    max_examples=150,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)

STEPS = st.sampled_from(["a", "b", "c", "..", ".", "", "out", "linked", "pipe", "x" * 260, "ä", "\ud800", "\0", "etc"])
PATHS = (
    st.builds(lambda start, steps: start + "/".join(steps), st.sampled_from(["", "/", "//"]), st.lists(STEPS))
    | st.text()
)
ARGUMENTS: Mapping[str, st.SearchStrategy[Json]] = {
    "path": PATHS,
    "text": st.text(max_size=50) | st.sampled_from(["YQ==", "!!!"]),
    "encoding": st.sampled_from(["utf-8", "base64", "x"]),
    "offset": st.integers(-1, 2**54),
    "max_bytes": st.integers(0, 2**21),
    "depth": st.integers(0, 20),
    "max_entries": st.integers(0, 3000),
    "pattern": st.text(max_size=12) | st.sampled_from(["(", "a{1,99999}", "(?P<n>", "[", "secret", r"\1"]),
    "is_regex": st.booleans(),
    "glob": st.sampled_from(["*", "[", "**/*", "[!a", "?", "\0"]),
    "max_matches": st.integers(0, 2000),
}
FUNCTIONS: Mapping[str, Callable[[Order], dict[str, Any]]] = {
    "file.read": read_file,
    "file.write": write_file,
    "file.list": list_files,
    "file.search": search_files,
}


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, dict[str, Json]]:
    """A file tool and arguments that are nearly right; at times one of them is anything, or one more is there."""
    name = draw(st.sampled_from(sorted(FUNCTIONS)))
    schema = cast("dict[str, Any]", describe(name, program_effect=Effect.NONE).schema)
    names = {*schema["required"], *draw(st.sets(st.sampled_from(sorted(schema["properties"]))))}
    drawn = {one: draw(ARGUMENTS[one]) for one in sorted(names)}
    if draw(st.integers(0, 5)) == 0:
        drawn[draw(st.sampled_from(sorted(ARGUMENTS)))] = draw(VALUES)
    return name, drawn


def a_tree(folder: Path) -> tuple[Path, Path]:
    """An allowed folder with ways out of it, and what must not be reached through them."""
    inside, outside = folder / "inside", folder / "outside"
    for made in (inside / "a" / "b", outside):
        made.mkdir(parents=True)
    (outside / "secret").write_text("secret of outside")
    (inside / "a" / "c").write_text("text\nof mine\n")
    (inside / "out").symlink_to(outside)
    (inside / "linked").symlink_to(outside / "secret")
    return inside, outside


def test_file_tools_with_any_arguments_stay_inside() -> None:
    checks = {name: JsonCheck(describe(name, program_effect=Effect.NONE).schema) for name in FUNCTIONS}
    ran: set[str] = set()
    with tempfile.TemporaryDirectory() as folder:
        inside, outside = a_tree(Path(folder))

        @QUIET
        @example(("file.read", {"path": "a/c"}))
        @example(("file.write", {"path": "a/d", "text": "x"}))
        @example(("file.list", {}))
        @example(("file.search", {"pattern": "mine"}))
        @given(calls())
        def check(call: tuple[str, dict[str, Json]]) -> None:
            name, given_arguments = call
            if checks[name].find_fault(given_arguments) is not None:
                return
            order = Order(
                limits=Limits(),
                workspace=str(inside),
                is_confined=False,
                arguments=cast("dict[str, Any]", given_arguments),
            )
            # What the file system or the codec cannot take, the process of the call reports as the tool's error.
            with suppress(CallFailed, OSError, ValueError):
                assert "secret of outside" not in json.dumps(FUNCTIONS[name](order))
                ran.add(name)
            assert (outside / "secret").read_text() == "secret of outside"
            assert [one.name for one in outside.iterdir()] == ["secret"]

        fuzz(check)
    assert ran == set(FUNCTIONS)


def test_steps_of_any_shape_are_read_or_refused_in_words() -> None:
    tools = [ToolDescription(name=name, summary="") for name in ("a", "b")]
    question = Question((), cast("Any", None), step_check(tools, JsonCheck({"type": "integer"}, root="answer"), 3))
    call = st.fixed_dictionaries({"tool": st.sampled_from(["a", "b", "c"]) | VALUES, "arguments": VALUES})
    steps = st.fixed_dictionaries(
        {"thought": st.text() | VALUES, "calls": st.lists(call, max_size=4) | VALUES, "answer": st.integers() | VALUES}
    )
    written = st.builds(
        lambda value, around: f"{around}{json.dumps(value)}", steps | VALUES, st.sampled_from(["", "So: "])
    )
    read = 0

    @QUIET
    @given(written | st.text(), st.integers(0, 60))
    def check(text: str, cut: int) -> None:
        nonlocal read
        found = question.read(text[:-cut] if cut and cut % 5 == 0 else text)
        if isinstance(found, Written):
            step = read_step(found)
            assert len(step.calls) <= 3
            assert {one.name for one in step.calls} <= {"a", "b"}
            assert step.answer is None or int(cast("float", step.answer)) == step.answer  # 1.0 is an integer of JSON's
            read += 1
        else:
            assert found

    fuzz(check)
    assert read


def test_a_loop_ends_whatever_its_model_writes() -> None:
    @QUIET
    @given(st.lists(st.text(max_size=200) | VALUES.map(json.dumps), min_size=1))
    def check(texts: list[str]) -> None:
        turns = iter(range(1_000_000))
        talker = Talker(lambda chat: texts[next(turns) % len(texts)], one_tool("echo", echo))
        with suppress(ProgramFailed):
            talker.run(react({"task": "x", "max_steps": 4}, CONTEXT))
        assert len(talker.chats) <= 8

    fuzz(check)


SCHEMES = st.sampled_from(["http://", "https://", "HTTP://", "ftp://", "//", "http:\\\\"])
USERS = st.sampled_from(["", "u@", "u:p@", "a.example.org@", "[::1]@"])
HOSTS = st.sampled_from(
    ["a.example.org", "A.EXAMPLE.ORG.", "a.example.org:80", "x.b.org", "evil.org", "b.org", "[::1]", "0x7f.1"]
) | st.sampled_from(["ⓐ.example.org", "a.example.org%00.evil.org", "a.example.org.evil.org", "x.b.org:0"])
RESTS = st.sampled_from(["", "/", "?x", "#@a.example.org", "\\@a.example.org", ":99999", "/\n", "/\u2028"])


def test_any_url_is_refused_or_leads_where_it_may() -> None:
    near = st.tuples(SCHEMES, USERS, HOSTS, RESTS | st.text(max_size=8)).map("".join)

    @QUIET
    @given(near | st.text())
    def check(url: str) -> None:
        with suppress(CallFailed):
            target = check_url(url, ("a.example.org", "*.b.org"))
            assert target.host == "a.example.org" or target.host.endswith(".b.org")
            assert not (target.may_be_private and target.host != "a.example.org")

    fuzz(check)


TABLES = st.sampled_from(["tools", "mcp", "tools.limits", "mcp.a", "mcp.a.env", "models.a", "serve_models", "x"])
FIELDS = st.sampled_from(
    ["enable", "read", "write", "hosts", "commands", "network", "time_s", "cpu_s", "url", "command", "args", "env"]
) | st.sampled_from(["effects", "user", "allow", "headers"])
WRITTEN = st.sampled_from(
    ['["python"]', '["/"]', '["*"]', '"x"', "true", "1", "-1", "nan", "{}", '{ A = "b" }', "[[]]", '"http://x"']
)


def test_any_worker_file_is_read_or_refused_with_its_key(tmp_path: Path) -> None:
    tables = st.builds(
        lambda key, lines: f"[{key}]\n" + "".join(f"{field} = {value}\n" for field, value in lines.items()),
        TABLES,
        st.dictionaries(FIELDS, WRITTEN, max_size=4),
    )
    files = st.lists(tables, max_size=4, unique_by=lambda table: table.split("\n")[0]).map("\n".join)
    path = tmp_path / "worker.toml"

    @QUIET
    @given(files | st.text(max_size=60))
    def check(text: str) -> None:
        path.write_text(text, encoding="utf-8", errors="replace")
        with suppress(Misconfigured):
            assert load_worker_file(path).path == path

    fuzz(check)
