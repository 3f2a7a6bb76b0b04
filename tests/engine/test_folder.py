"""Model folders: what is written is read back, and what this engine would compute wrongly is refused by name."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from asterism.workers.engine.errors import UnsupportedModel
from asterism.workers.engine.folder import load_folder, save_folder
from tests.engine.conftest import character_tokenizer, random_decoder

VALUES = random_decoder(seed=2).config.to_json()


@pytest.mark.parametrize("is_tied", [True, False])
@torch.inference_mode()
def test_a_folder_is_read_back_as_written(tmp_path: Path, is_tied: bool) -> None:
    decoder = random_decoder(seed=2, tie_word_embeddings=is_tied, eos_token_ids=(3, 4))
    save_folder(tmp_path / "small", decoder, character_tokenizer(), dtype=torch.float32)
    model = load_folder(tmp_path / "small")
    assert model.name == "small"
    assert model.decoder.config == decoder.config
    assert model.tokenizer.encode("a b").ids == character_tokenizer().encode("a b").ids
    token_ids = torch.tensor([[5, 9, 2]])
    assert torch.equal(model.decoder(token_ids), decoder(token_ids))


def test_weights_stored_in_float16_are_loaded_as_float32(tmp_path: Path) -> None:
    decoder = random_decoder(seed=2)
    save_folder(tmp_path, decoder, character_tokenizer())
    parameters = sum(parameter.numel() for parameter in decoder.parameters())
    assert (tmp_path / "model.safetensors").stat().st_size < 3 * parameters
    assert {parameter.dtype for parameter in load_folder(tmp_path).decoder.parameters()} == {torch.float32}


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
@pytest.mark.parametrize("content", [None, b"", b"{not json"], ids=["missing", "empty", "broken"])
def test_a_file_that_does_not_read_is_named(tmp_path: Path, file: str, content: bytes | None) -> None:
    save_folder(tmp_path, random_decoder(seed=2), character_tokenizer())
    (tmp_path / file).unlink()
    if content is not None:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(UnsupportedModel) as refused:
        load_folder(tmp_path)
    assert refused.value.field == file


def test_weights_that_do_not_fit_the_config_are_named(tmp_path: Path) -> None:
    save_folder(tmp_path, random_decoder(seed=2), character_tokenizer())
    (tmp_path / "config.json").write_text(json.dumps({**VALUES, "num_hidden_layers": 3}))
    with pytest.raises(UnsupportedModel, match=r"model\.layers\.2\.\S+ has|model\.layers\.2\.\S+: has"):
        load_folder(tmp_path)


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(tmp_path: Path) -> None:
    save_folder(tmp_path, random_decoder(seed=2, vocab_size=20), character_tokenizer())
    with pytest.raises(UnsupportedModel) as refused:
        load_folder(tmp_path)
    assert refused.value.field == "tokenizer.json"


@pytest.mark.parametrize(
    "page", ["answer_memo", "config", "errors", "fields", "metrics", "rope", "scheduler", "scripted", "seam", "stops"]
)
def test_the_pure_half_imports_no_torch(page: str) -> None:
    code = f"import sys, asterism.workers.engine.{page}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
