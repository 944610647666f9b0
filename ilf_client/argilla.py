"""Feedback as the records that Argilla imports and exports (`Dataset.records.to_json`), and back.

A record is one item of a run: fields `context` and `initial_output`, the question `feedback`, and in its metadata the
run, the iteration and the item. Argilla knows people by UUIDs: an annotator's follows from the name.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from ilf_client.models.tasks import FeedbackTask, TaskState
from ilf_common.errors import InvalidArgumentError

QUESTION = "feedback"
_ANNOTATORS = uuid.UUID("5d2f0c1e-6a0b-4f5e-9a59-3f4c8c1f7b10")

Record = dict[str, Any]
Item = tuple[int, str]


def user_id(annotator: str) -> str:
    """The UUID of an annotator."""
    return str(uuid.uuid5(_ANNOTATORS, annotator))


def records(tasks: Iterable[FeedbackTask]) -> list[Record]:
    """One record an item, with a response of each person who has answered."""
    items: dict[tuple[str, int, str], list[FeedbackTask]] = defaultdict(list)
    for task in tasks:
        items[(task.name.rsplit("/", 2)[0], task.iteration, task.item_id)].append(task)
    return [_record(run, iteration, item_id, slots) for (run, iteration, item_id), slots in items.items()]


def _record(run: str, iteration: int, item_id: str, slots: Sequence[FeedbackTask]) -> Record:
    done = [task for task in slots if task.state is TaskState.DONE]
    answers = [{"value": task.feedback, "user_id": user_id(task.annotator)} for task in done]
    return {
        "id": f"{run}/{iteration}/{item_id}",
        "fields": {"context": slots[0].context, "initial_output": slots[0].initial_output},
        "metadata": {"run": run, "iteration": iteration, "item_id": item_id},
        "suggestions": {},
        "responses": {QUESTION: answers} if answers else {},
        "vectors": {},
        "status": "completed" if len(done) == len(slots) else "pending",
    }


def responses(content: object) -> dict[str, dict[Item, str]]:
    """The responses in a file's records, by user id and item.

    Raises:
        InvalidArgumentError: It is no list of such records; the first wrong one is named.
    """
    if not isinstance(content, list):
        raise InvalidArgumentError.of("records", "must be a JSON list, as Dataset.records.to_json writes it")
    found: dict[str, dict[Item, str]] = defaultdict(dict)
    for number, record in enumerate(content, 1):
        try:
            metadata = record["metadata"]
            item = (int(metadata["iteration"]), str(metadata["item_id"]))
            for response in (record.get("responses") or {}).get(QUESTION, []):
                found[str(response["user_id"])][item] = str(response["value"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidArgumentError.of(
                "records",
                f"record {number} lacks metadata (iteration, item_id) or responses ({QUESTION}: value, user_id)",
            ) from error
    return found
