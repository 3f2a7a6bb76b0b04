"""One update of a model: forward, backward and step, on a GPU recorded once and then played back."""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from asterism.workers.engine.decoder import Decoder
from asterism.workers.training.optimizer import Optimizer
from asterism.workers.training.packed import unpack, weighted_loss
from asterism.workers.training.rows import Rows, weight_of

_MOST_NORM: Final = 1.0
_BEFORE_RECORDING: Final = 3
"""Updates that run as they are, so that every library is loaded and every state there (as torch's notes advise)."""


class Learner:
    """Takes updates to a decoder, without waiting for the device; `loss` is the sum of their mean losses."""

    def __init__(self, decoder: Decoder, optimizer: Optimizer, *, bfloat16: bool, compiled: bool) -> None:
        self._decoder = decoder
        self._optimizer = optimizer
        self._device = decoder.model.embed_tokens.weight.device
        self._bfloat16 = bfloat16
        self._loss_of = torch.compile(weighted_loss, dynamic=self._device.type == "cpu") if compiled else weighted_loss
        self.loss = torch.zeros((), device=self._device)

    def update(self, batches: Sequence[Rows], factor: float) -> None:
        """Learns from all rows together; `factor` scales the learning rates."""
        total = sum(map(weight_of, batches))
        for rows in batches:
            self.backward(torch.from_numpy(rows).to(self._device), torch.full((), 1 / total, device=self._device))
        self.step(torch.full((), factor, device=self._device))

    def backward(self, rows: Tensor, share: Tensor) -> None:
        """Adds the gradients of the loss of `rows` times `share`."""
        # Without its cache of cast weights, which must not outlive a recording; each weight is used once.
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16, cache_enabled=False):
            part = self._loss_of(self._decoder, unpack(rows)) * share
        torch.autograd.backward(part)
        self.loss += part.detach()

    def step(self, factor: Tensor) -> None:
        torch.nn.utils.clip_grad_norm_(self._decoder.parameters(), _MOST_NORM)
        self._optimizer.step(factor)


class Recorded:
    """A learner on a GPU whose updates all have one shape: one recorded graph instead of a thousand launches."""

    def __init__(self, learner: Learner, shape: tuple[int, ...], device: torch.device) -> None:
        self._learner = learner
        self._rows = torch.zeros(shape, dtype=torch.int16, device=device)
        self._share = torch.ones((), device=device)
        self._factor = torch.zeros((), device=device)
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch leaves it so
        self._graph: torch.cuda.CUDAGraph | None = None
        self._updates = 0

    def update(self, batches: Sequence[Rows], factor: float) -> None:
        """As `Learner.update`, of one batch of the shape."""
        (rows,) = batches
        # From pinned memory, or the copy would wait for the update before.
        self._rows.copy_(torch.from_numpy(rows).pin_memory(), non_blocking=True)
        self._share.fill_(1 / weight_of(rows))
        self._factor.fill_(factor)
        if self._graph is None and self._updates >= _BEFORE_RECORDING:
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, stream=self._stream):
                self._once()
        if self._graph is not None:
            self._graph.replay()
        else:
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                self._once()
            torch.cuda.current_stream().wait_stream(self._stream)
        self._updates += 1

    def _once(self) -> None:
        self._learner.backward(self._rows, self._share)
        self._learner.step(self._factor)
