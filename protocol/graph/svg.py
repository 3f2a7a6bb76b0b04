"""A constellation as one SVG file that needs nothing else, in light and in dark."""

from collections.abc import Iterator, Mapping
from typing import Final
from xml.sax.saxutils import escape

from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.star import StarState
from asterism.protocol.graph.figure import Arrow, Box, Figure
from asterism.protocol.graph.layout import Place, place
from asterism.protocol.graph.text import COLOURS

# All in pixels.
_BOX_WIDTH: Final = 264
_BOX_HEIGHT: Final = 40
_COLUMN: Final = 340
_ROW: Final = 52
_MARGIN: Final = 24
_TOP: Final = 72
_WORDS_MAX: Final = 44
"""Characters that fit a box at 10 px: about 5.6 px each in the usual sans-serif faces."""
_NAME_MAX: Final = 34

_STYLE: Final = """
  svg { background: #ffffff; color: #1f2328; font-family: system-ui, "Segoe UI", Helvetica, Arial, sans-serif }
  .name { font-size: 13px; font-weight: 600; fill: currentColor }
  .words { font-size: 10px; fill: currentColor; opacity: .75 }
  .head { font-size: 16px; font-weight: 600; fill: currentColor }
  .box { fill: #f6f8fa; stroke-width: 1.5 }
  .arrow { fill: none; stroke: currentColor; stroke-width: 1.2; opacity: .45 }
  .completion { stroke-dasharray: 5 4; opacity: .3 }
  .condition { stroke-width: 2.2 }
  .quorum { stroke-dasharray: 9 3 }
  .stream { stroke-width: 3 }
  .guard { stroke-dasharray: 2 5 }
  .added { stroke-dasharray: 1 4; stroke-linecap: round; opacity: .55 }
  @media (prefers-color-scheme: dark) { svg { background: #0d1117; color: #e6edf3 } .box { fill: #161b22 } }
"""


def svg(figure: Figure) -> str:
    """The whole drawing. Layers go from left to right; a dotted arrow leads from a star to one that its edit added."""
    places = place(tuple(figure.boxes), figure.arrows)
    corners = _corners(places)
    right = max((x for x, _ in corners.values()), default=0) + _BOX_WIDTH + _MARGIN
    bottom = max((y for _, y in corners.values()), default=_TOP) + _BOX_HEIGHT + _MARGIN
    width = max(right, 760)  # the legend's length
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{bottom}" '
            f'viewBox="0 0 {width} {bottom}" role="img">',
            f"<title>{escape(figure.name)}</title>",
            f"<style>{_STYLE}</style>",
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            '<path d="M0 0 L8 4 L0 8 z" fill="currentColor"/></marker></defs>',
            f'<text class="head" x="{_MARGIN}" y="30">{escape(figure.name)} — {figure.state}, '
            f"revision {figure.revision}</text>",
            *_legend(figure),
            *(_arrow(arrow, corners) for arrow in figure.arrows),
            *(_box(box, corners[box.id]) for box in figure.boxes.values()),
            "</svg>\n",
        ]
    )


def _corners(places: Mapping[StarId, Place]) -> dict[StarId, tuple[int, int]]:
    """Upper left corner of each box; every layer is centred on the longest."""
    lengths: dict[int, int] = {}
    for cell in places.values():
        lengths[cell.layer] = max(lengths.get(cell.layer, 0), cell.row + 1)
    longest = max(lengths.values(), default=0)
    return {
        star: (
            _MARGIN + cell.layer * _COLUMN,
            _TOP + cell.row * _ROW + (longest - lengths[cell.layer]) * _ROW // 2,
        )
        for star, cell in places.items()
    }


def _legend(figure: Figure) -> Iterator[str]:
    counts = {state: sum(box.state is state for box in figure.boxes.values()) for state in StarState}
    x = _MARGIN
    for state, number in counts.items():
        if not number:
            continue
        text = f"{state.value.lower()} {number}"
        yield f'<rect x="{x}" y="44" width="10" height="10" rx="2" fill="{COLOURS[state]}"/>'
        yield f'<text class="words" x="{x + 15}" y="53">{text}</text>'
        x += 30 + 6 * len(text)


def _arrow(arrow: Arrow, corners: Mapping[StarId, tuple[int, int]]) -> str:
    (from_x, from_y), (to_x, to_y) = corners[arrow.parent], corners[arrow.child]
    start_x, start_y = from_x + _BOX_WIDTH, from_y + _BOX_HEIGHT // 2
    end_x, end_y = to_x, to_y + _BOX_HEIGHT // 2
    bend = max((end_x - start_x) // 2, 30)
    return (
        f'<path class="arrow {arrow.kind.value}" marker-end="url(#tip)" '
        f'd="M{start_x} {start_y} C{start_x + bend} {start_y} {end_x - bend} {end_y} {end_x} {end_y}"/>'
    )


def _box(box: Box, corner: tuple[int, int]) -> str:
    x, y = corner
    colour = COLOURS[box.state]
    return (
        f"<g><title>{escape(box.note)}</title>"
        f'<rect class="box" x="{x}" y="{y}" width="{_BOX_WIDTH}" height="{_BOX_HEIGHT}" rx="6" stroke="{colour}"/>'
        f'<rect x="{x}" y="{y}" width="6" height="{_BOX_HEIGHT}" rx="3" fill="{colour}"/>'
        f'<text class="name" x="{x + 14}" y="{y + 17}">{escape(_cut(box.id, _NAME_MAX))}</text>'
        f'<text class="words" x="{x + 14}" y="{y + 32}">{escape(_cut(box.words, _WORDS_MAX))}</text></g>'
    )


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
