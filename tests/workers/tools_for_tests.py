"""Tools that misbehave, for the tool process."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Tool:
    function: Any


def noisy(arguments: Mapping[str, Any]) -> object:
    print("this is not an answer", flush=True)
    return arguments


def crash(arguments: Mapping[str, Any]) -> object:
    os._exit(3)


def run_away(arguments: Mapping[str, Any]) -> object:
    """Says that it runs, by touching a file, and never ends."""
    descriptor = os.open(arguments["fifo"], os.O_WRONLY)
    os.write(descriptor, str(os.getpid()).encode())
    os.close(descriptor)
    while True:
        pass


def no_json(arguments: Mapping[str, Any]) -> object:
    return object()


def complain(arguments: Mapping[str, Any]) -> object:
    raise ValueError("not with these")


def own_pid(arguments: Mapping[str, Any]) -> object:
    return os.getpid()


TOOLS = {tool.__name__: Tool(tool) for tool in (noisy, crash, run_away, no_json, complain, own_pid)}
