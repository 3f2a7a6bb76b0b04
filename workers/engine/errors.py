"""What the engine refuses, each error with the fields that say what to change.

AsterismError
├── InvalidField
│   ├── InvalidRequest    mend the named field of the generation request; nothing was computed
│   └── InvalidStep       mend the scheduler that wrote the step; nothing was computed
├── UnsupportedModel      choose another model folder, or another engine
├── NativeUnavailable     compute steps with torch instead; the reason says what the compiler lacks
└── EngineClosed          start another engine
"""

from asterism.orchestrator.core.errors import AsterismError, InvalidField


class InvalidRequest(InvalidField):
    """A generation request that was refused before any work."""


class InvalidStep(InvalidField):
    """A step that names blocks, positions or tokens that there are not."""


class NativeUnavailable(AsterismError):
    """The native computer cannot be built or loaded on this machine."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"no native computer: {reason}")
        self.reason = reason


class UnsupportedModel(AsterismError):
    """A model folder that this engine cannot run faithfully."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"unsupported model: {field}: {reason}")
        self.field = field
        self.reason = reason


class EngineClosed(AsterismError):
    """The engine was never started or has been closed."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"engine closed: {reason}")
        self.reason = reason


def describe(error: BaseException) -> str:
    """What an answer that an error ended says of it."""
    return f"{type(error).__name__}: {error}"
