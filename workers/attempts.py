"""The attempts that run here: started, bounded in time, stopped, and each ended with exactly one report."""

import asyncio
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from asterism.orchestrator.core.effects import Assign, InputText, InputValue
from asterism.orchestrator.core.ids import FencingToken
from asterism.orchestrator.core.star import TOOL
from asterism.workers.artifacts import fits_inline
from asterism.workers.hearing import Hearing
from asterism.workers.reports import Failed, Report, Stopped, Succeeded, describe_error
from asterism.workers.runner import Runner, Tools, report_tool

_log = structlog.get_logger(__name__)


class Ledger(Protocol):
    """Where reports go."""

    def finish(self, report: Report) -> None:
        """Take the one report of an attempt; it is kept until it is acknowledged."""
        ...


@dataclass(slots=True)
class _Attempt:
    """One attempt under way."""

    assignment: Assign
    hearing: Hearing
    is_started: bool = False
    """Whether its task has had its first turn: a task that is cancelled before that never runs at all."""
    is_stopping: bool = False
    task: asyncio.Task[None] | None = field(default=None)


class Attempts:
    """Owns the task of every running attempt, for as long as the daemon runs and whatever becomes of connections."""

    def __init__(self, runner: Runner, tools: Tools, ledger: Ledger, group: asyncio.TaskGroup) -> None:
        self._runner = runner
        self._tools = tools
        self._ledger = ledger
        self._group = group
        self._live: dict[FencingToken, _Attempt] = {}

    def start(self, assignment: Assign) -> None:
        """Run it. A quick tool star has ended when this returns: a task of its own would cost more than the tool."""
        if assignment.kind is TOOL and not assignment.places and not assignment.streams:
            outcome = self._tools.call_quick(assignment.program, assignment.inputs)
            if outcome is not None:
                report = report_tool(assignment, outcome)
                if not isinstance(report, Succeeded) or fits_inline(report.result_json):
                    self._ledger.finish(report)
                    return
                # A large result is to be put aside first, which takes its time: the tool has to run once more.
        attempt = _Attempt(assignment, Hearing(assignment.streams))
        self._live[assignment.fencing_token] = attempt
        attempt.task = self._group.create_task(self._supervise(attempt), name=f"attempt {assignment.fencing_token}")

    def hear(self, part: InputText | InputValue) -> None:
        """More of an input has come; for an attempt that does not run any more it means nothing."""
        attempt = self._live.get(part.fencing_token)
        if attempt is not None:
            attempt.hearing.take(part)

    def stop(self, fencing_token: FencingToken) -> None:
        """Make a running attempt end; its report follows when it has."""
        attempt = self._live.get(fencing_token)
        if attempt is None or attempt.is_stopping or attempt.task is None:
            return
        attempt.is_stopping = True
        if attempt.is_started:
            attempt.task.cancel()

    def stop_all(self) -> None:
        """Stop everything, as at the end of the lease or of the daemon."""
        for fencing_token in list(self._live):
            self.stop(fencing_token)

    async def _supervise(self, attempt: _Attempt) -> None:
        """The one place where whatever a program does wrong becomes a report."""
        assignment = attempt.assignment
        attempt.is_started = True
        report: Report = Stopped(assignment.fencing_token)
        deadline = asyncio.timeout(assignment.start_to_close_s)
        try:
            if not attempt.is_stopping:
                async with deadline:
                    report = await self._runner.run(assignment, attempt.hearing)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not attempt.is_stopping or (task is not None and task.uncancel() > 0):
                raise
        except TimeoutError as error:
            report = _report_timeout(assignment) if deadline.expired() else _report_fault(assignment, error)
        except Exception as error:  # the supervisor of programs: reports, and the others run on
            report = _report_fault(assignment, error)
        finally:
            del self._live[assignment.fencing_token]
        self._ledger.finish(report)


def _report_timeout(assignment: Assign) -> Report:
    message = f"not finished within {assignment.start_to_close_s:g} s"
    return Failed(assignment.fencing_token, describe_error("timed_out", message, retryable=True))


def _report_fault(assignment: Assign, error: Exception) -> Report:
    _log.error("program at fault", star=assignment.star, program=assignment.program, exc_info=error)
    message = f"{type(error).__name__}: {error}"
    return Failed(assignment.fencing_token, describe_error("program_error", message, retryable=True))
