"""How a function of the sandbox says what is wrong with a call. Standard library only."""


class CallFailed(Exception):
    """The call ends with this error, as a value for whoever called."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message[:1000]
