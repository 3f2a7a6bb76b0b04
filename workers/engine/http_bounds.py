"""How much a completion server may say: its answers are read as they come, and not for ever."""

from collections.abc import AsyncGenerator, AsyncIterable
from typing import Final

from httpx2 import AsyncByteStream, DecodingError, RemoteProtocolError, Response

MAX_EVENT_BYTES: Final = 1 << 20
"""Of one line of a stream: an event of a token and its 20 likeliest neighbours is far below."""
MAX_STREAM_BYTES: Final = 256 << 20
"""Of a streamed answer: a million tokens at some 250 bytes of JSON each."""
MAX_BODY_BYTES: Final = 4 << 20
"""Of a body that is no stream: a list of models, an error."""


async def bound_response(response: Response) -> None:
    """A hook of the HTTP client, called before the body is read; raises for one that would have to be unpacked."""
    encoding = response.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise DecodingError(f"the server sent {encoding}, and was asked for plain text", request=response.request)
    is_stream = response.headers.get("content-type", "").startswith("text/event-stream")
    assert isinstance(response.stream, AsyncByteStream)
    response.stream = BoundedStream(
        response.stream,
        most=MAX_STREAM_BYTES if is_stream else MAX_BODY_BYTES,
        most_in_a_line=MAX_EVENT_BYTES if is_stream else MAX_BODY_BYTES,
    )


class BoundedStream(AsyncByteStream):
    """The bytes of a body, until they are too many."""

    def __init__(self, stream: AsyncByteStream, *, most: int, most_in_a_line: int) -> None:
        self._stream = stream
        self._most = most
        self._most_in_a_line = most_in_a_line

    def __aiter__(self) -> AsyncGenerator[bytes, None]:
        return bounded(self._stream, most=self._most, most_in_a_line=self._most_in_a_line)

    async def aclose(self) -> None:
        await self._stream.aclose()


async def bounded(pieces: AsyncIterable[bytes], *, most: int, most_in_a_line: int) -> AsyncGenerator[bytes, None]:
    """The same pieces. Raises RemoteProtocolError where they are more bytes than that, in all or without a newline."""
    read = in_line = 0
    async for piece in pieces:
        read += len(piece)
        first, *others = piece.split(b"\n")
        in_line += len(first)
        longest = max(in_line, *map(len, others)) if others else in_line
        if others:
            in_line = len(others[-1])
        if read > most or longest > most_in_a_line:
            where = "an answer" if read > most else "an event"
            raise RemoteProtocolError(f"the server sent {where} of more than {min(most, most_in_a_line)} bytes")
        yield piece
