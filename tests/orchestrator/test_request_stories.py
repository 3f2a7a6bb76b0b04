"""Hypothesis plays two people and a worker at a real orchestrator, over gRPC and on a database file, beside a model of
what each call may add to the journal: whatever is asked, repeated, refused or cut off, nothing else changes."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import pytest
import structlog
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from asterism.orchestrator.core.request import ConstellationState
from asterism.orchestrator.core.snapshot import Summary
from asterism.orchestrator.core.star import StarState
from asterism.protocol.convert import (
    constellation_from_proto,
    constellation_state_to_proto,
    record_from_proto,
    summary_from_proto,
)
from asterism.protocol.replay import differences
from asterism.protocol.v1 import client_pb2
from tests.orchestrator.bad_calls import BAD, OF_ONE, request_of
from tests.orchestrator.lives import Blank, Lives
from tests.orchestrator.request_changes import PEOPLE, READERS, ROLES, Changing, picks
from tests.orchestrator.request_model import INVALID, MISSING, Known
from tests.orchestrator.serving import EOF
from tests.stories import stories

# At its full size it takes minutes of a core.
pytestmark = pytest.mark.timeout(1800)

blanks: Final[list[Blank]] = []


@pytest.fixture(scope="module", autouse=True)
def blank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What all stories begin with."""
    logging = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    with asyncio.Runner() as runner:
        blanks.append(Blank(runner, tmp_path_factory.mktemp("lives"), ROLES))
        yield
        blanks.clear()
    structlog.configure(**logging)


@dataclass
class Watcher:
    """Somebody who looks at a stream now and then, and resumes where it breaks."""

    of: Known
    seq: int
    """Of the last record that was read."""
    call: Any = None


@dataclass
class Listing:
    """Somebody who turns the pages of a list, whatever happens meanwhile."""

    who: str
    page_size: int
    due: list[str]
    """What was there when it began, newest first."""
    seen: list[str] = field(default_factory=list)
    token: str = ""


class RequestStory(Changing):
    """Two people and an admin, a worker of two slots, and an orchestrator that ends and is killed now and then."""

    def __init__(self) -> None:
        super().__init__(Lives(blanks[0]))
        self.watchers: list[Watcher] = []
        self.listings: list[Listing] = []
        self.compared_at = 0

    def teardown(self) -> None:
        try:
            for of in self.known:
                self.compare(of)
        finally:
            super().teardown()

    # Bad calls.

    @rule(number=picks, method=st.sampled_from(sorted(OF_ONE)), is_there=st.booleans())
    def ask_for_what_is_not_ones_own(self, number: int, method: str, is_there: bool) -> None:
        """What belongs to others does not exist, nor does what nobody has submitted."""
        of = self.pick(number)
        (stranger,) = {*PEOPLE} - {of.owner}
        named = of.id if is_there else "c0123"
        self.refuse(MISSING, stranger, method, request_of(method, **{**OF_ONE[method], "constellation": named}))

    @rule(number=picks, bad=st.sampled_from(BAD))
    def ask_badly(self, number: int, bad: tuple[str, dict[str, Any]]) -> None:
        of = self.pick(number)
        method, fields = bad
        whole: dict[str, Any] = {}
        if method == "Submit":
            asked = of.asked
            whole = {"request_id": "bad", "request": asked.request, "budget": asked.budget}
        elif method in OF_ONE:
            whole = {**OF_ONE[method], "constellation": of.id}
        self.refuse(INVALID, of.owner, method, request_of(method, **{**whole, **fields}))

    @rule(number=picks)
    def ask_at_length(self, number: int) -> None:
        """More than a message may have is refused by gRPC itself."""
        of = self.pick(number)
        message = client_pb2.CancelRequest(constellation=of.id, reason="x" * (4 * 1024 * 1024))
        self.refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, of.owner, "Cancel", message)

    # Looking.

    @rule(number=picks, point=st.integers(0, 60))
    def watch(self, number: int, point: int) -> None:
        """From any point: the rest of the history, whole and in order, and its end where it has one."""
        of = self.pick(number)
        watcher = Watcher(of, self.some_seq(of, point))
        self.read_on(watcher)
        if of.graph.state.is_terminal:
            self.resume(watcher)
            assert self.read(watcher) is EOF
        self.close(watcher)

    @precondition(lambda self: len(self.watchers) < 4)
    @rule(number=picks, point=st.integers(0, 60))
    def begin_to_watch(self, number: int, point: int) -> None:
        """A stream that stays open."""
        of = self.pick(number)
        self.watchers.append(Watcher(of, self.some_seq(of, point)))
        self.resume(self.watchers[-1])

    @precondition(lambda self: self.watchers)
    @rule(number=picks, is_last=st.booleans())
    def go_on_watching(self, number: int, is_last: bool) -> None:
        watcher = self.watchers[number % len(self.watchers)]
        self.last = watcher.of
        self.read_on(watcher)
        if is_last:
            self.watchers.remove(watcher)
            self.close(watcher)

    def some_seq(self, of: Known, point: int) -> int:
        """The number of a record of it, or one before or between them."""
        seqs = sorted({0, *(record.seq for record in of.history), *(record.seq - 1 for record in of.history)})
        return seqs[point % len(seqs)]

    def resume(self, watcher: Watcher) -> None:
        self.close(watcher)
        message = client_pb2.WatchRequest(constellation=watcher.of.id, after_seq=watcher.seq)
        watcher.call = self.lives.stream(watcher.of.owner, "Watch", message)

    def read(self, watcher: Watcher) -> Any:
        return self.lives.wait(watcher.call.read())

    def close(self, watcher: Watcher) -> None:
        if watcher.call is not None:
            watcher.call.cancel()
            watcher.call = None

    def read_on(self, watcher: Watcher) -> None:
        """All that is left of its history. A stream may end where its request had ended, and then another goes on."""
        is_new = False
        while rest := watcher.of.after(watcher.seq):
            if watcher.call is None:
                self.resume(watcher)
                is_new = True
            response = self.read(watcher)
            if response is EOF:
                assert not is_new, f"the stream owes {rest}"
                assert watcher.of.had_ended(watcher.seq), "the stream ended before its request"
                watcher.call = None
                continue
            is_new = False
            read = [record_from_proto(record) for record in response.records]
            assert read == rest[: len(read)], "records are missing, or there twice"
            watcher.seq = read[-1].seq

    @rule(number=picks)
    def wait_for_the_end(self, number: int) -> None:
        """Of what has ended it is known at once how."""
        of = self.pick(number)
        graph = of.graph
        if graph.state.is_terminal:
            answer, new = self.accept(of, of.owner, "Wait", client_pb2.WaitRequest(constellation=of.id))
            assert answer.state == constellation_state_to_proto(graph.state)
            assert (answer.reason, answer.ended_at) == (graph.reason, graph.ended_at)
            assert new == []

    @rule(
        who=st.sampled_from(READERS),
        page_size=st.integers(1, 4),
        states=st.sets(st.sampled_from(ConstellationState)),
    )
    def list_all(self, who: str, page_size: int, states: set[ConstellationState]) -> None:
        """Page after page, of some states or all of them."""
        expected = [of.row for of in self.visible(who)]
        expected = [row for row in expected if not states or row.state in states]
        rows, token = list[Summary](), ""
        while token or not rows:
            asked = [constellation_state_to_proto(state) for state in sorted(states)]
            message = client_pb2.ListConstellationsRequest(page_size=page_size, page_token=token, states=asked)
            (page,) = self.lives.ask(who, "ListConstellations", message)
            rows += map(summary_from_proto, page.constellations)
            token = page.next_page_token
            assert len(page.constellations) == page_size or not token
            if not token:
                break
        assert rows == expected

    @precondition(lambda self: len(self.listings) < 3)
    @rule(who=st.sampled_from(READERS), page_size=st.integers(1, 3))
    def begin_to_list(self, who: str, page_size: int) -> None:
        """The first page of a list, whose others come when much may have happened."""
        self.listings.append(Listing(who, page_size, [of.id for of in self.visible(who)]))
        self.turn_page(len(self.listings) - 1)

    @precondition(lambda self: self.listings)
    @rule(number=picks)
    def turn_page(self, number: int) -> None:
        """Each of what was there at the beginning comes exactly once, and nothing that came later."""
        listing = self.listings[number % len(self.listings)]
        message = client_pb2.ListConstellationsRequest(page_size=listing.page_size, page_token=listing.token)
        (page,) = self.lives.ask(listing.who, "ListConstellations", message)
        listing.seen += [row.id for row in page.constellations]
        listing.token = page.next_page_token
        assert listing.seen == listing.due[: len(listing.seen)]
        if not listing.token:
            assert listing.seen == listing.due
            self.listings.remove(listing)

    # The orchestrator.

    @rule(is_killed=st.booleans())
    def restart(self, is_killed: bool) -> None:
        """All that was acknowledged is there, and all that was ever submitted may be repeated."""
        for watcher in self.watchers:
            self.close(watcher)
        self.worker = None
        self.lives.restart(is_killed=is_killed)
        for of in self.known:
            self.compare(of)
            self.submit_again(of)

    @invariant()
    def what_is_shown_is_what_is_on_disk(self) -> None:
        """Of what was spoken of last, and of a list; where nothing was stored, both are as they were."""
        if self.last is not None and self.seq != self.compared_at:
            self.compared_at = self.seq
            self.compare(self.last)
            who = READERS[self.seq % len(READERS)]
            (page,) = self.lives.ask(who, "ListConstellations", client_pb2.ListConstellationsRequest())
            assert [summary_from_proto(row) for row in page.constellations] == [of.row for of in self.visible(who)]

    def compare(self, of: Known) -> None:
        """What `get` shows is what the journal leads to."""
        message = client_pb2.GetConstellationRequest(constellation=of.id)
        (answer,) = self.lives.ask(of.owner, "GetConstellation", message)
        shown, waiting_for = constellation_from_proto(answer)
        assert not list(differences(of.graph, shown))
        waiting = {star for star, found in shown.stars.items() if found.state in (StarState.WAITING, StarState.READY)}
        assert waiting_for.keys() == waiting, "nothing waits in silence"


TestRequestStory = RequestStory.TestCase
TestRequestStory.settings = stories(20)
