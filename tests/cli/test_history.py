"""`asterism history` and `asterism replay` as their users meet them."""

import json
from xml.etree import ElementTree

import pytest

from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.star import StarState
from asterism.protocol.convert import constellation_to_proto
from asterism.protocol.v1 import client_pb2, types_pb2
from tests.cli.peer import Context, Peer, serving
from tests.cli.shell import Shell
from tests.cli.stories import constellation


class Forgetful(Peer):
    """Says of one star what its journal does not."""

    async def GetConstellation(
        self, request: client_pb2.GetConstellationRequest, context: Context
    ) -> types_pb2.Constellation:
        of: TaskConstellation = constellation()
        of.stars[StarId("report")].state = StarState.FAILED
        return constellation_to_proto(of, {}, 16)


async def test_history_lists_each_revision_with_who_and_what(shell: Shell, peer: Peer) -> None:
    result = await shell.run("history", "c1", "--address", peer.address)
    rows = [line.split() for line in result.out.splitlines()]
    assert rows[0] == ["revision", "time", "by", "what", "why"]
    assert [row[0] for row in rows[1:]] == ["1", "2", "3"]
    assert rows[3][3:] == ["star:b01-a", "cancels", "b01-b"]
    listed = json.loads((await shell.run("history", "--output", "json", "--address", peer.address)).out)
    assert [(item["revision"], item["by"], item["summary"]) for item in listed["revisions"]] == [
        (1, "policy", "+1 star"),
        (2, "star:plan", "+3 stars, +2 lines"),
        (3, "star:b01-a", "cancels b01-b"),
    ]


async def test_history_draws_a_revision_as_it_was_made(shell: Shell, peer: Peer) -> None:
    drawn = await shell.run("history", "c1", "--revision", "1", "--address", peer.address)
    assert drawn.out == "boards.txt — RUNNING, revision 1\n└── plan READY  plan\n"
    picture = json.loads(
        (await shell.run("history", "c1", "--revision", "2", "--output", "json", "--address", peer.address)).out
    )
    assert {star["id"]: star["state"] for star in picture["stars"]}["b01-a"] == "READY"
    result = await shell.run("history", "c1", "--revision", "3", "-o", "g.svg", "--address", peer.address)
    assert result.code == 0
    assert ElementTree.parse(shell.home / "g.svg").getroot().tag.endswith("svg")


async def test_history_tells_two_revisions_apart(shell: Shell, peer: Peer) -> None:
    told = await shell.run("history", "c1", "--diff", "1..2", "--address", peer.address)
    assert told.out.splitlines() == [
        "revision 1 to 2: +3 stars",
        "+ report: gather gather.boards, after b01-a (however it ends), b01-b (however it ends)",
        "+ b01-a: reason reason.countdown  1 2 3 4",
        "+ b01-b: reason reason.countdown  1 2 3 4",
    ]
    back = json.loads(
        (await shell.run("history", "c1", "--diff", "3..0", "--output", "json", "--address", peer.address)).out
    )
    assert (back["from"], back["to"]) == (3, 0)
    assert sorted(back["removed"]) == ["b01-a", "b01-b", "plan", "report"]
    assert (await shell.run("history", "c1", "--diff", "2..", "--address", peer.address)).out == (
        "revision 2 to 3: no difference\n"
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--revision", "4"), "there is no revision 4; the newest is 3"),
        (("--diff", "1..9"), "there is no revision 9"),
        (("--diff", "1-2"), "is no A..B"),
        (("--diff", "1..2", "--revision", "1"), "not both"),
        (("--format", "svg"), "draw one revision"),
        (("--revision", "1", "-o", "g.pdf"), "suffix"),
    ],
)
async def test_history_refuses_what_makes_no_sense(
    shell: Shell, peer: Peer, arguments: tuple[str, ...], says: str
) -> None:
    result = await shell.run("history", "c1", *arguments, "--address", peer.address)
    assert (result.code, result.out) == (2, "")
    assert says in result.err


async def test_replay_agrees_with_the_orchestrator(shell: Shell, peer: Peer) -> None:
    result = await shell.run("replay", "c1", "--address", peer.address)
    assert result.code == 0
    assert result.out.splitlines() == [
        "c1  16 records up to 16, revision 3, SUCCEEDED",
        "4 stars: 3 SUCCEEDED, 1 CANCELLED",
        "the journal and the orchestrator agree: states, lines, attempts, results, revision",
    ]
    early = json.loads(
        (await shell.run("replay", "c1", "--until", "1", "--output", "json", "--address", peer.address)).out
    )
    assert (early["records"], early["stars"]["plan"]["state"], "is_equal" in early) == (2, "READY", False)
    assert (await shell.run("replay", "c1", "--until", "9", "--address", peer.address)).code == 2


async def test_replay_names_what_differs_and_fails(shell: Shell) -> None:
    async with serving(Forgetful()) as peer:
        result = await shell.run("replay", "c1", "--address", peer.address)
        as_json = await shell.run("replay", "c1", "--output", "json", "--address", peer.address)
    assert result.code == as_json.code == 1
    assert "star report: state: SUCCEEDED by the journal, FAILED by the orchestrator" in result.out
    assert json.loads(as_json.out)["is_equal"] is False
