"""A board, what a model says about it where all goes well, and texts of threads that win, lose and lie."""

from asterism.agents.asks import Sampling
from asterism.agents.countdown import Board

NUMBERS = [4, 6, 8, 3]
BOARD = Board((4, 6, 8, 3), 24)
LIST = ("8 + 6 = 14", "4 * 3 = 12", "8 - 3 = 5")
WINNER = "with 12 add 12 from 36 times 2 into 288 : 8 6 + 14 - 2 yes 12 * 2 = 24 </Thread>"
LOSER = "with 14 add 10 from 38 into 336 : 4 3 + 7 - 1 none </Thread>"
LIE = "with 14 add 10 from 38 into 336 : 4 3 + 7 yes 14 + 7 = 24 </Thread>"
OF_WINNER = "4 * 3 = 12 left 6 8 12 -> 24 :"


def rest_of_list(prompt: str, *moves: str) -> str:
    """How a parent goes on that lists `moves`, wherever it was stopped."""
    said = prompt.count("<Outline>")
    return " ".join((*(f"<Outline> {move} </Outline>" for move in moves[said:]), "</Outlines>"))


def good_model(prompt: str, sampling: Sampling) -> str:
    if prompt.endswith("<Answer>"):
        return "2 </Answer> <end>"
    if "<Thread>" not in prompt:
        return rest_of_list(prompt, *LIST)
    return WINNER if prompt.endswith(OF_WINNER) else LOSER
