"""The computers that the engine is tested with: the one that it takes by itself here, and the one in torch."""

import asyncio
import threading

import torch
from torch import Tensor

from asterism.workers.engine.computer import ComputerFactory, StepComputer, make_computer
from asterism.workers.engine.cuda.cuda_step import CudaComputer
from asterism.workers.engine.decoder import Decoder
from asterism.workers.engine.step import Step
from asterism.workers.engine.torch_step import TorchStepComputer


def torch_computer(
    decoder: Decoder, *, blocks: int, context_tokens: int, max_sequences: int, os_threads: int, device: str
) -> TorchStepComputer:
    return TorchStepComputer(decoder, blocks=blocks, context_tokens=context_tokens, device=torch.device(device))


def paged_computer(
    decoder: Decoder, *, blocks: int, context_tokens: int, max_sequences: int, os_threads: int, device: str
) -> CudaComputer:
    """The one for GPUs, all but its kernels and graphs."""
    return CudaComputer(
        decoder,
        blocks=blocks,
        context_tokens=context_tokens,
        max_sequences=max_sequences,
        device=torch.device(device),
        dtype=torch.float32,
    )


COMPUTERS: dict[str, ComputerFactory] = {"default": make_computer, "torch": torch_computer, "paged": paged_computer}


class Pace:
    """Steps that wait until they are allowed."""

    def __init__(self) -> None:
        self._permits = threading.Semaphore(0)
        self._asked = threading.Semaphore(0)
        self._is_over = False

    def slow(self, factory: ComputerFactory) -> ComputerFactory:
        """The same computers, at this pace."""

        def make(
            decoder: Decoder, *, blocks: int, context_tokens: int, max_sequences: int, os_threads: int, device: str
        ) -> StepComputer:
            computer = factory(
                decoder,
                blocks=blocks,
                context_tokens=context_tokens,
                max_sequences=max_sequences,
                os_threads=os_threads,
                device=device,
            )
            return PacedComputer(computer, self)

        return make

    async def allow(self, steps: int) -> None:
        """Lets that many steps happen, and waits until the next one wants to."""
        for _ in range(steps):
            await asyncio.to_thread(self._asked.acquire)
            self._permits.release()
        await asyncio.to_thread(self._asked.acquire)
        self._asked.release()

    def end(self) -> None:
        """Lets all steps happen from now on."""
        self._is_over = True
        self._permits.release()

    def wait(self) -> None:
        """In the OS thread of the computer: until the step may happen."""
        self._asked.release()
        if not self._is_over:
            self._permits.acquire()


class PacedComputer:
    """A computer at the pace of a test."""

    def __init__(self, computer: StepComputer, pace: Pace) -> None:
        self._computer = computer
        self._pace = pace

    @property
    def blocks(self) -> int:
        return self._computer.blocks

    def compute(self, step: Step) -> Tensor:
        self._pace.wait()
        return self._computer.compute(step)
