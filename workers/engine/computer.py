"""The seam between the engine's thread and what computes a step on a device."""

from typing import Protocol

from torch import Tensor

from asterism.workers.engine.step import Step


class StepComputer(Protocol):
    """Owns the weights and the KV memory; one OS thread uses it.

    On the CPU a row of logits is bitwise the same however its sequence was cut into chunks, whatever else is in the
    step, and whether its blocks were computed, shared or copied.
    """

    @property
    def blocks(self) -> int:
        """KV blocks that there are, numbered from 0."""
        ...

    def compute(self, step: Step) -> Tensor:
        """Logits, float32 [chunks that sample, vocab] in the order of the chunks, on the CPU or the device."""
        ...
