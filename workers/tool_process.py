"""The process that runs tools: one call after the other, over its standard input and output.

Each message is a length of 4 bytes, most significant first, then that many bytes of JSON text. A call is
`{"name", "arguments"}`; its answer `{"value"}` or `{"code", "message"}`. It ends when its input does.
"""

import importlib
import json
import os
import queue
import struct
import sys
import threading
from collections.abc import Mapping
from typing import BinaryIO, Final, NoReturn

LENGTH: Final = struct.Struct(">I")
MAX_MESSAGE_BYTES: Final = 256 * 1024 * 1024
"""Of one call or answer: all the inputs of a star, or the largest result, whose text may grow threefold in ASCII."""


def find_tools(place: str) -> Mapping[str, object]:
    """The mapping at `module:name`; its values have a `function`."""
    module, _, name = place.partition(":")
    found = getattr(importlib.import_module(module), name)
    if not isinstance(found, Mapping):
        raise TypeError(f"{place} is no mapping")
    return found


def answer_call(tools: Mapping[str, object], call: Mapping[str, object]) -> dict[str, object]:
    """Run one tool; whatever it raises becomes an answer."""
    tool = tools[str(call["name"])]
    try:
        return {"value": tool.function(call["arguments"])}  # type: ignore[attr-defined]  # what `find_tools` promises
    except Exception as error:  # the supervisor of tools in this process: reports, and serves the next call
        return {"code": "tool_error", "message": f"{type(error).__name__}: {error}"[:1000]}


def encode_message(message: Mapping[str, object]) -> bytes:
    """Length and JSON text. Raises TypeError or ValueError for what is no JSON value, or too large."""
    body = json.dumps(message, separators=(",", ":"), allow_nan=False).encode()
    if len(body) > MAX_MESSAGE_BYTES:
        raise ValueError(f"{len(body)} bytes; at most {MAX_MESSAGE_BYTES}")
    return LENGTH.pack(len(body)) + body


def read_calls(source: BinaryIO, calls: "queue.SimpleQueue[bytes]") -> None:
    """Pass calls on until the input ends: then the daemon is gone, and nobody waits for what still runs here."""
    while len(head := source.read(LENGTH.size)) == LENGTH.size:
        calls.put(source.read(LENGTH.unpack(head)[0]))
    os._exit(0)


def serve(tools: Mapping[str, object], calls: "queue.SimpleQueue[bytes]", answers: BinaryIO) -> NoReturn:
    """Answer one call after the other."""
    while True:
        answer = answer_call(tools, json.loads(calls.get()))
        try:
            message = encode_message(answer)
        except (TypeError, ValueError, RecursionError) as error:
            message = encode_message({"code": "invalid_result", "message": f"the tool's value: {error}"[:1000]})
        answers.write(message)
        answers.flush()


def main() -> None:
    """Serve on the standard input and output, where nothing that a tool prints may get between the answers."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    calls: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=read_calls, args=(sys.stdin.buffer, calls), daemon=True).start()
    serve(find_tools(sys.argv[1]), calls, answers)


if __name__ == "__main__":
    main()
