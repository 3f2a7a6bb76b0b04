"""The weights of a model folder: one `model.safetensors`, or shards that `model.safetensors.index.json` lists.

Everything is checked against the config from the files' headers before a single weight is read. Then each weight is
read, converted and put in its place, so that no more than one is held twice.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from asterism.workers.engine.config import DecoderConfig
from asterism.workers.engine.decoder import Decoder
from asterism.workers.engine.errors import UnsupportedModel
from asterism.workers.engine.fields import read_json

WEIGHTS: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"

STORED: Final = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""What weights may be stored as, in safetensors' names and torch's."""

_INDEX_BYTES: Final = 64 << 20
_TIED: Final = "lm_head.weight"
_UNUSED: Final = ".rotary_emb.inv_freq"
"""Early checkpoints hold the angles too; the config says the same."""


class _Slice(Protocol):
    def get_shape(self) -> list[int]: ...
    def get_dtype(self) -> str: ...


class _OpenFile(Protocol):
    """What is used of safetensors' open file."""

    def keys(self) -> Sequence[str]: ...
    def get_slice(self, name: str) -> _Slice: ...
    def get_tensor(self, name: str) -> Tensor: ...


def load_decoder(config: DecoderConfig, folder: Path, dtype: torch.dtype) -> Decoder:
    """A decoder of that shape with the folder's weights on the CPU, as `dtype` whatever they are stored as.

    Raises `UnsupportedModel` naming the file, or the weight that is missing, left over, misshapen or of another kind.
    """
    with torch.device("meta"):
        decoder = Decoder(config)
    expected = {name: tuple(weight.shape) for name, weight in decoder.state_dict().items()}
    if config.tie_word_embeddings:
        del expected[_TIED]
    with ExitStack() as stack:
        places: dict[str, _OpenFile] = {}
        for file in _files(folder):
            opened: _OpenFile = stack.enter_context(_open(folder / file))
            for name in opened.keys():  # noqa: SIM118 (it is no mapping)
                if name.endswith(_UNUSED) or (name == _TIED and config.tie_word_embeddings):
                    continue
                if name in places:
                    raise UnsupportedModel(name, f"is in two files, {file} the second")
                places[name] = opened
        _check(expected, places)
        weights: dict[str, Tensor] = {}
        for name, opened in places.items():
            try:
                # A copy even when nothing is converted: what is mapped would change, or crash us, with the file.
                weights[name] = opened.get_tensor(name).to(dtype, copy=True)
            except (OSError, SafetensorError) as error:
                raise UnsupportedModel(name, f"does not read: {error}") from error
    decoder.adopt(weights)
    return decoder


def _files(folder: Path) -> Sequence[str]:
    """Names of the files that hold the weights."""
    if (folder / WEIGHTS).exists() or not (folder / INDEX).exists():
        return (WEIGHTS,)
    places = read_json(folder / INDEX, limit=_INDEX_BYTES).get("weight_map")
    if not isinstance(places, Mapping) or not places:
        raise UnsupportedModel(INDEX, "has no weight_map")
    for file in places.values():
        if not isinstance(file, str) or not file.endswith(".safetensors") or "/" in file or "\\" in file:
            raise UnsupportedModel(INDEX, f"names {file!r}, which is no .safetensors file of this folder")
    return sorted(set(places.values()))


def _open(path: Path) -> safe_open:
    """The file with its header read; safetensors refuses headers above 100 MB, and bodies that are cut off."""
    try:
        return safe_open(path, framework="pt")
    except (OSError, SafetensorError) as error:
        raise UnsupportedModel(path.name, str(error)) from error


def _check(expected: Mapping[str, tuple[int, ...]], places: Mapping[str, _OpenFile]) -> None:
    for name in sorted(expected.keys() | places.keys()):
        if name not in places:
            raise UnsupportedModel(name, f"is missing; the config asks for shape {expected[name]}")
        stored = places[name].get_slice(name)
        if name not in expected:
            raise UnsupportedModel(name, f"has shape {tuple(stored.get_shape())}; the config asks for no such weight")
        if tuple(stored.get_shape()) != expected[name]:
            shape = tuple(stored.get_shape())
            raise UnsupportedModel(name, f"has shape {shape}; the config asks for {expected[name]}")
        if stored.get_dtype() not in STORED:
            raise UnsupportedModel(name, f"is stored as {stored.get_dtype()}; this engine reads {', '.join(STORED)}")
