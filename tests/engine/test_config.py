"""What a `config.json` may say: traits of each family are read, what would be computed wrongly is refused by name."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asterism.workers.engine.config import DecoderConfig
from asterism.workers.engine.errors import UnsupportedModel
from asterism.workers.engine.rope import LinearScaling, Llama3Scaling, RopeScaling, YarnScaling

CONFIG = DecoderConfig(
    vocab_size=40,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=1024,
)
VALUES = CONFIG.to_json()

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
ROUND = st.floats(1.0, 64.0)


def scalings() -> st.SearchStrategy[RopeScaling | None]:
    return st.one_of(
        st.none(),
        st.builds(LinearScaling, ROUND),
        st.builds(Llama3Scaling, ROUND, st.floats(0.5, 2.0), st.floats(2.5, 8.0), st.integers(1, 8192)),
        st.builds(YarnScaling, ROUND, st.integers(1, 8192), ROUND, st.floats(0.1, 0.9), ROUND, st.booleans()),
    )


@st.composite
def configs(draw: st.DrawFn) -> DecoderConfig:
    """Shapes of every family."""
    kv_heads = draw(st.integers(1, 3))
    attention_bias, window = draw(st.booleans()), draw(st.none() | st.integers(1, 1023))
    traits: dict[str, Any] = draw(
        st.sampled_from(
            [
                {"qkv_bias": attention_bias, "output_bias": attention_bias, "mlp_bias": draw(st.booleans())},
                {"qkv_bias": True, "sliding_window": window},
                {"qk_norm": True, "qkv_bias": attention_bias, "output_bias": attention_bias, "sliding_window": window},
                {"sliding_window": window},
            ]
        )
    )
    return replace(
        CONFIG,
        num_key_value_heads=kv_heads,
        num_attention_heads=kv_heads * draw(st.integers(1, 3)),
        head_dim=2 * draw(st.integers(1, 9)),
        rope_theta=draw(st.floats(2.0, 1e7)),
        rope_scaling=draw(scalings()),
        tie_word_embeddings=draw(st.booleans()),
        bos_token_id=draw(st.none() | st.integers(0, 39)),
        eos_token_ids=tuple(draw(st.lists(st.integers(0, 39), max_size=3))),
        **traits,
    )


@given(configs())
def test_a_config_is_read_back_as_written(config: DecoderConfig) -> None:
    assert DecoderConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model_type", "gpt2"),
        ("model_type", "mixtral"),
        ("model_type", ["llama"]),
        ("hidden_act", "gelu"),
        ("attention_bias", "yes"),
        ("mlp_bias", 1),
        ("tie_word_embeddings", "no"),
        ("quantization_config", {"bits": 4}),
        ("rope_scaling", {"rope_type": "dynamic", "factor": 8.0}),
        ("rope_scaling", {"type": "longrope"}),
        ("rope_parameters", 7),
        ("rope_parameters", {"full_attention": {"rope_type": "default"}}),
        ("partial_rotary_factor", 0.5),
        ("head_dim", 7),
        ("head_dim", -8),
        ("hidden_size", True),
        ("num_key_value_heads", 3),
        ("num_hidden_layers", 0),
        ("num_hidden_layers", 1 << 40),
        ("max_position_embeddings", 1 << 30),
        ("vocab_size", None),
        ("vocab_size", "many"),
        ("rms_norm_eps", -1.0),
        ("rms_norm_eps", float("nan")),
        ("rope_theta", "big"),
        ("rope_theta", 1.0),
        ("eos_token_id", ["</s>"]),
    ],
)
def test_a_config_that_would_be_computed_wrongly_is_refused(field: str, value: object) -> None:
    with pytest.raises(UnsupportedModel) as refused:
        DecoderConfig.from_json({**VALUES, field: value})
    other = {"num_key_value_heads": "num_attention_heads", "rope_parameters": "rope_parameters"}
    assert refused.value.field in {field, other.get(field)}


@pytest.mark.parametrize(
    ("rope", "field"),
    [
        ({"rope_type": "linear"}, "factor"),
        ({"rope_type": "linear", "factor": 0}, "factor"),
        ({**LLAMA3, "low_freq_factor": 4.0}, "low_freq_factor"),
        ({**LLAMA3, "original_max_position_embeddings": 0}, "original_max_position_embeddings"),
        ({"rope_type": "yarn", "factor": 4.0, "beta_fast": 1.0}, "beta_slow"),
        ({"rope_type": "yarn", "factor": 4.0, "truncate": 2}, "truncate"),
        ({"rope_type": "yarn", "factor": "four"}, "factor"),
    ],
)
def test_a_scaling_that_makes_no_sense_is_refused(rope: dict[str, object], field: str) -> None:
    with pytest.raises(UnsupportedModel) as refused:
        DecoderConfig.from_json({**VALUES, "rope_scaling": rope})
    assert refused.value.field == field


def test_a_size_that_the_heads_do_not_divide_needs_a_head_dim() -> None:
    values = {field: value for field, value in VALUES.items() if field != "head_dim"}
    with pytest.raises(UnsupportedModel) as refused:
        DecoderConfig.from_json({**values, "hidden_size": 30})
    assert refused.value.field == "hidden_size"
    assert DecoderConfig.from_json({**values, "hidden_size": 30, "head_dim": 8}).head_dim == 8


def test_the_angle_base_is_read_from_either_place() -> None:
    values = {field: value for field, value in VALUES.items() if field != "rope_theta"}
    nested = {**values, "rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}
    assert DecoderConfig.from_json(nested) == DecoderConfig.from_json({**values, "rope_theta": 500.0})


@pytest.mark.parametrize(
    ("changes", "window"),
    [
        ({"model_type": "llama", "sliding_window": 64}, None),
        ({"model_type": "mistral", "sliding_window": 64}, 64),
        ({"model_type": "mistral", "sliding_window": None}, None),
        ({"model_type": "mistral", "max_position_embeddings": 8192}, 4096),
        ({"model_type": "mistral"}, None),
        ({"model_type": "qwen2", "sliding_window": 64}, None),
        ({"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 64, "max_window_layers": 0}, 64),
        ({"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 64, "max_window_layers": 2}, None),
        ({"model_type": "qwen3", "use_sliding_window": True, "sliding_window": 64}, None),
        (
            {
                "model_type": "qwen3",
                "use_sliding_window": True,
                "sliding_window": 64,
                "layer_types": ["sliding_attention"] * 2,
            },
            64,
        ),
        ({"model_type": "qwen3", "layer_types": ["full_attention"] * 2}, None),
    ],
)
def test_the_window_of_every_layer(changes: dict[str, object], window: int | None) -> None:
    assert DecoderConfig.from_json({**VALUES, **changes}).sliding_window == window


@pytest.mark.parametrize(
    "changes",
    [
        {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 1},
        {"use_sliding_window": True, "sliding_window": 64, "layer_types": ["full_attention", "sliding_attention"]},
        {"layer_types": ["sliding_attention"] * 2},
        {"layer_types": ["full_attention"]},
        {"layer_types": ["chunked_attention"] * 2},
        {"use_sliding_window": True, "sliding_window": 0, "max_window_layers": 0},
        {"use_sliding_window": "yes"},
    ],
)
def test_windows_of_some_layers_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(UnsupportedModel):
        DecoderConfig.from_json({**VALUES, "model_type": "qwen2", **changes})


def test_traits_that_no_family_has_together_are_not_written() -> None:
    with pytest.raises(UnsupportedModel):
        replace(CONFIG, qk_norm=True, mlp_bias=True).to_json()
