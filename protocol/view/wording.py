"""Numbers, times and words from elsewhere, as people read them."""


def count(number: int, noun: str) -> str:
    """`1 star`, `2 stars`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def seconds(span_s: float) -> str:
    """A span as people say it: `0.4s`, `12.3s`, `3m 05s`, `2h 01m`."""
    span_s = max(span_s, 0.0)
    if span_s < 60:
        return f"{span_s:.1f}s"
    minutes, rest = divmod(int(span_s), 60)
    if minutes < 60:
        return f"{minutes}m {rest:02d}s"
    return f"{minutes // 60}h {minutes % 60:02d}m"


def one_line(text: str, limit: int) -> str:
    """Text for one cell: control characters and line breaks become spaces, the end is cut.

    Streamed text and error messages come from other machines: none may move the cursor of this terminal.
    """
    plain = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return plain if len(plain) <= limit else plain[: max(limit - 1, 0)] + "…"


def tail(text: str, limit: int) -> str:
    """The end of a text for one cell, where `one_line` keeps the beginning."""
    plain = " ".join("".join(char if char.isprintable() else " " for char in text[-4 * limit :]).split())
    return plain if len(plain) <= limit else "…" + plain[len(plain) - max(limit - 1, 0) :]
