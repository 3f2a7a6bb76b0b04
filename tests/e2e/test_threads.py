"""Sixteen reasoning threads through the real parts, beside two other stars on the same worker."""

import asyncio
import json
import socket
from typing import Any
from urllib.request import urlopen

import pytest

from asterism.orchestrator.core.records import ConstellationEnded, Record
from asterism.orchestrator.core.request import ConstellationState, Request
from asterism.protocol.answers import StreamedText
from asterism.protocol.client import AsyncClient
from tests.processes import Fleet, attached

pytestmark = pytest.mark.timeout(240)

MARKS = {
    "glue": " ",
    "opening": "{thread_opens} {number} : {outline} left",
    "entry": "{entry_opens} {number} : {outline} {entry_closes}",
    "closes_block": True,
    "after_join": "<Answer>",
}
ENDS = ["<end>", "<Parallel>", "<Thread>"]
"""What would end a text of one thread, or cut it."""
BOARD = "<Board> 3 4 6 8 -> 24"
FIRST_MOVES = [f"{a} {sign} {b}" for a, b in ((3, 4), (6, 8), (3, 8), (4, 8)) for sign in "+-*/"]


def star(name: str, declared: dict[str, Any], *outlines: str) -> dict[str, Any]:
    inputs = {"prompt": BOARD, "declared": declared, "outlines": outlines}
    return {"id": name, "kind": "reason", "program": "reason.text", "requires": ["model:countdown"], "inputs": inputs}


def forked() -> dict[str, Any]:
    """Sixteen first moves; when eight threads have come to their end, the others are cancelled."""
    return {
        "marks": MARKS,
        "stop": ["</Answer>"],
        "policy": {"quorum": 8},
        "sampling": {"temperature": 1.5, "seed": 3},
        "limits": {"threads": 16, "at_once": 16, "tokens_a_thread": 200, "tokens_parent": 400, "tail_tokens": 24},
    }


def alone(tokens: int) -> dict[str, Any]:
    """One text, that goes on until its tokens are used up."""
    limits = {"threads": 1, "depth": 0, "tokens_parent": tokens}
    sampling = {"temperature": 1.5, "banned": ENDS}
    return {"marks": MARKS, "opens_with": "<Search>", "sampling": sampling, "limits": limits}


def free_address() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{found.getsockname()[1]}"


def counted(address: str) -> dict[str, float]:
    """The engine's sums and gauges, by name."""
    with urlopen(f"http://{address}/metrics", timeout=10) as page:
        lines = [line.rpartition(" ") for line in page.read().decode().splitlines() if not line.startswith("#")]
    return {name.partition("{")[0].removeprefix("asterism:"): float(value) for name, _, value in lines}


class Watching:
    """What two requests stream, in the order in which it came."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self.said: list[tuple[str, str]] = []
        """Star and thread of each chunk."""
        self.both_speak = asyncio.Event()

    async def watch(self, plan: dict[str, Any]) -> dict[str, Any]:
        """Submits a plan and watches it to its end; gives the results by star."""
        submitted = await self._client.submit(Request("plan", json.dumps(plan)))
        records: list[Record] = []
        async for record in self._client.watch(submitted.constellation):
            if not isinstance(record, StreamedText):
                records.append(record)
                continue
            self.said.extend((str(record.star), chunk.thread) for chunk in record.chunks)
            if {star for star, _ in self.said} >= {"left", "right"}:
                self.both_speak.set()
        ended = records[-1]
        assert isinstance(ended, ConstellationEnded)
        assert ended.state is ConstellationState.SUCCEEDED, ended.reason
        picture = await self._client.get(submitted.constellation)
        return {str(name): one.result for name, one in picture.constellation.stars.items()}


async def test_sixteen_threads_stream_side_by_side_while_other_stars_decode(running: Fleet) -> None:
    metrics = free_address()
    running.start_worker("ada", "--model", "countdown", "--slots", "3", "--metrics", metrics)
    async with AsyncClient(running.address) as client:
        await attached(client, 1)
        watching = Watching(client)
        others = asyncio.create_task(watching.watch({"stars": [star("left", alone(900)), star("right", alone(900))]}))
        await watching.both_speak.wait()
        asked = (await watching.watch({"stars": [star("ask", forked(), *FIRST_MOVES)]}))["ask"]
        assert not others.done()
        alone_said = await others
    said = watching.said
    names = {f"t{number}" for number in range(1, 17)}
    assert {thread for star, thread in said if star == "ask"} - {"main"} == names
    places = [place for place, (star, thread) in enumerate(said) if star == "ask" and thread in names]
    assert {("left", "main"), ("right", "main")} <= set(said[places[0] : places[-1]])
    assert alone_said["left"]["accounting"]["total_tokens"] == alone_said["right"]["accounting"]["total_tokens"] == 900
    outcomes = [thread["outcome"] for thread in asked["threads"]]
    assert outcomes.count("cancelled") == asked["accounting"]["threads_cancelled"] >= 4, asked
    found = counted(metrics)
    assert found["num_cancelled_total"] >= 4
    assert found["cancel_steps_max"] <= 2, "a cancelled thread kept its blocks"
    assert found["kv_cache_usage"] == found["num_requests_running"] == 0
