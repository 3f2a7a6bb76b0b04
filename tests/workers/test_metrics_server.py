"""What the engines count, as Prometheus reads it."""

import asyncio
import socket
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from asterism.orchestrator.core.errors import Misconfigured
from asterism.workers.engine.metrics import BOUNDS, EngineStats, Histogram
from asterism.workers.engine.scripted import ScriptedEngine
from asterism.workers.engine.seam import GenerationRequest
from asterism.workers.metrics_server import serve_metrics


class CountedEngine(ScriptedEngine):
    """With seconds, which a scripted engine has none of."""

    def stats(self) -> EngineStats:
        counts = (2, 0, 3, *[0] * (len(BOUNDS) - 3), 1)
        return EngineStats(kv_cache_usage=0.25, num_steps=7, time_to_first_token=Histogram(counts, sum_s=90.5))


def free_address() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{found.getsockname()[1]}"


def read(address: str) -> dict[str, float]:
    with urlopen(f"http://{address}/metrics", timeout=10) as page:
        families = text_string_to_metric_families(page.read().decode())
        return {
            f"{sample.name} {' '.join(value for _, value in sorted(sample.labels.items(), reverse=True))}": sample.value
            for family in families
            for sample in family.samples
        }


async def test_each_model_has_its_numbers() -> None:
    address = free_address()
    said = ScriptedEngine({"one two": " three four"})
    await said.start()
    async for _ in said.generate([GenerationRequest(id="a", prompt="one two", max_tokens=9)]):
        pass
    async with serve_metrics(address, {"said": said, "counted": CountedEngine({})}):
        found = await asyncio.to_thread(read, address)
    assert found["asterism:generation_tokens_total said"] == 2
    assert found["asterism:prefix_cache_queries_total said"] == 2
    assert found["asterism:kv_cache_usage counted"] == 0.25
    assert found["asterism:num_steps_total counted"] == 7
    first = "asterism:time_to_first_token_seconds"
    buckets = [found[f"{first}_bucket counted {bound}"] for bound in (*BOUNDS, "+Inf")]
    assert buckets == [2, 2, *[5] * (len(BOUNDS) - 2), 6]
    assert (found[f"{first}_count counted"], found[f"{first}_sum counted"]) == (6, 90.5)
    with pytest.raises(OSError, match="refused"):
        await asyncio.to_thread(read, address)


async def test_an_address_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(Misconfigured, match=rf"metrics: cannot listen at {address}: Address already in use"):
            async with serve_metrics(address, {}):
                pass


async def test_without_an_address_nothing_is_served() -> None:
    async with serve_metrics(None, {}):
        pass
