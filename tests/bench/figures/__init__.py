"""The other figures that the orchestrator is held to: `python -m tests.bench.figures edit many idle memory ...`."""
