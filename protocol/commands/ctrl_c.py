"""Whose Ctrl-C is: the system's while a command is still loaded, then Python's.

What Python makes of it, an exception, may come up in the middle of an import, where it prints a traceback or is lost.
Nothing is begun yet then that had to be ended, so that the system may end the process without a word; a shell gives the
same code, 130, to both.
"""

import signal


def leave_to_the_system() -> None:
    """Unless it is ignored, as for a command in the background of a script, or somebody else's business."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def take_back() -> None:
    """From here on it is `KeyboardInterrupt`, if it was left to the system."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
