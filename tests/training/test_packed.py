import random

import pytest
import torch

from asterism.agents.countdown import Board
from asterism.workers.engine.config import DecoderConfig
from asterism.workers.engine.decoder import Decoder
from asterism.workers.training.packed import PackedBatch, packed_logits, unpack, weighted_loss
from asterism.workers.training.rows import ROW_TOKENS, full_rows, learned_places, rows_of, weight_of
from asterism.workers.training.traces import TOKEN_ID, Trace, parallel_trace, sequential_trace

CONFIG = DecoderConfig(
    vocab_size=len(TOKEN_ID),
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=640,
)


def decoder() -> Decoder:
    torch.manual_seed(0)
    return Decoder(CONFIG).eval()


def traces() -> list[Trace]:
    rng = random.Random(3)
    board = Board((3, 4, 6, 8), 24)
    return [parallel_trace(board, rng, whole_list=True), sequential_trace(Board((3, 8, 10), 24), rng)]


def pack(traces: list[Trace]) -> PackedBatch:
    return unpack(torch.from_numpy(rows_of(traces)))


def test_packed_threads_are_computed_as_if_each_stood_alone_behind_the_prefix() -> None:
    model, both = decoder(), traces()
    with torch.no_grad():
        packed = packed_logits(model, pack(both))
        for row, trace in enumerate(both):
            prefix = [index for index, segment in enumerate(trace.segments) if segment == 0]
            for wanted in set(trace.segments):
                own = [index for index, segment in enumerate(trace.segments) if segment == wanted]
                alone = prefix if wanted == 0 else prefix[: trace.seen[own[0]]] + own
                logits = model(torch.tensor([[trace.token_ids[index] for index in alone]]))[0]
                torch.testing.assert_close(packed[row, own], logits[-len(own) :], atol=1e-4, rtol=1e-4)


def test_first_word_of_a_thread_is_not_predicted_from_its_neighbour() -> None:
    trace = traces()[0]
    batch = pack([trace])
    starts = [index for index, (a, b) in enumerate(zip(trace.segments, trace.segments[1:], strict=False)) if a != b]
    assert starts
    assert batch.weights[0, starts].sum() == 0


def test_thread_is_blind_to_outlines_behind_its_own() -> None:
    rng = random.Random(0)
    while True:
        trace = parallel_trace(Board((3, 4, 6, 8), 24), rng, whole_list=True)
        starts = [index for index, segment in enumerate(trace.segments) if segment and trace.seen[index] < 60]
        if starts:
            break
    visible = pack([trace]).visible[0, 0, starts[0]]
    assert visible[: trace.seen[starts[0]]].all()
    assert not visible[trace.seen[starts[0]] : starts[0]].any()


def test_padding_changes_nothing() -> None:
    model, both = decoder(), traces()
    alone = pack(both[1:])
    with torch.no_grad():
        padded = packed_logits(model, pack(both))[1, : alone.token_ids.shape[1]]
        torch.testing.assert_close(padded, packed_logits(model, alone)[0], atol=1e-4, rtol=1e-4)


def test_loss_is_finite_and_has_gradients_everywhere() -> None:
    model = decoder()
    torch.autograd.backward(weighted_loss(model, pack(traces())))
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())


def test_traces_that_share_a_row_are_blind_to_each_other() -> None:
    model, both = decoder(), traces()
    shared, left_over = full_rows(both, rows=1)
    assert not left_over
    first = len(both[0].token_ids)
    with torch.no_grad():
        together = packed_logits(model, unpack(torch.from_numpy(shared)))[0]
        for trace, at in zip(both, (0, first), strict=True):
            alone = packed_logits(model, pack([trace]))[0]
            torch.testing.assert_close(together[at : at + len(alone)], alone, atol=1e-4, rtol=1e-4)


def test_full_rows_keep_every_trace_or_hand_it_back() -> None:
    rng = random.Random(5)
    made = [sequential_trace(Board((1, 2, 3, target), target + 2), rng) for target in range(10, 40)]
    rows, left_over = full_rows(list(made), rows=2)
    assert rows.shape == (6, 2, ROW_TOKENS)
    assert left_over
    placed = [trace for trace in made if trace not in left_over]
    assert (rows[2] >= 0).sum() == sum(len(trace.token_ids) for trace in placed)
    assert weight_of(rows) == pytest.approx(sum(weight_of(rows_of([trace])) for trace in placed))
    assert learned_places(rows) == sum(learned_places(rows_of([trace])) for trace in placed)


def test_trace_longer_than_a_row_loses_its_end() -> None:
    trace = traces()[0]
    rows, left_over = full_rows([trace], rows=1, time=50)
    assert not left_over
    assert rows[0, 0].tolist() == traces()[0].token_ids[:50]
