"""The program `asterism`, as its installation calls it; `commands/program.py` is what it does."""

import sys
from collections.abc import Sequence
from typing import NoReturn

from asterism.protocol.commands.ctrl_c import leave_to_the_system, take_back


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs one command and exits with its code: 0, 1 failed, 2 usage, 3 unreachable, 130 interrupted."""
    leave_to_the_system()
    try:
        # 60 ms, and so not above: Ctrl-C may come already.
        from asterism.protocol.commands.program import run_program

        run_program(list(sys.argv[1:] if arguments is None else arguments))
    except KeyboardInterrupt:
        sys.exit(130)  # `ExitCode.INTERRUPTED`
    finally:
        take_back()


if __name__ == "__main__":
    main()
