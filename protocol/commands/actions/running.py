"""From a command's coroutine to the end of the process: signals, companions, exit code."""

import asyncio
import signal
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import TypeVar

import typer

from asterism.protocol.commands.ctrl_c import take_back
from asterism.protocol.commands.ending import ExitCode

T = TypeVar("T")


def run_to_exit(work: Coroutine[object, object, ExitCode], interrupts: "Interrupts | None" = None) -> None:
    """Runs a command. SIGTERM and SIGHUP end it like Ctrl-C does: everything is closed, and the code is 130.

    While `interrupts` listen, SIGTERM and Ctrl-C are counted there.
    """
    take_back()
    code = asyncio.run(_until_signalled(work, interrupts))
    if code is not ExitCode.SUCCEEDED:
        raise typer.Exit(code)


def answer_of(work: Coroutine[object, object, T]) -> T:
    """What a coroutine gives, run like a command: for one that has a person do something between two of them."""
    answers: list[T] = []

    async def keep() -> ExitCode:
        answers.append(await work)
        return ExitCode.SUCCEEDED

    run_to_exit(keep())
    return answers[0]


@contextmanager
def exit_at_sigterm() -> Iterator[None]:
    """Has SIGTERM end a command like `run_to_exit` does, while it waits for a person outside of any event loop."""

    def stop(*_: object) -> None:
        raise typer.Exit(ExitCode.INTERRUPTED)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


async def beside(work: Coroutine[object, object, T], *companions: Coroutine[object, object, None]) -> T:
    """The result of `work`; its companions end with it, and an error of one of them ends it. Raises the first error."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(companion) for companion in companions]
            result = await group.create_task(work)
            for task in tasks:
                task.cancel()
    except BaseExceptionGroup as several:
        raise first_error(several) from None
    return result


def first_error(several: BaseExceptionGroup[BaseException]) -> BaseException:
    """One leaf of a group: what a person is told."""
    leaf: BaseException = several
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    return leaf


class Interrupts:
    """Counts Ctrl-C, and SIGTERM, which means the same."""

    def __init__(self) -> None:
        self._first = asyncio.Event()
        self._second = asyncio.Event()
        self._is_listening = False

    @property
    def has_come(self) -> bool:
        """Whether there was one."""
        return self._first.is_set()

    async def first(self) -> None:
        """Waits for the first one."""
        await self._first.wait()

    async def second(self) -> None:
        """Waits for the second one."""
        await self._second.wait()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Takes the signals over; afterwards they end the program as before."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self.count)
        self._is_listening = True
        try:
            yield
        finally:
            self._is_listening = False
            loop.remove_signal_handler(signal.SIGINT)

    def count(self) -> bool:
        """Counts one, if they are listened to; says whether they are."""
        if self._is_listening:
            (self._second if self._first.is_set() else self._first).set()
        return self._is_listening


async def _until_signalled(work: Coroutine[object, object, ExitCode], interrupts: Interrupts | None) -> ExitCode:
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None, "a coroutine that runs has a task"
    told: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        if number is signal.SIGTERM and interrupts is not None and interrupts.count():
            return
        told.append(number)
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop, number)
    try:
        return await work
    except asyncio.CancelledError:
        if told:
            return ExitCode.INTERRUPTED
        raise  # Ctrl-C: asyncio.run makes a KeyboardInterrupt of it
    finally:
        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.remove_signal_handler(number)
