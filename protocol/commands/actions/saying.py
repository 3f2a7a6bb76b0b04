"""What a command that changed something says."""

import json
import sys

from asterism.protocol.commands.options import Output


def say(output: Output, text: str, answer: dict[str, str | int]) -> None:
    """One line, for people or for programs."""
    sys.stdout.write((json.dumps(answer) if output is Output.JSON else text) + "\n")
