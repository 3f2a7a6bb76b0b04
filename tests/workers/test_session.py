"""What is held, kept, and sent again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asterism.orchestrator.core.edits import CancelStar, EditBatch
from asterism.orchestrator.core.events import Chunk
from asterism.orchestrator.core.ids import FencingToken, StarId
from asterism.protocol.convert.worker import MAX_CHUNK
from asterism.workers.reports import Failed, Outgoing, Proposal, Stopped, Succeeded, describe_error
from asterism.workers.session import MAX_CHUNK_CHARACTERS, MAX_WAITING_BYTES, Backoff, Session
from asterism.workers.wire import frame_to_proto

ONE, TWO, THREE = FencingToken(1), FencingToken(2), FencingToken(3)
BATCH = EditBatch((CancelStar(StarId("s")),))


def attached(slots: int = 4) -> Session:
    session = Session(slots)
    session.attach()
    return session


def test_report_is_sent_once_and_kept_until_acknowledged() -> None:
    session = attached()
    assert session.accept(ONE)
    session.finish(Succeeded(ONE, "1"))
    assert session.take().reports == (Succeeded(ONE, "1"),)
    assert session.take() == Outgoing()
    held_before = session.held
    session.acknowledge([ONE])
    assert held_before == (ONE,)
    assert session.held == ()
    assert session.is_idle


def test_reports_go_out_again_on_a_new_stream_until_acknowledged() -> None:
    session = attached()
    for token in (ONE, TWO):
        session.accept(token)
        session.finish(Succeeded(token, "1"))
    session.take()
    session.acknowledge([ONE])
    session.detach()
    session.attach()
    assert session.take().reports == (Succeeded(TWO, "1"),)


def test_assignment_that_is_held_is_not_started_again() -> None:
    session = attached()
    assert session.accept(ONE)
    assert not session.accept(ONE)
    session.finish(Succeeded(ONE, "1"))
    session.take()
    assert not session.accept(ONE)
    assert session.take().reports == (Succeeded(ONE, "1"),)


def test_assignment_beyond_the_slots_is_refused_as_retryable() -> None:
    session = attached(slots=1)
    session.accept(ONE)
    assert not session.accept(TWO)
    (report,) = session.take().reports
    assert isinstance(report, Failed)
    assert (report.fencing_token, report.error.code, report.error.retryable) == (TWO, "worker_full", True)
    assert session.running == (ONE,)


def test_stop_of_what_never_ran_here_is_answered() -> None:
    session = attached()
    assert not session.stop(ONE)
    assert session.take().reports == (Stopped(ONE),)


def test_stop_of_a_finished_attempt_leaves_its_report() -> None:
    session = attached()
    session.accept(ONE)
    session.finish(Succeeded(ONE, "1"))
    assert not session.stop(ONE)
    assert session.take().reports == (Succeeded(ONE, "1"),)


def cut_off_with_two_proposals() -> Session:
    """The first of them has been sent."""
    session = attached()
    session.accept(ONE)
    session.propose(Proposal(ONE, 1, BATCH))
    session.take()
    session.propose(Proposal(ONE, 2, BATCH))
    session.detach()
    return session


def test_proposal_goes_out_on_every_new_stream_until_it_is_answered() -> None:
    session = cut_off_with_two_proposals()
    session.attach()
    assert session.take().proposals == (Proposal(ONE, 1, BATCH), Proposal(ONE, 2, BATCH))
    assert session.answered(ONE, 1)
    assert not session.answered(ONE, 1)
    session.detach()
    session.attach()
    assert session.take().proposals == (Proposal(ONE, 2, BATCH),)


def test_proposal_that_the_orchestrator_cannot_read_is_not_sent_again() -> None:
    session = cut_off_with_two_proposals()
    assert session.refused("proposed[0]: is no batch") == (Proposal(ONE, 1, BATCH),)
    session.attach()
    assert session.take().proposals == (Proposal(ONE, 2, BATCH),)
    assert not session.answered(ONE, 1)


def test_proposals_of_a_finished_attempt_are_forgotten() -> None:
    session = attached()
    session.accept(ONE)
    session.propose(Proposal(ONE, 1, BATCH))
    session.finish(Stopped(ONE))
    assert session.take().proposals == ()


def test_result_that_the_orchestrator_cannot_read_becomes_a_failure() -> None:
    session = attached()
    for token in (ONE, TWO):
        session.accept(token)
    session.finish(Succeeded(ONE, "bad"))
    session.take()
    session.finish(Succeeded(TWO, "2"))
    session.refused("result_json: is no JSON")
    session.detach()
    session.attach()
    first, second = session.take().reports
    assert isinstance(first, Failed)
    assert first.error.code == "report_refused"
    assert second == Succeeded(TWO, "2")


def test_text_of_a_thread_is_merged_and_threads_stay_apart() -> None:
    session = attached()
    for text in "abc":
        session.stream(ONE, Chunk("t1", text, 1))
        session.stream(ONE, Chunk("t2", text.upper(), 1))
    assert session.take().progress == ((ONE, (Chunk("t1", "abc", 3), Chunk("t2", "ABC", 3))),)


def test_there_is_no_room_when_too_much_text_waits() -> None:
    session = attached()
    for _ in range(MAX_WAITING_BYTES // MAX_CHUNK_CHARACTERS):
        assert session.has_room
        session.stream(ONE, Chunk("t", "x" * MAX_CHUNK_CHARACTERS, 1))
    assert not session.has_room
    session.take()
    assert session.has_room


def test_text_without_a_connection_is_dropped_beyond_the_bound() -> None:
    session = Session(1)
    for _ in range(3):
        session.stream(ONE, Chunk("t", "x" * MAX_WAITING_BYTES, 1))
        assert session.has_room
    assert session.chunks_dropped == 2


def test_text_of_any_length_goes_out_in_pieces_that_the_orchestrator_takes() -> None:
    session = attached()
    session.stream(ONE, Chunk("t", "x" * (2 * MAX_CHUNK + 1), 5))
    ((_, chunks),) = session.take().progress
    assert [(len(chunk.text), chunk.tokens) for chunk in chunks] == [(MAX_CHUNK, 5), (MAX_CHUNK, 0), (1, 0)]


def test_half_of_a_surrogate_pair_ends_no_stream() -> None:
    session = attached()
    session.accept(ONE)
    session.stream(ONE, Chunk("t", "a\ud83d", 1))
    session.finish(Failed(ONE, describe_error("odd", "b\ud83d")))
    frame = frame_to_proto(session.take())
    assert (frame.progress[0].chunks[0].text, frame.finished[0].error.message) == ("a?", "b?")


def test_sizes_are_those_of_bytes() -> None:
    session = attached()
    session.max_frame_bytes = 3000
    for token in (ONE, TWO):
        session.accept(token)
        session.finish(Failed(token, describe_error("odd", "漢" * 400)))
    assert [len(session.take().reports) for _ in range(2)] == [1, 1]
    session.stream(ONE, Chunk("t", "漢" * (MAX_WAITING_BYTES // 3 + 1), 1))
    assert not session.has_room


def test_reports_are_spread_over_frames_of_the_size_that_the_orchestrator_takes() -> None:
    session = attached()
    session.max_frame_bytes = 1000
    for token in (ONE, TWO, THREE):
        session.accept(token)
        session.finish(Succeeded(token, "x", size_bytes=300))
    assert [len(session.take().reports) for _ in range(4)] == [1, 1, 1, 0]


def test_report_larger_than_a_frame_still_goes_alone() -> None:
    session = attached()
    session.max_frame_bytes = 10
    session.accept(ONE)
    session.finish(Succeeded(ONE, "x", size_bytes=300))
    assert len(session.take().reports) == 1


def test_goodbye_waits_for_the_last_report_and_draining_is_repeated_on_a_new_stream() -> None:
    session = attached()
    session.max_frame_bytes = 10
    session.drain()
    for token in (ONE, TWO):
        session.accept(token)
        session.finish(Succeeded(token, "x", size_bytes=300))
    session.leave()
    first, second = session.take(), session.take()
    assert (first.is_draining, first.is_goodbye) == (True, False)
    assert (second.is_draining, second.is_goodbye) == (False, True)
    session.detach()
    session.attach()
    assert session.take().is_draining


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_backoff_is_bounded_and_never_nothing(failures: int, chance: float) -> None:
    backoff = Backoff()
    assert backoff.first_s / 2 <= backoff.delay_s(failures, chance) <= backoff.max_s


Step = tuple[str, int]


@given(st.lists(st.tuples(st.sampled_from(["accept", "finish", "stop", "ack", "take", "break"]), st.integers(1, 5))))
def test_every_accepted_attempt_is_reported_until_acknowledged(steps: list[Step]) -> None:
    session = attached(slots=2)
    owed: dict[FencingToken, None] = {}
    running: set[FencingToken] = set()
    for kind, number in steps:
        token = FencingToken(number)
        match kind:
            case "accept" if token not in owed:
                if session.accept(token):
                    running.add(token)
                owed[token] = None
            case "finish" if token in running:
                running.remove(token)
                session.finish(Succeeded(token, "1"))
            case "stop" if token in owed:
                assert session.stop(token) == (token in running)
            case "ack" if token not in running:
                session.acknowledge([token])
                owed.pop(token, None)
            case "take":
                session.take()
            case "break":
                session.detach()
                session.attach()
            case _:
                continue
        assert set(session.held) == set(owed)
        assert set(session.running) == running
        assert len(running) <= 2
    session.detach()
    session.attach()
    assert {report.fencing_token for report in session.take().reports} == set(owed) - running


@pytest.mark.parametrize("slots", [1, 4096])
def test_a_fresh_session_has_nothing_to_say(slots: int) -> None:
    session = attached(slots)
    assert not session.has_something_to_send
    assert session.take() == Outgoing()


def test_tokens_that_models_wrote_go_with_the_report_also_where_text_was_dropped() -> None:
    session = Session(4)
    session.accept(ONE)
    session.stream(ONE, Chunk("main", "a" * MAX_WAITING_BYTES, 7))
    session.stream(ONE, Chunk("main", "b", 5))
    session.stream(TWO, Chunk("main", "of nobody", 3))
    session.finish(Failed(ONE, describe_error("boom", "it broke")))
    session.attach()
    assert [report.tokens for report in session.take().reports] == [12]
    session.accept(TWO)
    session.finish(Succeeded(TWO, "1"))
    assert [report.tokens for report in session.take().reports] == [0]
