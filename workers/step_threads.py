"""OS threads for the steps of programs. None is waited for at the end, so that no program can keep the worker alive."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class StepThreads(Executor):
    """Starts a daemon thread whenever none is idle: one that hangs in a step for ever costs a thread, and no turn.

    The standard pool joins its threads when the interpreter ends, which a hanging step would prevent.
    """

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run `fn` in a thread, soon; must not be called after the end of the event loop that uses it."""
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # the supervisor of a step: whoever waits for it gets the error
                future.set_exception(error)

        if not self._idle.acquire(blocking=False):
            threading.Thread(target=self._serve, name="step", daemon=True).start()
        self._waiting.put(run)
        return future

    def _serve(self) -> None:
        while True:
            self._waiting.get()()
            self._idle.release()
