"""What the engine refuses, each error with the fields that say what to change."""

from asterism.orchestrator.core.errors import AsterismError


class UnsupportedModel(AsterismError):
    """A model folder that this engine cannot run faithfully; choose another model or another engine."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"unsupported model: {field}: {reason}")
        self.field = field
        self.reason = reason


class InvalidRequest(AsterismError):
    """A generation request that was refused before any work; change `field` and send it again."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"invalid generation request: {field}: {reason}")
        self.field = field
        self.reason = reason


class EngineClosed(AsterismError):
    """The engine was not started, is closing, or its OS thread ended; start another engine."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"engine closed: {reason}")
        self.reason = reason
