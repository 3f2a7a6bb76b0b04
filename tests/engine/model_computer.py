"""A computer without numbers: each position of a block holds the tokens it was computed from, and reads check it."""

import itertools
from collections import Counter
from collections.abc import Sequence

from asterism.workers.engine.batch_sequence import BatchSequence, ScheduledStep
from asterism.workers.engine.scheduler import Scheduler
from asterism.workers.engine.step import BLOCK_TOKENS, Chunk

END = 9
History = tuple[int, ...]


def next_token(history: Sequence[int], salt: int) -> int:
    """A model: the next token depends on all before it and on the salt; now and then, from salt 0 up, it is the end."""
    return hash((tuple(history), salt)) % (END + 1 if salt >= 0 else END)


def expected_answer(prompt: Sequence[int], salt: int, max_tokens: int, context_tokens: int) -> list[int]:
    """The same model without blocks, batches or neighbours."""
    history = list(prompt)
    while len(history) - len(prompt) < max_tokens and len(history) < context_tokens:
        history.append(next_token(history, salt))
        if history[-1] == END:
            break
    return history[len(prompt) :]


class ModelComputer:
    """What a real computer does with a step; everything that the seam promises is checked."""

    def __init__(self, blocks: int) -> None:
        self.memory: list[list[History | None]] = [[None] * BLOCK_TOKENS for _ in range(blocks)]
        self.computed: Counter[History] = Counter()
        """How often the last position of each history was computed."""
        self.copied_tokens = 0

    def compute(self, scheduled: ScheduledStep) -> list[History]:
        """The histories of the chunks that sample."""
        step = scheduled.step
        assert step.chunks
        for copy in step.copies:
            assert copy.source != copy.target
            assert 1 <= copy.tokens < BLOCK_TOKENS, "whole blocks are shared and not copied"
            source = self.memory[copy.source][: copy.tokens]
            assert None not in source
            self.memory[copy.target] = [*source, *[None] * (BLOCK_TOKENS - copy.tokens)]
            self.copied_tokens += copy.tokens
        written = [block for chunk in step.chunks for block in written_blocks(chunk)]
        assert len(written) == len(set(written)), "two chunks write to a block"
        read = {block for chunk in step.chunks for block in chunk.blocks[: chunk.start // BLOCK_TOKENS]}
        assert not read & set(written), "a chunk writes to a block that another one reads"
        histories = [self._read(chunk) for chunk in step.chunks]
        for sequence, history in zip(scheduled.sequences, histories, strict=True):
            assert list(history) == sequence.token_ids[: len(history)], "computed on another sequence's tokens"
        sampled = []
        for chunk, history in zip(step.chunks, histories, strict=True):
            self._write(chunk, history)
            if chunk.samples:
                sampled.append((*history, *chunk.token_ids))
        self._check_runs(step.chunks, set(written))
        return sampled

    def _read(self, chunk: Chunk) -> History:
        assert chunk.token_ids
        assert len(chunk.blocks) == -(-(chunk.start + len(chunk.token_ids)) // BLOCK_TOKENS)
        assert len(set(chunk.blocks)) == len(chunk.blocks)
        cells = [cell for block in chunk.blocks for cell in self.memory[block]][: chunk.start]
        history: History = cells[-1] or () if cells else ()
        assert cells == [history[: size + 1] for size in range(chunk.start)], "reads what was not computed for it"
        return history

    def _write(self, chunk: Chunk, history: History) -> None:
        for at, token_id in enumerate(chunk.token_ids, chunk.start):
            history = (*history, token_id)
            block = self.memory[chunk.blocks[at // BLOCK_TOKENS]]
            block[at % BLOCK_TOKENS :] = [history, *[None] * (BLOCK_TOKENS - 1 - at % BLOCK_TOKENS)]
            self.computed[history] += 1

    def _check_runs(self, chunks: Sequence[Chunk], written: set[int]) -> None:
        """Chunks with the same leading blocks are neighbours, and say so."""
        before: Sequence[int] = ()
        for chunk in chunks:
            assert chunk.shared_blocks == common_blocks(before, chunk.blocks)
            assert not written & set(chunk.blocks[: chunk.shared_blocks])
            before = chunk.blocks
        ordered = sorted(list(chunk.blocks) for chunk in chunks)
        best = sum(common_blocks(first, second) for first, second in itertools.pairwise(ordered))
        assert sum(chunk.shared_blocks for chunk in chunks) == best

    @property
    def repeated_blocks(self) -> int:
        """Whole blocks all of whose positions were computed more than once."""
        ends = [history for history in self.computed if len(history) % BLOCK_TOKENS == 0]
        return sum(
            all(self.computed[history[: len(history) - back]] > 1 for back in range(BLOCK_TOKENS)) for history in ends
        )


def written_blocks(chunk: Chunk) -> Sequence[int]:
    return chunk.blocks[chunk.start // BLOCK_TOKENS :]


def common_blocks(first: Sequence[int], second: Sequence[int]) -> int:
    count = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        count += 1
    return count


class Run:
    """A scheduler and a model computer; each sequence's salt is in `salts`, three of seven never end by themselves."""

    def __init__(self, *, blocks: int, max_sequences: int, context_tokens: int, prefill_tokens: int) -> None:
        self.scheduler = Scheduler(
            blocks=blocks,
            max_sequences=max_sequences,
            context_tokens=context_tokens,
            prefill_tokens=prefill_tokens,
            end_ids={END},
        )
        self.computer = ModelComputer(blocks)
        self.context_tokens = context_tokens
        self.salts: dict[str, int] = {}
        self.live: dict[str, BatchSequence] = {}
        self.prompts: dict[str, list[int]] = {}
        self.keeps: dict[str, float] = {}
        self.now = 0.0

    def submit(
        self, prompts: Sequence[Sequence[int]], *, max_tokens: int = 1, priority: int = 0, keep_s: float = 0.0
    ) -> list[BatchSequence]:
        sequences = []
        for prompt in prompts:
            name = f"{len(self.salts)}"
            self.salts[name] = len(self.salts) % 7 - 3
            sequence = BatchSequence(name, list(prompt), max_tokens, priority)
            self.live[name], self.prompts[name], self.keeps[name] = sequence, list(prompt), keep_s
            sequences.append(sequence)
        self.scheduler.submit(sequences)
        return sequences

    def step(self) -> ScheduledStep | None:
        """One step, None when there was nothing to do."""
        scheduled = self.scheduler.next_step(self.now)
        if scheduled is not None:
            self.carry_out(scheduled)
        return scheduled

    def carry_out(self, scheduled: ScheduledStep) -> None:
        """Computes a step; sequences that end with it are taken out, their answers checked."""
        sampling = [
            sequence
            for sequence, chunk in zip(scheduled.sequences, scheduled.step.chunks, strict=True)
            if chunk.samples
        ]
        histories = self.computer.compute(scheduled)
        chosen = [
            next_token(history, self.salts[sequence.request_id])
            for sequence, history in zip(sampling, histories, strict=True)
        ]
        for produced in self.scheduler.advance(scheduled, chosen):
            if produced.finish is not None:
                self.end(produced.sequence.request_id, is_whole=True)

    def end(self, name: str, *, is_whole: bool) -> None:
        keep_s = self.keeps[name]
        sequence = self.scheduler.finish(name, keep_until=self.now + keep_s if keep_s else None)
        assert sequence is not None
        assert sequence is self.live.pop(name)
        assert self.scheduler.finish(name) is None
        prompt = self.prompts[name]
        answer = expected_answer(prompt, self.salts[name], sequence.max_tokens, self.context_tokens)
        generated = sequence.generated_tokens
        assert sequence.token_ids == prompt + (answer if is_whole else answer[:generated])

    def run(self) -> int:
        """Until nothing is live; gives the number of steps."""
        steps = 0
        while self.step() is not None:
            steps += 1
            assert steps < 10_000
        assert not self.live
        return steps
