"""The optimiser: Muon for the hidden matrices, AdamW for the embedding and the norms, one factor for both rates.

Muon (Jordan et al. 2024) makes each matrix's momentum orthogonal by five Newton-Schulz steps, here on matrices of one
shape at a time. torch's own one computes them in bfloat16 alone, which is slow on a CPU without units for it.
"""

from collections import defaultdict
from typing import Final

import torch
from torch import Tensor

from asterism.workers.engine.decoder import Decoder

MUON_LR: Final = 0.02
ADAM_LR: Final = 3e-3
_MOMENTUM: Final = 0.95
_COEFFICIENTS: Final = (3.4445, -4.7750, 2.0315)


def orthogonalised(matrices: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Roughly the nearest orthogonal matrices of `matrices` [count, rows, columns], computed in `dtype`."""
    a, b, c = _COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = (x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)).to(dtype)
    for _ in range(5):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = x.mT if tall else x
    return result.to(matrices.dtype)


class Optimizer:
    """Steps a decoder's parameters; `state` and `load` carry it through a restart."""

    def __init__(self, decoder: Decoder, dtype: torch.dtype = torch.float32) -> None:
        self._dtype = dtype
        self._matrices = [parameter for parameter in decoder.model.layers.parameters() if parameter.dim() == 2]
        hidden = {id(parameter) for parameter in self._matrices}
        others = [parameter for parameter in decoder.parameters() if id(parameter) not in hidden]
        self._momenta = [torch.zeros_like(parameter) for parameter in self._matrices]
        device = others[0].device
        # Its rate is a tensor, so that a recorded step follows it.
        rate = torch.tensor(ADAM_LR, device=device)
        self._adam = torch.optim.AdamW(
            others, lr=rate, betas=(0.9, 0.98), weight_decay=0.0, capturable=device.type == "cuda"
        )
        self._shapes: dict[torch.Size, list[int]] = defaultdict(list)
        for index, parameter in enumerate(self._matrices):
            self._shapes[parameter.shape].append(index)

    @torch.no_grad()
    def step(self, factor: Tensor) -> None:
        """One update from the gradients; `factor`, of no dimension, scales every learning rate. Gradients are cleared.

        It waits for nothing on a GPU, so that it can be recorded.
        """
        for shape, indices in self._shapes.items():
            grads = []
            for index in indices:
                grad, momentum = self._matrices[index].grad, self._momenta[index]
                assert grad is not None
                momentum.lerp_(grad, 1 - _MOMENTUM)
                grads.append(grad.lerp(momentum, _MOMENTUM))
            rate = factor * (MUON_LR * max(1.0, shape[0] / shape[1]) ** 0.5)
            kept = 1 - factor * (MUON_LR * 0.01)
            for index, update in zip(indices, orthogonalised(torch.stack(grads), self._dtype), strict=True):
                self._matrices[index].mul_(kept).sub_(update * rate)
                self._matrices[index].grad = None
        for group in self._adam.param_groups:
            group["lr"].copy_(factor * ADAM_LR)
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)

    def state(self) -> dict[str, object]:
        return {"momenta": self._momenta, "adam": self._adam.state_dict()}

    def load(self, momenta: list[Tensor], adam: dict[str, object]) -> None:
        for own, saved in zip(self._momenta, momenta, strict=True):
            own.copy_(saved)
        self._adam.load_state_dict(adam)
