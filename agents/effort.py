"""How hard `reason.countdown` tries: the inputs of a star that say so, read and checked at the door."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

from asterism.agents.accounting import MOST_TOKENS
from asterism.agents.asks import Json, ProgramFailed, Sampling

Mode: TypeAlias = Literal["parallel", "sequential", "auto", "direct"]
Wait: TypeAlias = Literal["first-verified", "all"]

MAX_THREADS: Final = 64
MAX_SKIP: Final = 256
MAX_TOKENS: Final = 400
CONTEXT_TOKENS: Final = 512
"""What the model was trained on."""
DEFAULT_TOKENS: Final = 96
"""No thread of the teacher takes more than 67; the rest is for going on after a claim that was struck out."""


@dataclass(frozen=True, slots=True)
class Effort:
    """`threads` outlines behind the first `skip`, `tokens` for each; in all at most `budget` tokens."""

    mode: Mode
    threads: int
    skip: int
    tokens: int
    budget: int
    context: int
    """Tokens of one text, prompt included; a sequential search starts over before it is longer."""
    at_once: int | None
    """Texts that decode at the same time; None: as many as the worker has slots for."""
    is_eager: bool
    """Whether a thread starts when its outline is there, not when all are."""
    wait: Wait
    temperature: float
    seed: int

    @staticmethod
    def from_json(inputs: Mapping[str, Json]) -> "Effort":
        """Reads a star's inputs, with defaults for what is not given; raises `ProgramFailed`."""
        mode, wait = inputs.get("mode", "auto"), inputs.get("wait", "first-verified")
        temperature, is_eager = inputs.get("temperature", 0.0), inputs.get("eager", True)
        if mode not in get_args(Mode):
            raise invalid("mode", f"must be one of {', '.join(get_args(Mode))}")
        if wait not in get_args(Wait):
            raise invalid("wait", f"must be one of {', '.join(get_args(Wait))}")
        if not isinstance(is_eager, bool):
            raise invalid("eager", "must be true or false")
        if isinstance(temperature, bool) or not isinstance(temperature, int | float) or not 0 <= temperature <= 2:
            raise invalid("temperature", "must be a number from 0 to 2")
        threads = _whole(inputs, "threads", 4, 1, MAX_THREADS)
        tokens = _whole(inputs, "tokens", DEFAULT_TOKENS, 1, MAX_TOKENS)
        # One text after another gets as many tokens as the threads would have had.
        alone = threads * tokens if mode in ("sequential", "direct") else 65_536
        at_once = inputs.get("at_once")
        return Effort(
            mode=next(known for known in get_args(Mode) if known == mode),
            threads=threads,
            skip=_whole(inputs, "skip", 0, 0, MAX_SKIP),
            tokens=tokens,
            budget=_whole(inputs, "budget", alone, 1, MOST_TOKENS),
            context=_whole(inputs, "context", CONTEXT_TOKENS, 32, 4096),
            at_once=None if at_once is None else _whole(inputs, "at_once", 8, 1, MAX_THREADS),
            is_eager=is_eager,
            wait=next(known for known in get_args(Wait) if known == wait),
            temperature=float(temperature),
            seed=_whole(inputs, "seed", 0, 0, 2**31),
        )

    def sampling(self, max_tokens: int, *stop: str) -> Sampling:
        return Sampling(max_tokens=max_tokens, temperature=self.temperature, seed=self.seed, stop=stop)


def invalid(field: str, reason: str) -> ProgramFailed:
    return ProgramFailed("invalid_input", f"{field}: {reason}", retryable=False)


def _whole(inputs: Mapping[str, Json], field: str, default: int, low: int, high: int) -> int:
    value = inputs.get(field, default)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise invalid(field, f"must be a whole number from {low} to {high}")
    return value
