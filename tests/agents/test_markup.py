from hypothesis import given
from hypothesis import strategies as st

from asterism.agents import markup
from asterism.agents.countdown import Board, Move, first_moves
from asterism.agents.markup import Outline

BOARD = Board((4, 6, 8, 3), 24)
words = st.sampled_from([*markup.VOCABULARY[3:30], "2", "3", "4", "6", "8", "12", "24"])


def test_every_word_of_a_prompt_is_in_the_vocabulary() -> None:
    outlines = [Outline(number, move) for number, move in enumerate(first_moves(BOARD), start=1)]
    prompt = f"{markup.fork_prefix(BOARD, outlines)} {markup.thread_opening(outlines[0], (6, 7, 8))}"
    joined = markup.join_opening([(outlines[0], (outlines[1].move,)), (outlines[2], ())])
    assert {*prompt.split(), *joined.split()} <= set(markup.VOCABULARY)


def test_words_of_the_vocabulary_are_distinct() -> None:
    assert len(set(markup.VOCABULARY)) == len(markup.VOCABULARY)


def test_outlines_are_read_and_what_is_wrong_with_them_counted() -> None:
    text = (
        "<Outline> 1 : 6 + 4 = 10 </Outline> <Outline> 2 : 6 + 4 = 10 </Outline> <Outline> 3 : 6 + 4 = 11 </Outline> "
        "<Outline> 4 : 9 + 4 = 13 </Outline> <Outline> </Outline> <Outline> 5 : 8 - 6 = 2 </Outline> <Outline> 6 : 8"
    )
    read = markup.read_outlines(text, first_moves(BOARD))
    assert read.usable == (Move(6, "+", 4, 10), Move(8, "-", 6, 2))
    assert (read.malformed, read.repeated) == (3, 1)


def test_claim_of_a_thread_is_the_move_before_yes_and_the_one_behind() -> None:
    text = "6 8 12 : 12 needs + 12 - 36 * 2 : 8 + 6 = 14 no 8 - 6 = 2 yes 12 * 2 = 24"
    claim = markup.read_thread(text)
    assert claim is not None
    assert claim.moves == (Move(8, "-", 6, 2), Move(12, "*", 2, 24))
    assert markup.struck_out(text, claim).endswith("8 - 6 = 2 no")


def test_thread_without_a_yes_claims_nothing() -> None:
    assert markup.read_thread("6 8 12 : 8 + 6 = 14 no none") is None


def test_claim_of_a_search_begins_with_the_move_it_last_tried() -> None:
    text = "try 8 + 4 = 12 left 3 6 12 : none try 4 * 3 = 12 left 6 8 12 : 8 - 6 = 2 yes 12 * 2 = 24"
    claim = markup.read_search(text)
    assert claim is not None
    assert claim.moves == (Move(4, "*", 3, 12), Move(8, "-", 6, 2), Move(12, "*", 2, 24))


def test_answer_is_read() -> None:
    assert markup.read_answer("2 : 4 * 3 = 12 , 8 - 6 = 2 , 12 * 2 = 24") == (
        Move(4, "*", 3, 12),
        Move(8, "-", 6, 2),
        Move(12, "*", 2, 24),
    )
    assert markup.read_answer("2 : 4 * 3 = 12 , yes") is None
    assert markup.read_answer("") is None


@given(st.lists(words, max_size=60).map(" ".join))
def test_no_text_makes_a_reader_fail(text: str) -> None:
    markup.read_outlines(text, first_moves(BOARD))
    markup.read_answer(text)
    for claim in (markup.read_thread(text), markup.read_search(text)):
        assert claim is None or markup.struck_out(text, claim)
