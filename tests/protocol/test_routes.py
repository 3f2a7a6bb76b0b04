"""Whom a client or worker speaks to, of several orchestrators."""

import pytest

from asterism.orchestrator.core.errors import Misconfigured, NotLeading, Unreachable
from asterism.protocol.routes import Routes

GONE = Unreachable("a:1", "it is gone")


def test_one_address_stays_whatever_happens() -> None:
    routes = Routes("a:1")
    for error in (None, GONE, NotLeading(""), NotLeading("a:1")):
        routes.after("a:1", error)
        assert routes.current == "a:1"
    assert not routes.are_several


def test_next_one_is_tried_where_one_cannot_be_had_or_left() -> None:
    routes = Routes("a:1, b:2,c:3")
    assert routes.are_several
    for asked, error, following in (("a:1", GONE, "b:2"), ("b:2", None, "c:3"), ("c:3", NotLeading(""), "a:1")):
        routes.after(asked, error)
        assert routes.current == following


def test_leader_that_is_named_is_followed_and_left_for_a_known_one() -> None:
    routes = Routes("a:1,b:2")
    routes.after("a:1", NotLeading("d:4"))
    assert routes.current == "d:4"
    routes.after("d:4", GONE)
    assert routes.current == "a:1"


def test_one_that_names_itself_or_nonsense_is_left_for_the_next() -> None:
    for named in ("a:1", "nonsense", "x:0"):
        routes = Routes("a:1,b:2")
        routes.after("a:1", NotLeading(named))
        assert routes.current == "b:2"


def test_second_caller_with_the_same_trouble_does_not_move_on_again() -> None:
    routes = Routes("a:1,b:2")
    for _ in range(2):
        routes.after("a:1", GONE)
        assert routes.current == "b:2"


@pytest.mark.parametrize("addresses", ["", "a:1,", "a:1,b", "a:1;b:2"])
def test_what_is_no_list_of_addresses_is_refused(addresses: str) -> None:
    with pytest.raises(Misconfigured, match="address"):
        Routes(addresses)
