"""What the engines count, for Prometheus: `asterism work --metrics HOST:PORT` serves it at /metrics."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from itertools import accumulate
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Metric, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from asterism.orchestrator.core.errors import Misconfigured
from asterism.protocol.channel import split_address
from asterism.workers.engine.metrics import BOUNDS, Histogram
from asterism.workers.engine.seam import Engine

_GAUGES: Final = {
    "num_requests_running": "Requests that are decoded or whose prompt is computed",
    "num_requests_waiting": "Requests that wait for a place in the batch",
    "kv_cache_usage": "Share of the KV blocks that requests and pins keep; vLLM: kv_cache_usage_perc",
    "cancel_steps_max": "Most steps that a request kept its KV blocks after it was cancelled",
}
_COUNTERS: Final = {
    "prefix_cache_queries": "Prompt tokens of admitted requests",
    "prefix_cache_hits": "Prompt tokens that were not computed again",
    "generation_tokens": "Tokens decoded",
    "cost": "What servers charged, in the currency of their prices",
    "num_preemptions": "Requests that gave up their KV blocks for others, and are computed again",
    "num_cancelled": "Requests cancelled while they ran or waited",
    "num_steps": "Steps of the model",
}
_HISTOGRAMS: Final = {
    "time_to_first_token": "From the request on",
    "inter_token_latency": "Between two tokens of a request",
}


@asynccontextmanager
async def serve_metrics(address: str | None, engines: Mapping[str, Engine]) -> AsyncIterator[None]:
    """Serves while the body runs; does nothing without an address. Raises Misconfigured where it cannot listen."""
    if address is None:
        yield
        return
    host, port = split_address(address)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Engines(engines))
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise Misconfigured("metrics", f"cannot listen at {address}: {error.strerror or error}") from error
    structlog.get_logger(__name__).info("metrics", url=f"http://{address}/metrics")
    try:
        yield
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()
        thread.join()


class _Engines(Collector):
    """Reads each engine's snapshot, a value that its thread replaces, when it is asked."""

    def __init__(self, engines: Mapping[str, Engine]) -> None:
        self._engines = engines

    def collect(self) -> Iterable[Metric]:
        stats = {name: engine.stats() for name, engine in self._engines.items()}
        for name, documentation in _GAUGES.items():
            gauge = GaugeMetricFamily(f"asterism:{name}", documentation, labels=["model_name"])
            for model, one in stats.items():
                gauge.add_metric([model], getattr(one, name))
            yield gauge
        for name, documentation in _COUNTERS.items():
            counter = CounterMetricFamily(f"asterism:{name}", documentation, labels=["model_name"])
            for model, one in stats.items():
                counter.add_metric([model], getattr(one, name))
            yield counter
        for name, documentation in _HISTOGRAMS.items():
            histogram = HistogramMetricFamily(f"asterism:{name}_seconds", documentation, labels=["model_name"])
            for model, one in stats.items():
                seconds: Histogram = getattr(one, name)
                histogram.add_metric([model], _buckets(seconds), seconds.sum_s)
            yield histogram


def _buckets(seconds: Histogram) -> list[tuple[str, float]]:
    """Prometheus counts all that are at most a bound."""
    return list(zip([*map(str, BOUNDS), "+Inf"], accumulate(seconds.counts), strict=True))
