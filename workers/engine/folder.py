"""Model folders as Hugging Face lays them out: `config.json`, `tokenizer.json`, `model.safetensors`."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from tokenizers import Tokenizer

from asterism.workers.engine.config import DecoderConfig
from asterism.workers.engine.decoder import Decoder
from asterism.workers.engine.errors import UnsupportedModel

CONFIG, TOKENIZER, WEIGHTS = "config.json", "tokenizer.json", "model.safetensors"


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A loaded model: its weights are float32 on the CPU, whatever they are stored as."""

    name: str
    """The folder's name, which is how requests and workers name the model."""
    decoder: Decoder
    tokenizer: Tokenizer


def load_folder(folder: Path) -> ModelFolder:
    """Reads a model folder; raises `UnsupportedModel` naming the file or field that does not fit."""
    try:
        values = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnsupportedModel(CONFIG, str(error)) from error
    if not isinstance(values, dict):
        raise UnsupportedModel(CONFIG, "is no object")
    decoder = Decoder(DecoderConfig.from_json(values))
    _load_weights(decoder, folder / WEIGHTS)
    return ModelFolder(folder.resolve().name, decoder.eval(), _load_tokenizer(folder / TOKENIZER, decoder.config))


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


def _load_weights(decoder: Decoder, path: Path) -> None:
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UnsupportedModel(WEIGHTS, str(error)) from error
    if decoder.config.tie_word_embeddings and "model.embed_tokens.weight" in weights:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    expected = {name: tuple(weight.shape) for name, weight in decoder.state_dict().items()}
    found = {name: tuple(weight.shape) for name, weight in weights.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise UnsupportedModel(name, f"has shape {found.get(name)}; the config asks for {expected.get(name)}")
    decoder.load_state_dict({name: weight.float() for name, weight in weights.items()})


def _load_tokenizer(path: Path, config: DecoderConfig) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception for every kind of bad file
        raise UnsupportedModel(TOKENIZER, str(error)) from error
    if tokenizer.get_vocab_size() > config.vocab_size:
        raise UnsupportedModel(TOKENIZER, f"has {tokenizer.get_vocab_size()} tokens, the model {config.vocab_size}")
    return tokenizer
