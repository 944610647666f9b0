"""A finished run made of nothing but its shards: random words in texts of the usual lengths, random scores."""

from __future__ import annotations

import asyncio
import random
import string
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from ilf_common.artifacts import ArtifactStore
from services.orchestrator.adapters.database import open_database, prepare_database
from services.orchestrator.adapters.shard_files import ShardFiles
from services.orchestrator.adapters.sql_store import SqlRunStore
from services.orchestrator.models import RunSpec
from services.orchestrator.rows import INPUT, Failure, Row, Score, to_columns
from services.orchestrator.run import Run, RunState
from services.orchestrator.shards import ShardId, ShardRecord, shard_count

RUN = "bench"
STAGES = (INPUT, "generate", "feedback", "refine", "rank", "select")
CONTEXT, OUTPUT, FEEDBACK, REFINEMENTS, JUDGES = 400, 150, 100, 5, 5
RARE_SHARE = 1e-5
RARE_WORD = "xylophonist"
_FAILED = Failure("refine", "InternalError", "NO_TEXT", "no text")
_PROCESSES = 2


class Words:
    """Texts cut out of a long one, whose words are as frequent as in a language (Zipf's law)."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        draw = random.Random(0)
        words = ["".join(draw.choices(string.ascii_lowercase, k=draw.randint(2, 10))) for _ in range(20_000)]
        self._text = " ".join(self.random.choices(words, [1 / (rank + 1) for rank in range(len(words))], k=1_000_000))

    def text(self, characters: int) -> str:
        """So many characters."""
        begin = self.random.randrange(len(self._text) - characters)
        return self._text[begin : begin + characters]

    def row(self, number: int) -> Row:
        """One row with all that a run finds out about it; one in a hundred failed."""
        chance = self.random.random
        context = self.text(CONTEXT)
        if chance() < RARE_SHARE:
            context = f"{RARE_WORD.title()} {context}"
        row = Row(f"item-{number}", context, self.text(OUTPUT), self.text(FEEDBACK))
        if chance() < 0.01:
            return Row(row.item_id, row.context, row.initial_output, row.feedback, failure=_FAILED)
        scores = tuple(self._score() for _ in range(REFINEMENTS))
        chosen = max(range(REFINEMENTS), key=lambda index: scores[index].score)
        return Row(
            row.item_id,
            row.context,
            row.initial_output,
            row.feedback,
            refinements=tuple(self.text(self.random.randint(OUTPUT // 2, OUTPUT * 3 // 2)) for _ in range(REFINEMENTS)),
            scores=scores,
            weights=tuple(float(index == chosen) for index in range(REFINEMENTS)),
            chosen_index=chosen,
        )

    def _score(self) -> Score:
        chance = self.random.random
        judges = tuple((f"judge-{index}", chance(), chance() / 10) for index in range(JUDGES))
        return Score(sum(score for _, score, _ in judges) / JUDGES, chance() / 3, chance() / 10, judges)


async def make_run(folder: Path, rows: int, shard_rows: int) -> None:
    """Writes the run into `folder/store` and `folder/state`, as the orchestrator would have left it, once."""
    if (folder / "state").exists():
        return
    with ProcessPoolExecutor(_PROCESSES) as pool:
        for part in range(_PROCESSES):
            pool.submit(_make_shards, folder / "store", rows, shard_rows, part)
    shards = ShardFiles(ArtifactStore(str(folder / "store")))
    await shards.finish(ShardId(RUN, 1, INPUT, 0), rows, shard_rows)
    (folder / "state").mkdir()
    engine = open_database(f"sqlite:///{folder / 'state' / 'orchestrator.sqlite'}")
    await prepare_database(engine, 0)
    spec = RunSpec(iterations=1, shard_rows=shard_rows, policy="base")
    run = Run(RUN, spec, RunState.SUCCEEDED, datetime.now(UTC), request_id=RUN, policy="base", generation=1)
    await SqlRunStore(engine).create(run, "")
    engine.dispose()


def _make_shards(store: Path, rows: int, shard_rows: int, part: int) -> None:
    asyncio.run(_publish(ShardFiles(ArtifactStore(str(store))), rows, shard_rows, part))


async def _publish(shards: ShardFiles, rows: int, shard_rows: int, part: int) -> None:
    words = Words(part)
    for index in range(part, shard_count(rows, shard_rows), _PROCESSES):
        made = [words.row(number) for number in range(index * shard_rows, min(rows, (index + 1) * shard_rows))]
        for stage in STAGES:
            record = ShardRecord("key", {"input": "of a benchmark"}, "", 0, len(made), 0, generation=1)
            await shards.publish(ShardId(RUN, 1, stage, index), to_columns(stage, made), record)
