"""Schemes whose every mark is one word, judges by words, and a way to run a reasoning program in lockstep."""

from asterism.agents.accounting import Accounting, Limits
from asterism.agents.asking import Asking
from asterism.agents.asks import Program, ProgramResult, Sampling
from asterism.agents.outlined import Outlined
from asterism.agents.policies import All, JoinPolicy
from asterism.agents.reasoning import Ended, Judgement, Reasoned, Reasoning, Task, unjudged
from asterism.agents.running import reason
from asterism.agents.scheme import Opening, Scheme
from asterism.agents.spawned import Spawned
from tests.agents.driver import drive
from tests.agents.lockstep import Lockstep, Writer

OUTLINED = Outlined(
    opening="{thread_opens} {outline} :",
    entry="{entry_opens} {outline} {entry_closes}",
    closes_block=True,
    sequential_opens="<Search>",
    glue=" ",
    bannable=frozenset({"<Thread>", "<Parallel>"}),
)
SPAWNED = Spawned(
    entry="{entry_opens} {outline} {entry_closes}",
    glue=" ",
    sequential_opens="<Search>",
    bannable=frozenset({"<Result>", "</Result>", "<Spawn>"}),
)
SAMPLING = Sampling(max_tokens=0, seed=5)


def by_words(ended: Ended) -> Judgement:
    """`right` is verified; a text that ends with `wrong` claims something false and may go on behind `struck`."""
    words = ended.text.split()
    if ended.winner is not None:
        return Judgement("verified", brief=f"below: {ended.winner.brief}")
    if "right" in words:
        return Judgement("verified", brief="won")
    if words[-1:] == ["wrong"]:
        return Judgement("claimed_false", resume=" ".join([*words[:-1], "struck"]))
    return Judgement("truncated" if ended.is_cut_off else "refuted", brief="none")


VERIFIER = Task(judge=by_words)
UNJUDGED = Task(judge=unjudged)


def declared(
    scheme: Scheme = OUTLINED,
    policy: JoinPolicy | None = None,
    limits: Limits | None = None,
    *,
    eager: bool = True,
    incremental: bool = False,
    stop: tuple[str, ...] = ("</Answer>",),
    opens_with: str = "",
    has_tail: bool = True,
) -> Reasoning:
    return Reasoning(
        scheme=scheme,
        sampling=SAMPLING,
        policy=All() if policy is None else policy,
        limits=Limits() if limits is None else limits,
        eager=eager,
        incremental=incremental,
        stop=stop,
        opens_with=opens_with,
        has_tail=has_tail,
    )


def run(
    write: Writer,
    reasoning: Reasoning,
    task: Task = UNJUDGED,
    *,
    slots: int = 1_000,
    given: tuple[Opening, ...] = (),
) -> tuple[Reasoned, Accounting, Lockstep]:
    """The answer to `question`, what it cost, and the engine that it ran on."""
    spent = Accounting()
    engine = Lockstep(write, slots=slots)
    found: list[Reasoned] = []

    def program() -> Program:
        asking: Asking[Reasoned] = reason("question", reasoning, task, spent, given=given)
        found.append((yield from asking))
        return ProgramResult(None)

    drive(program(), engine.answer, most_asks=20_000)
    return found[0], spent, engine
