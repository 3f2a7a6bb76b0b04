"""The client library against a real server on loopback that follows a script."""

import asyncio
import subprocess
import sys
import threading
from contextlib import aclosing

import grpc
import pytest

from asterism.orchestrator.core.edits import CancelStar, EditBatch
from asterism.orchestrator.core.errors import (
    Misconfigured,
    NotFound,
    Overloaded,
    StaleRevision,
    Unreachable,
    WrongState,
)
from asterism.orchestrator.core.ids import ConstellationId, WorkerId
from asterism.orchestrator.core.records import ConstellationEnded
from asterism.orchestrator.core.request import Budget, Request
from asterism.protocol import AsyncClient, Client
from asterism.protocol.answers import StreamedText
from asterism.protocol.client import Watched
from tests.protocol.peer import CONSTELLATION, COUNTERS, ENDING, STAR, TEXT, WORKER, Script, serving


async def watched(client: AsyncClient, after_seq: int = 0, *, with_text: bool = False) -> list[Watched]:
    return [item async for item in client.watch(CONSTELLATION, after_seq, with_text)]


async def test_calls_are_answered() -> None:
    script = Script()
    async with serving(script) as port, AsyncClient(f"127.0.0.1:{port}") as client:
        first = await client.submit(Request("plan", "x", options={"a": 1}), "r1", Budget(seconds=5))
        again = await client.submit(Request("plan", "x", options={"a": 1}), "r1", Budget(seconds=5))
        assert (first.constellation, first.is_new, again.is_new) == (CONSTELLATION, True, False)
        assert script.submitted[0].budget.seconds == 5
        picture = await client.get(CONSTELLATION)
        assert picture.constellation.id == CONSTELLATION
        assert await client.edit(CONSTELLATION, EditBatch((CancelStar(STAR),), 3)) == 2
        assert await client.retry(CONSTELLATION) == 8
        await client.cancel(CONSTELLATION, "enough")
        assert await client.workers() == (WORKER,)
        await client.drain(WORKER.id)
        assert await client.label(WORKER.id, {"a": "b"}, remove=["zone"]) == {"a": "b"}
        assert await client.wait(CONSTELLATION) == ENDING
        assert await client.counters() == COUNTERS
        assert script.authorization == [""] * 11


async def test_wait_goes_on_after_a_broken_connection() -> None:
    script = Script(break_after=[0, 0])
    async with serving(script) as port, AsyncClient(f"127.0.0.1:{port}") as client:
        assert await client.wait(CONSTELLATION) == ENDING
    assert len(script.authorization) == 3


async def test_requests_without_an_id_get_different_ones() -> None:
    script = Script()
    async with serving(script) as port, AsyncClient(f"127.0.0.1:{port}") as client:
        await client.submit(Request("plan", "x"))
        await client.submit(Request("plan", "x"))
    assert script.submitted[0].request_id != script.submitted[1].request_id


async def test_list_goes_through_all_pages() -> None:
    async with serving(Script()) as port, AsyncClient(f"127.0.0.1:{port}") as client:
        assert [row.id async for row in client.list(page_size=2)] == ["c1", "c2", "c3", "c4", "c5"]


@pytest.mark.parametrize(
    "error",
    [NotFound("constellation", "c1"), StaleRevision(1, 2, ["a"]), Overloaded("too many", 3.0)],
    ids=lambda error: type(error).__name__,
)
async def test_error_of_the_server_is_raised_here(error: NotFound) -> None:
    async with serving(Script(refuse=error)) as port, AsyncClient(f"127.0.0.1:{port}") as client:
        with pytest.raises(type(error)) as raised:
            await client.get(CONSTELLATION)
    assert vars(raised.value) == vars(error)


async def test_watch_gives_records_and_text_until_the_end() -> None:
    script = Script()
    async with serving(script) as port, AsyncClient(f"127.0.0.1:{port}") as client:
        assert await watched(client) == script.journal
        assert [item for item in await watched(client, with_text=True) if isinstance(item, StreamedText)] == [TEXT]
        assert await watched(client, 4) == script.journal[2:]


async def test_watch_of_what_has_ended_already_ends() -> None:
    script = Script()
    async with serving(script) as port, AsyncClient(f"127.0.0.1:{port}") as client:
        assert await watched(client, 9) == []
    assert script.watched_after == [9]


@pytest.mark.parametrize("goes_quietly", [False, True])
async def test_watch_resumes_after_a_broken_stream(goes_quietly: bool) -> None:
    script = Script(break_after=[1, 0, 2], goes_quietly=goes_quietly)
    async with serving(script) as port, AsyncClient(f"127.0.0.1:{port}") as client:
        assert await watched(client) == script.journal
    assert script.watched_after == [0, 3, 3, 7]


async def test_record_that_comes_twice_is_given_once() -> None:
    script = Script(break_after=[3], replays_from=0)
    async with serving(script) as port, AsyncClient(f"127.0.0.1:{port}") as client:
        assert await watched(client) == script.journal


async def test_watch_resumes_when_the_server_comes_back_on_the_same_port() -> None:
    script = Script()
    whole = script.journal
    script.journal, script.has_ended = whole[:2], False
    seen: list[Watched] = []
    has_two = asyncio.Event()

    async def follow(client: AsyncClient) -> None:
        async for item in client.watch(CONSTELLATION, with_text=False):
            seen.append(item)
            if len(seen) == 2:
                has_two.set()

    async with asyncio.TaskGroup() as tasks:
        async with serving(script) as port:
            client = await tasks_client(port)
            following = tasks.create_task(follow(client))
            await has_two.wait()
        # Nobody listens now; what happens meanwhile is in the journal when the server comes back.
        script.journal, script.has_ended = whole, True
        async with serving(script, port=port):
            await following
    await client.__aexit__(None, None, None)
    assert seen == whole
    assert script.watched_after[-1] == 4


async def tasks_client(port: int) -> AsyncClient:
    """A client that outlives one server."""
    return await AsyncClient(f"127.0.0.1:{port}").__aenter__()


async def test_watch_gives_up_when_nobody_answers_for_long() -> None:
    script = Script(break_after=[2])
    async with serving(script) as port:
        pass
    async with AsyncClient(f"127.0.0.1:{port}", patience_s=0.3) as client:
        with pytest.raises(Unreachable, match=f"127.0.0.1:{port}"):
            await watched(client)


async def test_watch_of_something_unknown_is_refused_at_once() -> None:
    script = Script(refuse=NotFound("request", "c1"))
    async with serving(script) as port, AsyncClient(f"127.0.0.1:{port}") as client:
        with pytest.raises(NotFound):
            await watched(client)
    assert len(script.authorization) == 1


async def test_watch_may_be_left_early() -> None:
    async with serving(Script()) as port, AsyncClient(f"127.0.0.1:{port}") as client:
        async with aclosing(client.watch(CONSTELLATION)) as items:
            async for _ in items:
                break
        assert await client.retry(CONSTELLATION) == 8


async def test_silent_server_is_unreachable_after_the_deadline() -> None:
    async with serving(Script(hangs=True)) as port, AsyncClient(f"127.0.0.1:{port}", deadline_s=0.2) as client:
        with pytest.raises(Unreachable, match="deadline"):
            await client.get(CONSTELLATION)


async def test_nobody_at_the_address_is_unreachable() -> None:
    async with serving(Script()) as port:
        pass
    async with AsyncClient(f"127.0.0.1:{port}") as client:
        with pytest.raises(Unreachable, match=f"127.0.0.1:{port}"):
            await client.workers()


async def test_answer_that_cannot_be_read_is_no_fault_of_the_caller() -> None:
    async with serving(Script(ids=["a/b"])) as port, AsyncClient(f"127.0.0.1:{port}") as client:
        with pytest.raises(Unreachable, match="cannot be read"):
            _ = [row async for row in client.list()]


async def test_health_is_asked_without_the_health_package() -> None:
    async def check(request: bytes, context: object) -> bytes:
        return b"\x08\x01"

    handler = grpc.method_handlers_generic_handler(
        "grpc.health.v1.Health", {"Check": grpc.unary_unary_rpc_method_handler(check)}
    )
    async with serving(Script(), handlers=[handler]) as port, AsyncClient(f"127.0.0.1:{port}") as client:
        assert await client.health()
    async with serving(Script()) as port, AsyncClient(f"127.0.0.1:{port}") as client:
        with pytest.raises(Misconfigured):
            await client.health()


async def test_blocking_client_does_the_same_without_a_loop() -> None:
    script = Script(break_after=[1, 1])

    def use(port: int) -> list[Watched]:
        with Client(f"127.0.0.1:{port}") as client:
            assert client.submit(Request("plan", "x"), "r1").constellation == CONSTELLATION
            assert client.get(CONSTELLATION).constellation.state.is_terminal
            assert [row.id for row in client.list(page_size=3)] == ["c1", "c2", "c3", "c4", "c5"]
            assert client.edit(CONSTELLATION, EditBatch(())) == 1
            assert client.retry(CONSTELLATION) == 8
            client.cancel(CONSTELLATION)
            assert client.workers() == (WORKER,)
            client.drain(WorkerId("w1"), is_draining=False)
            assert client.label(WorkerId("w1"), {"a": "b"}) == {"zone": "lab", "a": "b"}
            assert client.wait(CONSTELLATION) == ENDING
            assert client.counters() == COUNTERS
            script.refuse = NotFound("request", "c1")
            with pytest.raises(NotFound):
                client.get(ConstellationId("c1"))
            script.refuse = None
            return list(client.watch(CONSTELLATION, with_text=False))

    async with serving(script) as port:
        assert await asyncio.to_thread(use, port) == script.journal
    assert all(thread.name != "asterism-client" for thread in threading.enumerate())


async def test_blocking_client_may_leave_a_watch_and_close() -> None:
    def use(port: int) -> Watched:
        with Client(f"127.0.0.1:{port}") as client:
            for item in client.watch(CONSTELLATION):
                return item
        raise AssertionError("nothing came")

    async with serving(Script()) as port:
        assert not isinstance(await asyncio.to_thread(use, port), ConstellationEnded)


def test_blocking_client_says_what_is_wrong_with_its_address() -> None:
    with pytest.raises(Misconfigured, match="address"), Client("nowhere"):
        pass


def test_blocking_client_that_is_not_open_says_how_to_use_it() -> None:
    client = Client("127.0.0.1:9")
    with pytest.raises(WrongState, match="use it as `with Client"):
        client.get(CONSTELLATION)
    with pytest.raises(WrongState, match="use it as `with Client"):
        next(client.watch(CONSTELLATION))
    with client:
        pass
    with pytest.raises(WrongState, match="use it as `with Client"):
        client.workers()


async def test_blocking_client_may_be_opened_again() -> None:
    def use(port: int) -> None:
        client = Client(f"127.0.0.1:{port}")
        for _ in range(2):
            with client:
                assert client.workers() == (WORKER,)

    async with serving(Script()) as port:
        await asyncio.to_thread(use, port)


async def test_client_that_is_not_open_says_how_to_use_it() -> None:
    with pytest.raises(WrongState, match="use it as `async with AsyncClient"):
        await AsyncClient("127.0.0.1:9").workers()


def test_importing_the_client_brings_nothing_heavy() -> None:
    heavy = ["networkx", "sqlalchemy", "torch", "pydantic", "numpy", "cryptography", "rich", "typer"]
    program = f"import sys, asterism.protocol.client; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_importing_the_protocol_does_not_import_grpc() -> None:
    program = "import sys, asterism.protocol; print('grpc' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
