"""`python -m tests.bench.figures [NAME ...]`: one line of JSON a figure. Compare only what one run gives."""

import argparse
import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from typing import Any, Final

from tests.bench.figures import ends, live, planning
from tests.postgres import server

Measure = Callable[[str, str | None], Awaitable[dict[str, Any]]]

FIGURES: Final[Mapping[str, Measure]] = {
    "edit": live.edit,
    "many": live.many,
    "idle": live.idle,
    "memory": ends.memory,
    "restart": ends.restart,
    "lease": ends.lease,
    "streaming": planning.streaming,
    "overlap": planning.overlap,
    "ready": planning.ready,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="*", default=list(FIGURES), help=f"of {', '.join(FIGURES)}  [default: all]")
    parser.add_argument("--database", choices=("sqlite-full", "sqlite-normal", "postgres"), default="sqlite-full")
    options = parser.parse_args()
    for name in options.name:
        with ExitStack() as stack:
            url = None
            if options.database == "postgres":
                url = stack.enter_context(stack.enter_context(server("fsync=on")).database())
            found = asyncio.run(measured(name, options.database, url))
        print(json.dumps({"figure": name, "database": options.database, **found}), flush=True)


async def measured(name: str, database: str, url: str | None) -> dict[str, Any]:
    """One figure."""
    return await FIGURES[name](database, url)


if __name__ == "__main__":
    main()
