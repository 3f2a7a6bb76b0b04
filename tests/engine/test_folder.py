"""Model folders: what is written is read back, and what this engine would compute wrongly is refused by name."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from asterism.workers.engine.decoder import Decoder
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
    with pytest.raises(UnsupportedModel, match=r"model\.layers\.2\.\S+: is missing"):
        load_folder(tmp_path)


def shard(folder: Path, decoder: Decoder) -> dict[str, str]:
    """Saves as two shards and an index; gives which weight is where."""
    save_folder(folder, decoder, character_tokenizer(), dtype=torch.float32)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    places = {name: f"model-0000{1 + number % 2}-of-00002.safetensors" for number, name in enumerate(names)}
    for file in set(places.values()):
        save_file({name: weights[name] for name in names if places[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return places


@torch.inference_mode()
def test_shards_are_read_as_one_model(tmp_path: Path) -> None:
    decoder = random_decoder(seed=2)
    shard(tmp_path, decoder)
    token_ids = torch.tensor([[5, 9, 2]])
    assert torch.equal(load_folder(tmp_path).decoder(token_ids), decoder(token_ids))


@pytest.mark.parametrize(
    "index",
    [
        {},
        {"weight_map": {}},
        {"weight_map": ["model.safetensors"]},
        {"weight_map": {"a": "../other/model.safetensors"}},
        {"weight_map": {"a": "/etc/model.safetensors"}},
        {"weight_map": {"a": "..\\model.safetensors"}},
        {"weight_map": {"a": "config.json"}},
        {"weight_map": {"a": 7}},
        [],
    ],
)
def test_an_index_that_leads_out_of_the_folder_or_nowhere_is_refused(tmp_path: Path, index: object) -> None:
    shard(tmp_path, random_decoder(seed=2))
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UnsupportedModel) as refused:
        load_folder(tmp_path)
    assert refused.value.field == "model.safetensors.index.json"


@pytest.mark.parametrize("damage", [b"", b"\xff" * 7 + b"\x00" + b"{}", None], ids=["empty", "huge header", "cut off"])
def test_a_damaged_shard_is_named(tmp_path: Path, damage: bytes | None) -> None:
    file = sorted(shard(tmp_path, random_decoder(seed=2)).values())[0]
    content = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(content[:-5] if damage is None else damage)
    with pytest.raises(UnsupportedModel) as refused:
        load_folder(tmp_path)
    assert refused.value.field == file


def test_a_shard_that_is_not_there_is_named(tmp_path: Path) -> None:
    file = sorted(shard(tmp_path, random_decoder(seed=2)).values())[0]
    (tmp_path / file).unlink()
    with pytest.raises(UnsupportedModel) as refused:
        load_folder(tmp_path)
    assert refused.value.field == file


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


NORM = "model.norm.weight"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda weights: weights.pop(NORM), "is missing"),
        (lambda weights: weights.update({NORM: torch.ones(31)}), r"has shape \(31,\)"),
        (lambda weights: weights.update({NORM: torch.ones(32, dtype=torch.int8)}), "is stored as I8"),
        (lambda weights: weights.update({NORM + ".extra": torch.ones(32)}), "asks for no such weight"),
    ],
)
def test_a_weight_that_does_not_fit_is_named(
    tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], object], reason: str
) -> None:
    save_folder(tmp_path, random_decoder(seed=2), character_tokenizer())
    change_weights(tmp_path, change)
    with pytest.raises(UnsupportedModel, match=reason) as refused:
        load_folder(tmp_path)
    assert refused.value.field.startswith(NORM)


def test_a_weight_in_two_shards_is_refused(tmp_path: Path) -> None:
    places = shard(tmp_path, random_decoder(seed=2))
    first, second = sorted(set(places.values()))
    (tmp_path / second).write_bytes((tmp_path / first).read_bytes())
    with pytest.raises(UnsupportedModel, match="is in two files"):
        load_folder(tmp_path)


def test_weights_that_say_what_the_config_says_are_passed_over(tmp_path: Path) -> None:
    decoder = random_decoder(seed=2)
    save_folder(tmp_path, decoder, character_tokenizer())
    angles = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4), "lm_head.weight": torch.ones(38, 32)}
    change_weights(tmp_path, lambda weights: weights.update(angles))
    loaded = load_folder(tmp_path).decoder
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    torch.testing.assert_close(loaded.lm_head.weight, decoder.lm_head.weight, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("wanted", [torch.float32, torch.bfloat16])
def test_weights_become_what_is_wanted(tmp_path: Path, stored: torch.dtype, wanted: torch.dtype) -> None:
    decoder = random_decoder(seed=2)
    save_folder(tmp_path, decoder, character_tokenizer(), dtype=stored)
    loaded = load_folder(tmp_path, dtype=wanted).decoder.state_dict()
    for name, weight in decoder.state_dict().items():
        assert torch.equal(loaded[name], weight.to(stored).to(wanted))


def test_loaded_weights_do_not_follow_the_file(tmp_path: Path) -> None:
    save_folder(tmp_path, random_decoder(seed=2), character_tokenizer(), dtype=torch.float32)
    loaded = load_folder(tmp_path).decoder
    before = loaded.model.embed_tokens.weight.clone()
    with (tmp_path / "model.safetensors").open("r+b") as file:
        file.truncate(64)
    assert torch.equal(loaded.model.embed_tokens.weight, before)


@pytest.mark.parametrize(("ids", "ends"), [(None, (3,)), (5, (5,)), ([6, 7], (6, 7))])
def test_the_generation_config_says_what_ends_a_text(tmp_path: Path, ids: object, ends: tuple[int, ...]) -> None:
    save_folder(tmp_path, random_decoder(seed=2, eos_token_ids=(3,)), character_tokenizer())
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": ids}))
    assert load_folder(tmp_path).decoder.config.eos_token_ids == ends


@pytest.mark.parametrize("content", ["{", "[1]", '{"eos_token_id": "</s>"}', "[" * 100_000])
def test_a_broken_generation_config_is_refused(tmp_path: Path, content: str) -> None:
    save_folder(tmp_path, random_decoder(seed=2), character_tokenizer())
    (tmp_path / "generation_config.json").write_text(content)
    with pytest.raises(UnsupportedModel) as refused:
        load_folder(tmp_path)
    assert refused.value.field in {"generation_config.json", "eos_token_id"}


def test_a_config_of_no_reasonable_size_is_refused(tmp_path: Path) -> None:
    save_folder(tmp_path, random_decoder(seed=2), character_tokenizer())
    (tmp_path / "config.json").write_text(" " * ((1 << 20) + 1))
    with pytest.raises(UnsupportedModel, match="more than") as refused:
        load_folder(tmp_path)
    assert refused.value.field == "config.json"


def test_the_chat_template_comes_with_the_folder(tmp_path: Path) -> None:
    save_folder(tmp_path, random_decoder(seed=2), character_tokenizer())
    assert load_folder(tmp_path).chat_template is None
    (tmp_path / "chat_template.jinja").write_text("{{ messages[0].content }}!")
    template = load_folder(tmp_path).chat_template
    assert template is not None
    assert template.render([{"role": "user", "content": "go"}]) == "go!"


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
