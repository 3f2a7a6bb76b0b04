import pytest
from hypothesis import given
from hypothesis import strategies as st

from asterism.agents import markup
from asterism.agents.countdown import Board, Move, first_moves
from asterism.agents.markup import Outline
from asterism.agents.parts import Part, PartEnd, find_end

BOARD = Board((4, 6, 8, 3), 24)
words = st.sampled_from([*markup.VOCABULARY[3:40], "2", "3", "4", "6", "8", "12", "24"])


def test_every_word_of_a_prompt_is_in_the_vocabulary() -> None:
    moves = first_moves(BOARD)
    opening = markup.thread_opening(Outline(1, moves[0]), (6, 7, 8), BOARD.target)
    prompt = f"{markup.fork_prefix(BOARD, moves)} {opening} {markup.thread_brief(moves[1])}"
    assert set(prompt.split()) <= set(markup.VOCABULARY)


def test_words_of_the_vocabulary_are_distinct() -> None:
    assert len(set(markup.VOCABULARY)) == len(markup.VOCABULARY)


def test_outline_has_as_many_words_as_are_budgeted_for_it() -> None:
    assert len(markup.outline_text(first_moves(BOARD)[0]).split()) == markup.OUTLINE_TOKENS


def test_claim_of_a_thread_is_the_move_before_yes_and_the_one_behind() -> None:
    text = "with 12 add 12 from 36 times 2 into 288 : 8 6 + 14 no - 2 yes 12 * 2 = 24"
    claim = markup.read_thread(text)
    assert claim is not None
    assert claim.moves == (Move(8, "-", 6, 2), Move(12, "*", 2, 24))
    assert markup.struck_out(text, claim).endswith("+ 14 no - 2 no")


def test_second_move_is_read_from_the_last_round() -> None:
    claim = markup.read_thread("with 12 add 12 : 8 6 + 14 - 2 with 8 add 16 : 12 6 + 18 / 2 yes 8 * 2 = 24")
    assert claim is not None
    assert claim.moves == (Move(12, "/", 6, 2), Move(8, "*", 2, 24))


@pytest.mark.parametrize("text", ["yes", "yes 12 * 2 = 24", ": 8 yes 1", "8 6 - 2 yes 12 * 2 = 24", ": - - - - yes"])
def test_claim_that_cannot_be_read_has_fewer_than_two_moves(text: str) -> None:
    claim = markup.read_thread(text)
    assert claim is not None
    assert len(claim.moves) < 2


def test_thread_without_a_yes_claims_nothing() -> None:
    assert markup.read_thread("with 12 add 12 : 8 6 + 14 no none") is None


def test_claim_of_a_search_begins_with_the_move_it_last_tried() -> None:
    text = (
        "try 8 + 4 = 12 left 3 6 12 -> 24 : none try 4 * 3 = 12 left 6 8 12 -> 24 : with 12 times 2 : 8 6 - 2 yes "
        "12 * 2 = 24"
    )
    claim = markup.read_search(text)
    assert claim is not None
    assert claim.first == Move(4, "*", 3, 12)
    assert claim.moves == (Move(8, "-", 6, 2), Move(12, "*", 2, 24))


def test_claim_through_a_part_names_it_and_how_it_ends() -> None:
    claim = markup.read_search(
        "try 11 / 18 = part left 3 18 part -> 65 : with 18 times 65 : 3 18 * 54 + 65 yes 3 + part , 18 * part"
    )
    assert claim is not None
    assert claim.first == Part(11, 18)
    assert claim.last == PartEnd(3, "+", False, 18, "*")
    assert PartEnd(3, "+", False, 18, "*").expression(Part(11, 18)) == "18 * (3 + (11 / 18))"


@pytest.mark.parametrize(
    "text", ["", "3 + part , 18 *", "3 * part , 18 * part", "part + part , 18 * part", "3 + 4 , 18 * part"]
)
def test_end_of_a_part_that_cannot_be_read_is_none(text: str) -> None:
    assert find_end(text.split()) is None


def test_search_of_three_numbers_claims_without_a_try() -> None:
    claim = markup.read_search("left 3 8 10 -> 24 : with 3 times 8 : 10 8 - 2 yes 3 * 8 = 24")
    assert claim is not None
    assert claim.moves == (Move(10, "-", 8, 2), Move(3, "*", 8, 24))


@pytest.mark.parametrize(
    ("text", "number"), [("3", 3), ("3 </Answer>", None), ("none", None), ("", None), ("-1", None)]
)
def test_winner_of_a_join_is_one_number(text: str, number: int | None) -> None:
    assert markup.read_winner(text) == number


def test_direct_answer_is_read() -> None:
    claim = markup.read_direct("4 * 3 = 12 , 8 - 6 = 2 , 12 * 2 = 24")
    assert claim is not None
    assert (claim.first, *claim.moves) == (Move(4, "*", 3, 12), Move(8, "-", 6, 2), Move(12, "*", 2, 24))
    assert markup.read_direct("4 * 3 = 12 , yes") is None


@given(st.lists(words, max_size=40).map(" ".join))
def test_whatever_a_model_writes_is_read_without_an_error(text: str) -> None:
    for claim in (markup.read_thread(text), markup.read_search(text)):
        assert claim is None or markup.struck_out(text, claim).endswith(markup.NO)
    markup.read_direct(text)
    markup.read_winner(text)
