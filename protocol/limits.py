"""Numbers that both ends of a connection must agree on."""

from typing import Final

MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024
"""Largest message that an orchestrator takes from anybody, and largest frame it sends: several results."""
MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
"""Largest answer that a client or worker takes from its orchestrator: a graph of ten thousand stars with results."""
MAX_PART_BYTES: Final = 256 * 1024
"""Largest piece of an artifact in one message: as much as a result in the graph may have."""
MAX_METADATA_BYTES: Final = 16 * 1024
"""Largest headers and trailers: error details travel there."""
PING_INTERVAL_S: Final = 10
"""Silence after which a client pings."""
PING_TIMEOUT_S: Final = 5
"""Silence after a ping that means the peer is gone: a half-open connection is noticed within 15 s."""
MIN_PING_INTERVAL_S: Final = 5
"""Pings closer together than this are abuse to a server; well below what clients do, for clocks that differ."""

_COMMON: Final = (
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.keepalive_time_ms", PING_INTERVAL_S * 1000),
    ("grpc.keepalive_timeout_ms", PING_TIMEOUT_S * 1000),
    # Without this one the timeout above is a minute (grpcio 1.85, GRPC_TRACE=http_keepalive,http2_ping).
    ("grpc.http2.ping_timeout_ms", PING_TIMEOUT_S * 1000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)

CHANNEL_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    *_COMMON,
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
    # gRPC's own waits grow to two minutes; a client that waits for a restart should see it within seconds.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # In spite of its name the time that one attempt to connect gets.
    ("grpc.min_reconnect_backoff_ms", 5000),
)

SERVER_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    *_COMMON,
    ("grpc.max_send_message_length", MAX_ANSWER_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.http2.min_ping_interval_without_data_ms", MIN_PING_INTERVAL_S * 1000),
    ("grpc.http2.max_ping_strikes", 2),
    ("grpc.max_concurrent_streams", 1000),
    # Two orchestrators on one port would share its connections in silence.
    ("grpc.so_reuseport", 0),
)
