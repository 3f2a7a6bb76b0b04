"""The ceiling: `python -m tests.bench.graphs.sketch layered:1000 --database sqlite-normal` prints one line of JSON.

The least that a durable DAG needs, and nothing else: one asyncio process with a gRPC stream to each worker, lists in
each message, the count of unmet parents, and one commit a pump through the driver, on disk before anything is sent. It
checks nothing, and nothing can be changed, asked or cancelled: a measure, not a design.
"""

import argparse
import asyncio
import json
import multiprocessing
import sqlite3
import tempfile
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Protocol

import asyncpg
import grpc
import grpc.aio
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from tests.bench.graphs.measuring import Figures, Meter, hops
from tests.bench.graphs.shapes import Graph, named

WORKERS: Final = 2
WINDOW: Final = 128
"""Stars in flight on one worker."""
LEASE_S: Final = 30.0
PAYLOAD: Final = b"x" * 120
EOF: Final = grpc.aio.EOF  # type: ignore[attr-defined]  # the stubs lack it

Lease = tuple[int, int, int, float]
"""Star, fencing token, worker, end."""
Result = tuple[int, int, bytes]
"""Star, fencing token, payload."""


def _messages() -> tuple[Any, Any]:
    """A list of things to do, and a list of results; made here, so that no generated code lies beside this."""
    file = descriptor_pb2.FileDescriptorProto(name="sketch.proto", package="sketch", syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto
    columns = [("id", kinds.TYPE_UINT64), ("token", kinds.TYPE_UINT64), ("until_us", kinds.TYPE_UINT64)]
    columns += [("kind", kinds.TYPE_STRING), ("payload", kinds.TYPE_BYTES)]
    item = file.message_type.add(name="Item")
    for number, (name, kind) in enumerate(columns, 1):
        item.field.add(name=name, number=number, type=kind, label=kinds.LABEL_OPTIONAL)
    several = file.message_type.add(name="Items")
    several.field.add(
        name="items", number=1, type=kinds.TYPE_MESSAGE, type_name=".sketch.Item", label=kinds.LABEL_REPEATED
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = (pool.FindMessageTypeByName(f"sketch.{name}") for name in ("Item", "Items"))
    one, many = (message_factory.GetMessageClass(descriptor) for descriptor in found)
    return one, many


Item, Items = _messages()


class Store(Protocol):
    """Where a run is kept."""

    async def open(self, graph: Graph) -> None: ...
    async def commit(self, results: list[Result], leases: list[Lease]) -> None: ...
    async def close(self) -> int: ...


class Nowhere:
    """Nothing is durable."""

    async def open(self, graph: Graph) -> None:
        pass

    async def commit(self, results: list[Result], leases: list[Lease]) -> None:
        pass

    async def close(self) -> int:
        return -1


class Sqlite:
    """A file, and one OS thread that writes it."""

    def __init__(self, folder: Path, synchronous: str) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._path = folder / "sketch.db"
        self._synchronous = synchronous

    async def open(self, graph: Graph) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._open, graph)

    def _open(self, graph: Graph) -> None:
        self._db = sqlite3.connect(self._path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute(f"PRAGMA synchronous={self._synchronous}")
        self._db.execute(
            "CREATE TABLE star (id INTEGER PRIMARY KEY, state INTEGER, token INTEGER, until REAL, worker INTEGER,"
            " parents TEXT, payload BLOB, result BLOB)"
        )
        self._db.execute(
            "CREATE TABLE event (seq INTEGER PRIMARY KEY, star INTEGER, kind INTEGER, at REAL, token INTEGER)"
        )
        self._db.execute("BEGIN IMMEDIATE")
        rows = [(star, json.dumps(parents), PAYLOAD) for star, parents in graph.items()]
        self._db.executemany("INSERT INTO star VALUES (?, 0, 0, 0, 0, ?, ?, NULL)", rows)
        self._db.execute("COMMIT")

    async def commit(self, results: list[Result], leases: list[Lease]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._commit, results, leases)

    def _commit(self, results: list[Result], leases: list[Lease]) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        if results:
            ended = [(payload, star, token) for star, token, payload in results]
            self._db.executemany(
                "UPDATE star SET state = 2, result = ? WHERE id = ? AND token = ? AND state = 1", ended
            )
        if leases:
            begun = [(token, until, worker, star) for star, token, worker, until in leases]
            self._db.executemany("UPDATE star SET state = 1, token = ?, until = ?, worker = ? WHERE id = ?", begun)
        now = time.time()
        events = [(star, 2, now, token) for star, token, _ in results]
        events += [(star, 1, now, token) for star, token, _, _ in leases]
        self._db.executemany("INSERT INTO event (star, kind, at, token) VALUES (?, ?, ?, ?)", events)
        self._db.execute("COMMIT")

    async def close(self) -> int:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._close)

    def _close(self) -> int:
        ended: int = self._db.execute("SELECT count(*) FROM star WHERE state = 2").fetchone()[0]
        self._db.close()
        return ended


class Postgres:
    """One connection, and one statement a commit."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def open(self, graph: Graph) -> None:
        self._db: Any = await asyncpg.connect(self._url)
        await self._db.execute(
            "CREATE TABLE star (id bigint PRIMARY KEY, state int, token bigint, until float8, worker int, parents text,"
            " payload bytea, result bytea) WITH (fillfactor = 70);"
            "CREATE TABLE event (seq bigserial PRIMARY KEY, star bigint, kind int, at float8, token bigint)"
        )
        rows = [(star, 0, 0, 0.0, 0, json.dumps(parents), PAYLOAD, None) for star, parents in graph.items()]
        await self._db.copy_records_to_table("star", records=rows)
        self._commit = await self._db.prepare(
            "WITH ended AS (UPDATE star SET state = 2, result = x.result"
            " FROM unnest($1::bigint[], $2::bigint[], $3::bytea[]) x (id, token, result)"
            " WHERE star.id = x.id AND star.token = x.token AND star.state = 1 RETURNING star.id, star.token),"
            " begun AS (UPDATE star SET state = 1, token = x.token, worker = x.worker, until = x.until"
            " FROM unnest($4::bigint[], $5::bigint[], $6::int[], $7::float8[]) x (id, token, worker, until)"
            " WHERE star.id = x.id RETURNING star.id, star.token)"
            " INSERT INTO event (star, kind, at, token) SELECT id, 2, $8::float8, token FROM ended"
            " UNION ALL SELECT id, 1, $8::float8, token FROM begun"
        )

    async def commit(self, results: list[Result], leases: list[Lease]) -> None:
        ended = list(zip(*results, strict=True)) or [(), (), ()]
        begun = list(zip(*leases, strict=True)) or [(), (), (), ()]
        await self._commit.fetch(*ended, *begun, time.time())

    async def close(self) -> int:
        ended: int = await self._db.fetchval("SELECT count(*) FROM star WHERE state = 2")
        await self._db.close()
        return ended


def work(port: int, uses_uvloop: bool) -> None:
    """A worker process: a list of results for each list of things to do."""

    async def serve() -> None:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            method: Any = channel.stream_stream("/sketch/Work", Items.SerializeToString, Items.FromString)
            call = method()
            await call.write(Items())
            while (items := await call.read()) is not EOF:
                ended = [Item(id=each.id, token=each.token, payload=repr(time.time()).encode()) for each in items.items]
                await call.write(Items(items=ended))

    _run(serve(), uses_uvloop)


class Orchestrator:
    """One pump: take what has come, count, commit, send."""

    def __init__(self, graph: Graph, store: Store) -> None:
        self._graph = graph
        self._store = store
        self._came: list[Any] = []
        self._woken = asyncio.Event()
        self._outboxes: list[asyncio.Queue[Any]] = []
        self._free: list[int] = []
        self.attached = asyncio.Semaphore(0)
        self.commits = self.sent = self.received = 0
        self.starts: list[float] = []

    async def converse(self, _: Any, context: Any) -> None:
        """One worker's stream."""
        await context.read()
        worker, outbox = len(self._outboxes), asyncio.Queue[Any]()
        self._outboxes.append(outbox)
        self._free.append(WINDOW)
        self.attached.release()
        reading = asyncio.ensure_future(self._read(context, worker))
        while (items := await outbox.get()) is not None:
            self.sent += 1
            await context.write(items)
        reading.cancel()

    async def _read(self, context: Any, worker: int) -> None:
        while (items := await context.read()) is not EOF:
            self.received += 1
            self._free[worker] += len(items.items)
            self._came.extend(items.items)
            self._woken.set()

    async def run(self) -> float:
        """The whole graph; gives the seconds that handing it in took."""
        began = time.perf_counter()
        await self._store.open(self._graph)
        opened = time.perf_counter() - began
        unmet = {star: len(parents) for star, parents in self._graph.items()}
        children: dict[int, list[int]] = {star: [] for star in self._graph}
        for star, parents in self._graph.items():
            for parent in parents:
                children[parent].append(star)
        ready = deque(star for star, count in unmet.items() if not count)
        tokens = dict.fromkeys(self._graph, 0)
        left = len(self._graph)
        self._woken.set()
        while left:
            await self._woken.wait()
            self._woken.clear()
            came, self._came = self._came, []
            results: list[Result] = [
                (item.id, item.token, item.payload) for item in came if item.token == tokens[item.id]
            ]
            left -= len(results)
            for star, _, payload in results:
                self.starts.append(float(payload))
                for child in children[star]:
                    unmet[child] -= 1
                    if not unmet[child]:
                        ready.append(child)
            leases, lists = self._lease(ready, tokens)
            if results or leases:
                await self._store.commit(results, leases)
                self.commits += 1
                for worker, items in lists.items():
                    self._outboxes[worker].put_nowait(Items(items=items))
        return opened

    def _lease(self, ready: deque[int], tokens: dict[int, int]) -> tuple[list[Lease], dict[int, list[Any]]]:
        leases: list[Lease] = []
        lists: dict[int, list[Any]] = {}
        until = time.time() + LEASE_S
        while ready:
            worker = max(range(len(self._free)), key=self._free.__getitem__)
            if self._free[worker] <= 0:
                break
            star = ready.popleft()
            self._free[worker] -= 1
            tokens[star] += 1
            leases.append((star, tokens[star], worker, until))
            item = Item(id=star, token=tokens[star], until_us=int(until * 1e6), kind="noop", payload=PAYLOAD)
            lists.setdefault(worker, []).append(item)
        return leases, lists

    def end(self) -> None:
        """Let the streams end."""
        for outbox in self._outboxes:
            outbox.put_nowait(None)


async def measure(name: str, database: str, store: Store, *, uses_uvloop: bool) -> Figures:
    """Run one graph with two worker processes."""
    graph = named(name)
    orchestrator = Orchestrator(graph, store)
    server: Any = grpc.aio.server()
    handler = grpc.stream_stream_rpc_method_handler(orchestrator.converse, Items.FromString, Items.SerializeToString)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("sketch", {"Work": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=work, args=(port, uses_uvloop), daemon=True) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    for _ in workers:
        await orchestrator.attached.acquire()
    await asyncio.sleep(0.2)  # until the workers rest
    meter = Meter()
    began = time.perf_counter()
    opened_s = await orchestrator.run()
    seconds = time.perf_counter() - began
    cpu_s, peak_mb = sum(meter.cpu_s().values()), meter.peak_mb()
    ended = await store.close()
    assert ended in (-1, len(graph)), f"{ended} of {len(graph)} are on disk"
    orchestrator.end()
    await server.stop(0.2)
    for worker in workers:
        worker.kill()
    p50, p99 = hops(orchestrator.starts) if name.startswith("chain") else (None, None)
    return Figures(
        "sketch on uvloop" if uses_uvloop else "sketch",
        name,
        database,
        len(graph),
        seconds,
        opened_s,
        p50,
        p99,
        round(1e3 * cpu_s / len(graph), 3),
        peak_mb,
        orchestrator.commits,
        orchestrator.sent,
        orchestrator.received,
    )


def _run(coroutine: Any, uses_uvloop: bool) -> Any:
    if uses_uvloop:
        import uvloop  # type: ignore[import-not-found]  # an extra

        return uvloop.run(coroutine)
    return asyncio.run(coroutine)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("graph", help="such as layered:1000")
    parser.add_argument("--database", default="sqlite-full", help="none, sqlite-full, sqlite-normal or postgres")
    parser.add_argument("--url", help="of an empty PostgreSQL database")
    parser.add_argument("--uvloop", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store: Store = Nowhere()
        if options.database == "postgres":
            store = Postgres(options.url)
        elif options.database != "none":
            store = Sqlite(Path(folder), options.database.removeprefix("sqlite-"))
        figures = _run(measure(options.graph, options.database, store, uses_uvloop=options.uvloop), options.uvloop)
    print(figures.line())


if __name__ == "__main__":
    main()
