"""What a plan may ask for: the tools, programs, models and labels of the fleet, as a planner is told of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import Field

from asterism.agents.data import as_text
from asterism.orchestrator.core.profile import WorkerProfile
from asterism.orchestrator.core.values import Json, json_bytes
from asterism.planner.fields import Fields, WrongAt, refusal, validated

MAX_OFFERS: Final = 1_000
MAX_BYTES: Final = 128 * 1024
"""Of all as JSON: half of what one input of a star may have."""
MAX_SUMMARY: Final = 500
PLANNER_LABEL: Final = "planner"
DEFAULT_MODEL_LABEL: Final = "default-model"
_NOT_FOR_PLANS: Final = frozenset(
    {"gather.boards", "map.expand", "plan", "plan.next", "plan.text", "plan.replan", "reason.child", "reason.countdown"}
    | {"reason.join"}
)
"""Programs that others write into a graph."""
_BOARD_MODELS: Final = frozenset({"countdown", "apr"})
"""Models that read boards and no language."""


class _OfferFields(Fields):
    name: str
    summary: str = ""
    schema_: Any = Field(default=None, alias="schema")


class _SurroundingsFields(Fields):
    tools: list[_OfferFields] = Field(default=[], max_length=MAX_OFFERS)
    programs: list[_OfferFields] = Field(default=[], max_length=MAX_OFFERS)
    models: list[str] = Field(default=[], max_length=MAX_OFFERS)
    labels: list[str] = Field(default=[], max_length=MAX_OFFERS)
    has_gpu: bool = False


@dataclass(frozen=True, slots=True)
class Offer:
    """A tool or a program."""

    name: str
    summary: str = ""
    schema: Json = None
    """JSON schema of its inputs, where it is known."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """All that the fleet offers, each once and in the order of the names."""

    tools: tuple[Offer, ...] = ()
    programs: tuple[Offer, ...] = ()
    """Those that a plan may use."""
    models: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    """`KEY=VALUE`."""
    has_gpu: bool = False

    @classmethod
    def of_fleet(cls, fleet: Iterable[tuple[WorkerProfile, Mapping[str, str]]]) -> "Surroundings":
        """What these workers offer, each with the labels that an operator added."""
        tools: dict[str, Offer] = {}
        programs: dict[str, Offer] = {}
        models: set[str] = set()
        labels: set[str] = set()
        has_gpu = False
        for profile, added in fleet:
            for name in profile.tools:
                tools.setdefault(name, _offer(profile, f"tool:{name}"))
            for name in profile.programs:
                if name not in _NOT_FOR_PLANS:
                    programs.setdefault(name, _offer(profile, f"program:{name}"))
            models.update(profile.models)
            labels.update(f"{key}={value}" for key, value in {**profile.labels, **added}.items())
            has_gpu = has_gpu or bool(profile.gpus)
        return cls(_sorted(tools), _sorted(programs), tuple(sorted(models)), tuple(sorted(labels)), has_gpu)

    @property
    def capabilities(self) -> frozenset[str]:
        """What a star may require, map's own programs included."""
        return frozenset(
            [
                *(f"tool:{offer.name}" for offer in self.tools),
                *(f"program:{offer.name}" for offer in self.programs),
                *(f"program:{name}" for name in ("map.expand", "gather.list")),
                *(f"model:{name}" for name in self.models),
                *(f"label:{label}" for label in self.labels),
                *(["gpu"] if self.has_gpu else []),
            ]
        )

    def to_json(self) -> Json:
        """The form of the input `surroundings` of a plan star; schemas, then summaries are left out where they are too
        much for it."""
        for with_schemas, with_summaries in ((True, True), (False, True), (False, False)):
            value: dict[str, Json] = {
                "tools": [_offer_to_json(o, schema=with_schemas, summary=with_summaries) for o in self.tools],
                "programs": [_offer_to_json(o, schema=with_schemas, summary=with_summaries) for o in self.programs],
                "models": list(self.models),
                "labels": list(self.labels),
                "has_gpu": self.has_gpu,
            }
            if json_bytes(value) <= MAX_BYTES:
                return value
        return {**value, "labels": []}

    @classmethod
    def from_json(cls, value: Json) -> "Surroundings":
        """The other way; raises InvalidField."""
        try:
            read = validated(_SurroundingsFields, {} if value is None else value, at=())
        except WrongAt as wrong:
            raise refusal(wrong, field="surroundings") from None
        return cls(
            tuple(Offer(of.name, of.summary, of.schema_) for of in read.tools),
            tuple(Offer(of.name, of.summary, of.schema_) for of in read.programs),
            tuple(read.models),
            tuple(read.labels),
            read.has_gpu,
        )


def find_planner(known: frozenset[str]) -> str | None:
    """The model that plans: the one that a worker's label `planner=NAME` names, if somebody offers it."""
    return _labelled(known, PLANNER_LABEL)


def find_default_model(known: frozenset[str]) -> str | None:
    """The model for what nobody chose one for: the one that a label `default-model=NAME` names, else the one that
    plans, else the first by name that is no board model."""
    named = _labelled(known, DEFAULT_MODEL_LABEL) or find_planner(known)
    models = sorted(_named(known, "model:") - _BOARD_MODELS)
    return named or (models[0] if models else None)


def _labelled(known: frozenset[str], label: str) -> str | None:
    names = _named(known, f"label:{label}=") & _named(known, "model:")
    return min(names, default=None)


def _named(known: frozenset[str], prefix: str) -> frozenset[str]:
    return frozenset(name.removeprefix(prefix) for name in known if name.startswith(prefix))


def _offer(profile: WorkerProfile, capability: str) -> Offer:
    of = profile.describe(capability)
    return Offer(capability.partition(":")[2], as_text(of.summary)[:MAX_SUMMARY], of.schema)


def _sorted(offers: Mapping[str, Offer]) -> tuple[Offer, ...]:
    return tuple(offers[name] for name in sorted(offers)[:MAX_OFFERS])


def _offer_to_json(offer: Offer, *, schema: bool, summary: bool) -> Json:
    value: dict[str, Json] = {"name": offer.name}
    if summary and offer.summary:
        value["summary"] = offer.summary
    if schema and offer.schema is not None:
        value["schema"] = offer.schema
    return value
