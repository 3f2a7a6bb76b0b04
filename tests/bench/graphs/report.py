"""The table that people read."""

from collections.abc import Sequence

from tests.bench.graphs.measuring import Figures

COLUMNS = ("system", "graph", "database", "stars/s", "x", "hop p50", "p99", "CPU ms", "peak MB", "commits", "out", "in")


def table(found: Sequence[Figures]) -> str:
    """One row a run, in Markdown. `x`: the rate as a share of the sketch's of the same graph and database."""
    ceilings = {(each.graph, each.database): each.stars_per_s for each in found if each.system == "sketch"}
    rows = [COLUMNS, ("---",) * len(COLUMNS)]
    rows += [_row(each, ceilings.get((each.graph, each.database))) for each in found]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(of: Figures, ceiling: float | None) -> tuple[str, ...]:
    return (
        of.system,
        of.graph,
        of.database,
        f"{of.stars_per_s:,.0f}",
        "" if ceiling is None else f"{of.stars_per_s / ceiling:.2f}",
        _text(of.hop_ms_p50),
        _text(of.hop_ms_p99),
        _text(of.cpu_ms_per_star),
        _text(of.peak_mb),
        _text(of.commits),
        _text(of.messages_out),
        _text(of.messages_in),
    )


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
