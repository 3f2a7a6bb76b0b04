"""One seed is one schedule: who is there, what they want, what goes wrong and when. It can be thinned out and named."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

STORY: Final = {
    "submit": 3,
    "edit": 5,
    "cancel": 2,
    "retry": 2,
    "replan": 1,
    "drain": 2,
    "label": 1,
    "look": 2,
    "forget": 2,
}
"""What people do, and how often."""
FAULTS: Final = {
    "kill_orchestrator": 4,
    "kill_at_point": 5,
    "restart_orchestrator": 2,
    "kill_worker": 4,
    "kill_worker_at_point": 3,
    "restart_worker": 3,
    "tear": 4,
    "partition": 3,
    "slow_network": 2,
    "stray_frames": 3,
    "lose_answers": 3,
    "slow_disk": 3,
    "full_disk": 2,
    "false_alarm": 3,
    "jump_clock": 3,
    "cut_off_leader": 3,
    "jump_database_clock": 3,
    "pause_orchestrator": 2,
    "pause_at_point": 5,
    "pause_worker": 2,
}
"""What goes wrong, and how often."""
NUMBERS: Final = ("is_shared", "is_tight", "workers", "plan_size", "failing", "hanging")
SPAN_S: Final = 10.0
"""In which all of it happens; afterwards all is well."""


@dataclass(frozen=True)
class Item:
    """Something that happens. Its dice are its own, so that leaving out others does not change them."""

    number: int
    at: float
    kind: str


@dataclass(frozen=True)
class Schedule:
    """All that a run depends on."""

    seed: int
    items: tuple[Item, ...]
    is_shared: bool
    """Two orchestrators on one database, of which one leads; else a single one."""
    is_tight: bool
    """Whether the bounds of `limits.py` are small."""
    workers: int
    plan_size: int
    failing: float
    hanging: float

    @property
    def name(self) -> str:
        """What repeats it: its seed, or where it is not what the seed draws, all that it is."""
        return str(self.seed) if self == draw_schedule(self.seed) else self.text

    @property
    def text(self) -> str:
        """All that it is, whatever its seed may draw one day."""
        return " ".join(
            [
                str(self.seed),
                "items=" + ",".join(f"{item.kind}:{item.number}@{item.at:g}" for item in self.items),
                *(f"{field}={getattr(self, field):g}" for field in NUMBERS),
            ]
        )


def draw_schedule(seed: int) -> Schedule:
    """The schedule of a seed."""
    rng = random.Random(f"schedule {seed}")
    is_heavy = rng.random() < 0.1
    kinds = ["submit"]
    kinds += rng.choices(list(STORY), list(STORY.values()), k=rng.randint(6, 12) if is_heavy else rng.randint(1, 4))
    kinds += rng.choices(list(FAULTS), list(FAULTS.values()), k=rng.randint(6, 14) if is_heavy else rng.randint(1, 6))
    times = [rng.uniform(0.0, 0.5)] + [rng.uniform(0.3, SPAN_S) for _ in kinds[1:]]
    drawn = [Item(number, round(at, 3), kind) for number, (at, kind) in enumerate(zip(times, kinds, strict=True))]
    return Schedule(
        seed,
        tuple(sorted(drawn, key=lambda item: item.at)),
        is_shared=rng.random() < 0.4,
        is_tight=rng.random() < 0.4,
        workers=rng.randint(1, 3),
        plan_size=rng.randint(1, 5),
        failing=rng.choice([0.0, 0.1, 0.3]),
        hanging=rng.choice([0.0, 0.0, 0.15]),
    )


def parse_schedule(words: Sequence[str]) -> Schedule:
    """The schedule that a name says: a seed alone, or a seed and all the rest. Raises ValueError for anything else."""
    if len(words) == 1:
        return draw_schedule(int(words[0]))
    fields = dict(word.split("=") for word in words[1:])
    if fields.keys() != {"items", *NUMBERS}:
        raise ValueError(f"a schedule is a seed, or a seed with items= and {', '.join(NUMBERS)}")
    return Schedule(
        int(words[0]),
        tuple(_parse_item(text) for text in fields["items"].split(",") if text),
        is_shared=bool(int(fields["is_shared"])),
        is_tight=bool(int(fields["is_tight"])),
        workers=int(fields["workers"]),
        plan_size=int(fields["plan_size"]),
        failing=float(fields["failing"]),
        hanging=float(fields["hanging"]),
    )


def _parse_item(text: str) -> Item:
    kind, _, rest = text.partition(":")
    number, _, at = rest.partition("@")
    if kind not in STORY and kind not in FAULTS:
        raise ValueError(f"{kind!r} is nothing that happens")
    return Item(int(number), float(at), kind)


def thinner(schedule: Schedule) -> list[Schedule]:
    """What to try in its place, the greatest simplification first."""
    tries = [replace(schedule, items=_without(schedule, part)) for part in _halves(schedule.items)]
    tries += [replace(schedule, items=_without(schedule, (item,))) for item in schedule.items]
    if schedule.workers > 1:
        tries.append(replace(schedule, workers=schedule.workers - 1))
    if schedule.plan_size > 1:
        tries.append(replace(schedule, plan_size=schedule.plan_size - 1))
    if schedule.is_tight:
        tries.append(replace(schedule, is_tight=False))
    if schedule.failing:
        tries.append(replace(schedule, failing=0.0))
    if schedule.hanging:
        tries.append(replace(schedule, hanging=0.0))
    return tries


def _halves(items: Sequence[Item]) -> list[Sequence[Item]]:
    middle = len(items) // 2
    return [items[:middle], items[middle:]] if len(items) > 3 else []


def _without(schedule: Schedule, gone: Sequence[Item]) -> tuple[Item, ...]:
    return tuple(item for item in schedule.items if item not in gone)
