"""Model folders as Hugging Face lays them out: the shape, the weights, the tokenizer, and how to write a chat."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import save
from tokenizers import Tokenizer

from asterism.workers.engine.chat_template import ChatTemplate
from asterism.workers.engine.config import DecoderConfig
from asterism.workers.engine.decoder import Decoder
from asterism.workers.engine.errors import UnsupportedModel
from asterism.workers.engine.fields import ids, read_json
from asterism.workers.engine.weights import WEIGHTS, load_decoder

CONFIG: Final = "config.json"
TOKENIZER: Final = "tokenizer.json"
GENERATION: Final = "generation_config.json"

_CONFIG_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A loaded model, its weights on the CPU."""

    name: str
    """The folder's name, which is how requests and workers name the model."""
    decoder: Decoder
    tokenizer: Tokenizer
    chat_template: ChatTemplate | None = None
    """How the model was taught to read a conversation; None for one that only continues texts."""


def load_folder(folder: Path, *, dtype: torch.dtype = torch.float32) -> ModelFolder:
    """Reads a model folder, the weights as `dtype`; raises `UnsupportedModel` naming what does not fit."""
    config = _load_config(folder)
    # The tokenizer before the weights: what is wrong with it is known at once, and not after gigabytes.
    tokenizer = _load_tokenizer(folder / TOKENIZER, config)
    chat_template = ChatTemplate.find(folder)
    decoder = load_decoder(config, folder, dtype)
    return ModelFolder(folder.resolve().name, decoder.eval(), tokenizer, chat_template)


def save_folder(folder: Path, decoder: Decoder, tokenizer: Tokenizer, *, dtype: torch.dtype = torch.float16) -> None:
    """Writes a model folder, the weights stored as `dtype`; a tied output head is stored once, as its embedding."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {**decoder.config.to_json(), "torch_dtype": str(dtype).removeprefix("torch.")}
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    tokenizer.save(str(folder / TOKENIZER))
    weights = {
        name: weight.detach().to(dtype).contiguous()
        for name, weight in decoder.state_dict().items()
        if not (name == "lm_head.weight" and decoder.config.tie_word_embeddings)
    }
    # Not save_file: it makes a file that only its owner may read.
    (folder / WEIGHTS).write_bytes(save(weights, metadata={"format": "pt"}))


def _load_config(folder: Path) -> DecoderConfig:
    """The shape; the ids that end a text are those of `generation_config.json` where it names any.

    A chat model ends its turns with other ids than its base model ends texts with, and that file knows them.
    """
    config = DecoderConfig.from_json(read_json(folder / CONFIG, limit=_CONFIG_BYTES))
    if (folder / GENERATION).exists():
        end_ids = ids(read_json(folder / GENERATION, limit=_CONFIG_BYTES), "eos_token_id")
        return replace(config, eos_token_ids=end_ids or config.eos_token_ids)
    return config


def _load_tokenizer(path: Path, config: DecoderConfig) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception for every kind of bad file
        raise UnsupportedModel(TOKENIZER, str(error)) from error
    if tokenizer.get_vocab_size() > config.vocab_size:
        raise UnsupportedModel(TOKENIZER, f"has {tokenizer.get_vocab_size()} tokens, the model {config.vocab_size}")
    return tokenizer
