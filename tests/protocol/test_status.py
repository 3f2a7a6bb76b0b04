"""What one side raises, the other gets back."""

from collections.abc import Iterator

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata

from asterism.orchestrator.core import errors
from asterism.orchestrator.core.errors import AsterismError
from asterism.protocol.status import CODES, DETAILS_KEY, from_rpc_error, to_rpc_status

EXAMPLES = [
    errors.InvalidField("batch.edits[3].add_star.spec.inputs[x]", "must be ä JSON value"),
    errors.InvalidEdit("a", "would close a cycle"),
    errors.StaleRevision(3, 7, ["a", "b"]),
    errors.NotFound("constellation", "c1"),
    errors.AlreadyExists("request", "r1", "another request has this id"),
    errors.DataLoss("artifact", "sha256:00", "its bytes are others"),
    errors.WrongState("constellation", "c1", "SUCCEEDED", "nothing failed"),
    errors.Overloaded("too many requests", 2.5),
    errors.Unauthenticated("the credential has ended"),
    errors.Forbidden("worker", "submit"),
    errors.Unreachable("10.0.0.1:1", "it is leaving"),
    errors.NotLeading("10.0.0.2:1"),
    errors.Misconfigured("form", "no planner knows it"),
]


def leaves(root: type[AsterismError]) -> Iterator[type[AsterismError]]:
    for leaf in root.__subclasses__():
        yield leaf
        yield from leaves(leaf)


def received(error: AsterismError) -> AioRpcError:
    """As the other side sees the status."""
    status = to_rpc_status(error)
    return AioRpcError(status.code, Metadata(), Metadata(*status.trailing_metadata), status.details, None)


def test_table_has_every_leaf() -> None:
    # Other rooms have errors below these leaves; they travel as the leaf.
    assert set(CODES) == {leaf for leaf in leaves(AsterismError) if leaf.__module__ == AsterismError.__module__}
    assert {type(example) for example in EXAMPLES} == set(CODES)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_leaf_comes_back_with_its_fields(error: AsterismError) -> None:
    again = from_rpc_error(received(error), "elsewhere:1")
    assert type(again) is type(error)
    assert vars(again) == vars(error)
    assert str(again) == str(error)


def test_error_below_a_leaf_travels_as_the_leaf() -> None:
    class NarrowField(errors.InvalidField):
        pass

    again = from_rpc_error(received(NarrowField("field", "is too narrow")), "elsewhere:1")
    assert type(again) is errors.InvalidField
    assert vars(again) == {"message": "field: is too narrow", "field": "field", "reason": "is too narrow"}


def test_long_texts_are_clipped_so_that_they_fit_into_trailers() -> None:
    error = errors.InvalidField("f" * 100_000, "ä\ud800" * 100_000)
    status = to_rpc_status(error)
    assert len(status.details) <= 1000
    assert len(status.trailing_metadata[0][1]) < 12_000
    assert isinstance(from_rpc_error(received(error), "a"), errors.InvalidField)
    many = errors.StaleRevision(1, 2, ["s" * 64] * 10_000)
    assert len(to_rpc_status(many).trailing_metadata[0][1]) < 12_000


@pytest.mark.parametrize(
    ("code", "leaf"),
    [
        (grpc.StatusCode.UNAVAILABLE, errors.Unreachable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.Unreachable),
        (grpc.StatusCode.INTERNAL, errors.Unreachable),
        (grpc.StatusCode.UNIMPLEMENTED, errors.Misconfigured),
        (grpc.StatusCode.UNAUTHENTICATED, errors.Unauthenticated),
        (grpc.StatusCode.PERMISSION_DENIED, errors.Forbidden),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.Overloaded),
        (grpc.StatusCode.INVALID_ARGUMENT, errors.InvalidField),
        (grpc.StatusCode.NOT_FOUND, errors.NotFound),
    ],
)
def test_status_that_is_not_ours_becomes_the_nearest_leaf(code: grpc.StatusCode, leaf: type[AsterismError]) -> None:
    error = AioRpcError(code, Metadata(), Metadata(), "words", None)
    assert type(from_rpc_error(error, "there:1")) is leaf


@pytest.mark.parametrize("details", [b"\xff\xff", b"", to_rpc_status(EXAMPLES[0]).trailing_metadata[0][1][:-5]])
def test_details_that_do_not_parse_are_left_out(details: bytes) -> None:
    error = AioRpcError(grpc.StatusCode.NOT_FOUND, Metadata(), Metadata((DETAILS_KEY, details)), "words", None)
    assert type(from_rpc_error(error, "there:1")) is errors.NotFound
