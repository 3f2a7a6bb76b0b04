"""What the records of evaluation runs say: each run by itself, and the tests that compare runs. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from asterism.agents.countdown import Board
from asterism.workers.training.attempts import Attempt
from asterism.workers.training.measures import share_of, spread


@dataclass(frozen=True, slots=True)
class Records:
    """What one run did on each of its boards, and the seconds that all took together."""

    boards: tuple[Board, ...]
    attempts: tuple[Attempt, ...]
    wall_s: float
    processor_s: float

    def to_json(self) -> dict[str, Any]:
        return {
            "boards": [[*board.numbers, board.target] for board in self.boards],
            "attempts": [asdict(attempt) for attempt in self.attempts],
            "wall_s": self.wall_s,
            "processor_s": self.processor_s,
        }

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "Records":
        """Reads what `to_json` wrote."""
        return Records(
            boards=tuple(Board(tuple(line[:-1]), line[-1]) for line in values["boards"]),
            attempts=tuple(Attempt(**attempt) for attempt in values["attempts"]),
            wall_s=values["wall_s"],
            processor_s=values["processor_s"],
        )

    def within(self, tokens: int) -> list[bool]:
        """Which boards were solved with so many decoded tokens."""
        return [attempt.solved and attempt.tokens <= tokens for attempt in self.attempts]


def results_json(saved: Mapping[str, Records]) -> dict[str, Any]:
    """All figures; what was not measured is left out or null."""
    return {"runs": {name: run_json(records) for name, records in saved.items()}, "tests": _tests(saved)}


def run_json(records: Records) -> dict[str, Any]:
    """One run by itself: shares by kind of board, and what it cost."""
    is_24 = [board.target == 24 and max(board.numbers) <= 13 for board in records.boards]
    attempts = records.attempts
    solved = sum(one.solved for one in attempts)
    return {
        "all": share_of([one.solved for one in attempts]),
        "game_of_24": share_of([one.solved for one, chosen in zip(attempts, is_24, strict=True) if chosen]),
        "countdown": share_of([one.solved for one, chosen in zip(attempts, is_24, strict=True) if not chosen]),
        "tokens": spread([one.tokens for one in attempts]),
        "critical_path": spread([one.critical_path for one in attempts]),
        "steps_on_8_slots": spread([one.steps for one in attempts]),
        "prefill": spread([one.prefill for one in attempts]),
        "join_prefill": spread([one.join_prefill for one in attempts]),
        "threads": spread([one.forked for one in attempts]),
        "false_claims": sum(one.false_claims for one in attempts),
        "wall_s": round(records.wall_s, 1),
        "processor_s": round(records.processor_s, 1),
        "wall_ms_a_solved_board": round(1000 * records.wall_s / solved, 1) if solved else None,
        "processor_ms_a_solved_board": round(1000 * records.processor_s / solved, 1) if solved else None,
    }


def _tests(saved: Mapping[str, Records]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    main, search, direct = (
        saved.get(name) for name in ("parallel, context 256", "sequential, 1700 tokens", "direct, 1700 tokens")
    )
    if search is not None:
        found["sequential, context 512, one text"] = share_of([one.first_text is not None for one in search.attempts])
        found["sequential, 800 tokens"] = share_of(search.within(800))
    if direct is not None:
        found["direct, 800 tokens"] = share_of(direct.within(800))
    if main is not None:
        found["parallel, 1700 tokens"] = share_of(main.within(1_700))
    for name in ("barrier", "cancel", "parallel, context 256"):
        if name in saved and search is not None:
            found[f"sequential over {name}"] = _times_shorter(search, saved[name])
    auto, alone = saved.get("three numbers, auto"), saved.get("three numbers, sequential")
    if auto is not None and alone is not None:
        found["three numbers"] = {
            "did_not_fork": share_of([one.mode == "sequential" for one in auto.attempts]),
            "critical_path_ratio": _ratio(auto.attempts, alone.attempts, lambda one: one.critical_path),
        }
    threads, text = saved.get("alone, parallel"), saved.get("alone, sequential")
    if threads is not None and text is not None:
        found["seconds a solved board, threads over one text"] = {
            "wall": _a_solved_board(threads, threads.wall_s) / _a_solved_board(text, text.wall_s),
            "processor": _a_solved_board(threads, threads.processor_s) / _a_solved_board(text, text.processor_s),
        }
    one, other = saved.get("repeated, 1 at once"), saved.get("repeated, 8 at once")
    if one is not None and other is not None:
        found["same texts at 1 and 8 at once"] = [a.said for a in one.attempts] == [b.said for b in other.attempts]
    return found


def _a_solved_board(records: Records, seconds: float) -> float:
    return seconds / max(1, sum(one.solved for one in records.attempts))


def _ratio(over: Sequence[Attempt], under: Sequence[Attempt], figure: Callable[[Attempt], float]) -> float:
    return round(sum(map(figure, over)) / max(1, sum(map(figure, under))), 3)


def _times_shorter(text: Records, threads: Records) -> dict[str, Any]:
    """By how much the critical path is shorter, on the boards that both runs have."""
    of_text = dict(zip(text.boards, text.attempts, strict=True))
    pairs = [
        (of_text[board], attempt)
        for board, attempt in zip(threads.boards, threads.attempts, strict=True)
        if board in of_text
    ]
    both = [(one, other) for one, other in pairs if one.solved and other.solved]
    return {"all": _shorter(pairs), "solved_by_both": _shorter(both)}


def _shorter(pairs: Sequence[tuple[Attempt, Attempt]]) -> dict[str, Any] | None:
    if not pairs:
        return None
    texts = spread([text.critical_path for text, _ in pairs])
    paths = spread([threads.critical_path for _, threads in pairs])
    steps = spread([threads.steps for _, threads in pairs])
    return {
        "boards": len(pairs),
        "sequential": texts,
        "critical_path": paths,
        "steps_on_8_slots": steps,
        "times_mean": round(texts["mean"] / paths["mean"], 2),
        "times_p95": round(texts["p95"] / paths["p95"], 2),
        "times_mean_in_steps": round(texts["mean"] / steps["mean"], 2),
        "times_p95_in_steps": round(texts["p95"] / steps["p95"], 2),
    }
