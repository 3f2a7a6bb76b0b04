"""Edits and batches of them, both ways."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, assert_never

from asterism.orchestrator.core.edits import (
    AddLine,
    AddStar,
    CancelStar,
    Edit,
    EditBatch,
    RebindInputs,
    RemoveLine,
    RemoveStar,
    UpdateStar,
)
from asterism.orchestrator.core.errors import InvalidField
from asterism.orchestrator.core.ids import StarId
from asterism.protocol.convert import checks
from asterism.protocol.convert.star import (
    line_from_proto,
    priority_from_proto,
    requires_from_proto,
    retry_policy_from_proto,
    retry_policy_to_proto,
    star_id,
    star_inputs_from_proto,
    star_inputs_to_proto,
    star_spec_from_proto,
    timeouts_from_proto,
    timeouts_to_proto,
    write_line,
    write_star_spec,
)
from asterism.protocol.v1 import types_pb2 as pb

if TYPE_CHECKING:
    from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

MAX_EDITS: Final = 20_000
"""Most edits of one batch: twice the stars of the default budget, so that each may come with a line."""


def _write(edit: Edit, proto: pb.Edit, at: str) -> None:
    """Where the message is to be: made apart, each part of it would be copied into the next."""
    match edit:
        case AddLine(line):
            write_line(line, proto.add_line.line, f"{at}.add_line.line")
        case AddStar(spec, after):
            write_star_spec(spec, proto.add_star.spec, f"{at}.add_star.spec")
            if after:
                proto.add_star.after.extend(after)
        case RemoveStar(star):
            proto.remove_star.star = star
        case UpdateStar(star, priority, requires, timeouts, retry, title):
            proto.update_star.CopyFrom(
                pb.Edit.UpdateStar(
                    star=star,
                    priority=priority,
                    requires=None if requires is None else pb.Edit.Capabilities(requires=sorted(requires)),
                    timeouts=None if timeouts is None else timeouts_to_proto(timeouts),
                    retry=None if retry is None else retry_policy_to_proto(retry),
                    title=title,
                )
            )
        case RemoveLine(parent, child):
            proto.remove_line.parent = parent
            proto.remove_line.child = child
        case RebindInputs(star, inputs):
            protos = star_inputs_to_proto(inputs, f"{at}.rebind_inputs.inputs")
            proto.rebind_inputs.CopyFrom(pb.Edit.RebindInputs(star=star, inputs=protos))
        case CancelStar(star):
            proto.cancel_star.star = star
        case _:
            assert_never(edit)


def _read(proto: pb.Edit, at: str) -> Edit:
    """Any edit but a new star. Refuses one of no kind, which is also what a newer peer's unknown kind looks like."""
    match proto.WhichOneof("edit"):
        case "add_line":
            return AddLine(line_from_proto(proto.add_line.line, f"{at}.add_line.line"))
        case "remove_star":
            return RemoveStar(star_id(proto.remove_star.star, f"{at}.remove_star.star"))
        case "update_star":
            return _update_from_proto(proto.update_star, f"{at}.update_star")
        case "remove_line":
            return RemoveLine(
                star_id(proto.remove_line.parent, f"{at}.remove_line.parent"),
                star_id(proto.remove_line.child, f"{at}.remove_line.child"),
            )
        case "rebind_inputs":
            return RebindInputs(
                star_id(proto.rebind_inputs.star, f"{at}.rebind_inputs.star"),
                star_inputs_from_proto(proto.rebind_inputs.inputs, f"{at}.rebind_inputs.inputs"),
            )
        case "cancel_star":
            return CancelStar(star_id(proto.cancel_star.star, f"{at}.cancel_star.star"))
        case _:
            raise InvalidField(at, "must be one of the known edits")


def _update_from_proto(proto: pb.Edit.UpdateStar, at: str) -> UpdateStar:
    return UpdateStar(
        star_id(proto.star, f"{at}.star"),
        priority_from_proto(proto.priority, f"{at}.priority") if proto.HasField("priority") else None,
        requires_from_proto(proto.requires.requires, f"{at}.requires") if proto.HasField("requires") else None,
        timeouts_from_proto(proto.timeouts, f"{at}.timeouts") if proto.HasField("timeouts") else None,
        retry_policy_from_proto(proto.retry, f"{at}.retry") if proto.HasField("retry") else None,
        checks.text(proto.title, f"{at}.title", checks.MAX_TITLE) if proto.HasField("title") else None,
    )


def write_edits(edits: Sequence[Edit], protos: "RepeatedCompositeFieldContainer[pb.Edit]", at: str = "edits") -> None:
    """In order, into an empty list."""
    for index, edit in enumerate(edits):
        try:
            _write(edit, protos.add(), "")
        except InvalidField as error:
            raise InvalidField(f"{at}[{index}]{error.field}", error.reason) from None


def edits_from_proto(protos: Sequence[pb.Edit], at: str = "edits") -> tuple[Edit, ...]:
    """In order, worth at most MAX_EDITS."""
    checks.few(protos, at, MAX_EDITS)
    edits: list[Edit] = []
    parents = 0
    new: dict[str, StarId] = {}
    """Those that were added, whose names need not be looked at again, nor be kept once for each line."""
    try:
        for proto in protos:
            if proto.WhichOneof("edit") == "add_star":
                star = _read_star(proto.add_star, new)
                edits.append(star)
                parents += len(star.after)
                if parents > MAX_EDITS:
                    break
            else:
                edits.append(_read(proto, ""))
    except InvalidField as error:
        raise InvalidField(f"{at}[{len(edits)}]{error.field}", error.reason) from None
    if len(edits) + parents > MAX_EDITS:
        raise InvalidField(at, f"must have at most {MAX_EDITS} entries, with the parents of new stars")
    return tuple(edits)


def _read_star(proto: pb.Edit.AddStar, new: dict[str, StarId]) -> AddStar:
    checks.few(proto.after, ".add_star.after", MAX_EDITS)
    spec = star_spec_from_proto(proto.spec, ".add_star.spec")
    new[spec.id] = spec.id
    # A slice is made at once; one by one the names take three times as long.
    names = proto.after[:]
    try:
        return AddStar(spec, tuple([new[name] for name in names]))
    except KeyError:
        places = enumerate(names)
        after = (new.get(name) or star_id(name, f".add_star.after[{index}]") for index, name in places)
        return AddStar(spec, tuple(after))


def edit_batch_to_proto(batch: EditBatch, at: str = "batch") -> pb.EditBatch:
    """With the revision it was made against, if any."""
    proto = pb.EditBatch()
    write_edit_batch(batch, proto, at)
    return proto


def write_edit_batch(batch: EditBatch, proto: pb.EditBatch, at: str = "batch") -> None:
    """Into an empty message, where it is to be."""
    if batch.base_revision is not None:
        proto.base_revision = batch.base_revision
    write_edits(batch.edits, proto.edits, f"{at}.edits")


def edit_batch_from_proto(proto: pb.EditBatch, at: str = "batch") -> EditBatch:
    """Refuses the whole batch for its first bad edit, by its place in the batch."""
    base = checks.integer(proto.base_revision, f"{at}.base_revision") if proto.HasField("base_revision") else None
    return EditBatch(edits_from_proto(proto.edits, f"{at}.edits"), base)
