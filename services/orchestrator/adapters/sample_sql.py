"""The statements of the sample index. Values are parameters, always; names come from the tables below alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import duckdb
import pyarrow as pa

from services.orchestrator.ports import FoundSamples
from services.orchestrator.sample_query import SampleFilter, SampleOrder, SamplePlace, SampleQuery

LAYOUT = 1
"""Raised when the tables change: files of another layout are not read."""

_TABLES = """
CREATE TABLE IF NOT EXISTS shards (shard BIGINT PRIMARY KEY, version VARCHAR, generation BIGINT);
CREATE TABLE IF NOT EXISTS samples (
    shard BIGINT, position BIGINT, item_id VARCHAR, failed BOOLEAN,
    score DOUBLE, spread DOUBLE, missing_mass DOUBLE, length BIGINT, text VARCHAR
);
"""
# Before anything is selected, as in a preview, the highest score counts as chosen, the first of equals. The texts are
# kept once, in lower case, with a character between them that nobody types.
_INSERT = """
INSERT INTO samples
SELECT shard, position, item_id, failed,
    CASE WHEN isfinite(best.score) THEN best.score END,
    CASE WHEN isfinite(best.spread) THEN best.spread END,
    CASE WHEN isfinite(best.missing_mass) THEN best.missing_mass END,
    length(refinements[chosen]),
    lower(concat_ws(chr(31), context, initial_output, feedback, array_to_string(refinements, chr(31))))
FROM (
    SELECT *, scores[chosen] AS best FROM (
        SELECT *, CASE
            WHEN failed OR chosen_index < 0 THEN NULL
            WHEN chosen_index >= 0 THEN chosen_index + 1
            ELSE list_position(list_transform(scores, lambda one: one.score),
                               list_max(list_transform(scores, lambda one: one.score)))
        END AS chosen FROM incoming
    )
)
"""
_VALUES: Mapping[SampleOrder, str] = {
    SampleOrder.UNSPECIFIED: "NULL",
    SampleOrder.DATASET: "NULL",
    SampleOrder.SCORE: "score",
    SampleOrder.SPREAD: "spread",
    SampleOrder.MISSING_MASS: "missing_mass",
    SampleOrder.LENGTH: "length",
}
_CONDITIONS: Mapping[str, str] = {
    "text": "contains(text, lower($text))",
    "min_score": "score >= $min_score",
    "max_score": "score <= $max_score",
    "min_spread": "spread >= $min_spread",
    "max_spread": "spread <= $max_spread",
    "min_length": "length >= $min_length",
    "max_length": "length <= $max_length",
    "failed": "failed = $failed",
    "item_ids": "item_id IN (SELECT unnest($item_ids))",
}
_UNSET = ("", (), None)


def prepare(database: duckdb.DuckDBPyConnection) -> None:
    """Makes the tables where they are missing."""
    database.execute(_TABLES)


def versions(database: duckdb.DuckDBPyConnection) -> dict[int, tuple[str, int]]:
    """Version of each shard that was taken in, and the run's generation that it is settled in."""
    rows = database.execute("SELECT shard, version, generation FROM shards").fetchall()
    return {shard: (version, generation) for shard, version, generation in rows}


def settled(database: duckdb.DuckDBPyConnection, generation: int) -> int:
    """How many shards stay what they are until the run works anew."""
    counted = database.execute("SELECT count(*) FROM shards WHERE generation = ?", [generation]).fetchall()
    return int(counted[0][0])


def replace(
    database: duckdb.DuckDBPyConnection,
    incoming: pa.Table,
    shards: Sequence[tuple[int, str, int]],
    changed: Sequence[int],
) -> None:
    """Puts the rows of changed shards in the place of their old ones, and remembers what all `shards` are now."""
    database.register("incoming", incoming)
    database.begin()
    database.execute("DELETE FROM samples WHERE shard IN (SELECT unnest($changed))", {"changed": list(changed)})
    database.execute(_INSERT)
    database.executemany("INSERT OR REPLACE INTO shards VALUES (?, ?, ?)", [list(one) for one in shards])
    database.commit()
    database.unregister("incoming")


def find(
    database: duckdb.DuckDBPyConnection, query: SampleQuery, after: SamplePlace | None, limit: int
) -> FoundSamples:
    """The first rows of a query, or the first ones after a place, and how many it has."""
    conditions, values = _where(query.where)
    database.execute(
        f"CREATE TEMP TABLE found AS SELECT shard, position, {_VALUES[query.order_by]}::DOUBLE AS value "
        f"FROM samples WHERE {conditions}",
        values,
    )
    total = database.execute("SELECT count(*) FROM found").fetchall()[0][0]
    rest, place = _after(query, after)
    by_value = "DESC" if query.descending else "ASC"
    by_place = "DESC" if query.descending and query.by_dataset else "ASC"
    rows = database.execute(
        f"SELECT shard, position, value FROM found WHERE {rest} "
        f"ORDER BY value {by_value} NULLS LAST, shard {by_place}, position {by_place} LIMIT $limit",
        {**place, "limit": limit},
    ).fetchall()
    return FoundSamples(tuple(SamplePlace(*row) for row in rows), total)


def _where(where: SampleFilter) -> tuple[str, dict[str, object]]:
    values = {name: getattr(where, name) for name in _CONDITIONS}
    given = {name: value for name, value in values.items() if value not in _UNSET}
    return " AND ".join(["true", *(_CONDITIONS[name] for name in given)]), given


def _after(query: SampleQuery, after: SamplePlace | None) -> tuple[str, dict[str, object]]:
    """Which of the found rows come after a place."""
    if after is None:
        return "true", {}
    later = f"(shard, position) {'<' if query.descending and query.by_dataset else '>'} ($shard, $position)"
    place: dict[str, object] = {"shard": after.shard, "position": after.position}
    if after.value is None:
        return f"value IS NULL AND {later}", place
    beyond = "value < $value" if query.descending else "value > $value"
    return f"(value IS NULL OR {beyond} OR (value = $value AND {later}))", {**place, "value": after.value}
