"""The mistakes that are put into the code still fit it, and the simulation notices: some of them here, all of them by
`make mutants`."""

import ast
import subprocess
import sys

import pytest

from tests.sim.mutants import MUTANTS, Mutant

QUICK = ("effects leave before the commit", "no fence check", "a result counts after its attempt was stopped")


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_fits_the_code_and_is_code(mutant: Mutant) -> None:
    ast.parse(mutant.source())


def test_mutant_whose_text_is_gone_is_an_error() -> None:
    with pytest.raises(ValueError, match="0 times, not once"):
        Mutant("m", "orchestrator/loop.py", "what was never there", "").source()


@pytest.mark.parametrize("name", QUICK)
def test_mistake_in_the_code_is_noticed(name: str) -> None:
    command = [sys.executable, "-m", "tests.sim.mutants", "--schedules", "50", name]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "noticed 1 of 1 mutants" in run.stdout
