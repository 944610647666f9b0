"""`helm test`: one refinement, one ranking, one score and one run of two rows, as any client makes them."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

from ilf_client import Client, Endpoints, Security
from ilf_client.models.runs import RunState
from ilf_client.models.specs import (
    DatasetSpec,
    EvaluateStage,
    FeedbackSource,
    FeedbackStage,
    GenerateStage,
    OutputSource,
    RefineStage,
    RunSpec,
)
from ilf_common.templates import PromptTemplate

MODEL = os.environ["CHECK_MODEL"]
SECONDS = float(os.environ["CHECK_SECONDS"])
TRAIN = os.environ["CHECK_TRAINING"] == "true"
REWARD = os.environ["CHECK_REWARD"] == "true"
ROWS = [
    {
        "id": f"check-{number}",
        "context": f"The {animal} sleeps in the warm sun.",
        "initial_output": f"A {animal} runs.",
        "feedback": "It sleeps.",
    }
    for number, animal in enumerate(("cat", "dog"))
]


BEGAN = time.monotonic()


def left() -> float:
    """Seconds that are left."""
    return max(1.0, SECONDS - (time.monotonic() - BEGAN))


def say(text: str) -> None:
    """One line of the test's answer."""
    print(f"{time.monotonic() - BEGAN:6.1f} s  {text}", flush=True)  # noqa: T201


def main() -> int:
    """Answers the exit code."""
    with Client(Endpoints.from_environment(), security=Security.from_environment()) as client:
        say("a sleeping pool takes a while to wake up")
        context, output, feedback = (ROWS[0][key] for key in ("context", "initial_output", "feedback"))
        refined = client.refine(MODEL, context, output, feedback, timeout=left())
        say(f"refine: {len(refined.refinements)} refinements by {refined.model_version}")
        ranked = client.rank(context, output, feedback, [one.text for one in refined.refinements], timeout=left())
        say(f"rank: number {ranked.chosen_index} of {len(ranked.scores)}")
        models = list(client.reward.list(timeout=left())) if REWARD else []
        if models:
            score = client.reward.score(models[0].name, context, output, timeout=left()).reward
            say(f"score: {score:.3f} by {models[0].name}")
        else:
            score = client.score_text(MODEL, context, output, timeout=left()).logprob
            say(f"score: log-probability {score:.3f} (no reward model is loaded)")
        return _run(client)


def _run(client: Client) -> int:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "check.jsonl")
        file.write_text("".join(f"{json.dumps(row)}\n" for row in ROWS), encoding="utf-8")
        dataset = client.data.push(file, timeout=left())
    spec = RunSpec(
        dataset=DatasetSpec(train_uri=dataset.uri),
        policy=MODEL,
        generate=GenerateStage(source=OutputSource.COLUMN, template=PromptTemplate("check", "{context}")),
        feedback=FeedbackStage(source=FeedbackSource.COLUMN),
        refine=RefineStage(refiner=MODEL),
        evaluate=EvaluateStage(disabled=True),
        preview_rows=0 if TRAIN else len(ROWS),
    )
    name = client.runs.create(spec, timeout=60).name
    say(f"run: {name}")
    seen = None
    for run in client.runs.watch(name, timeout=left()):
        state = (run.state.value, run.waiting.reason if run.waiting else "")
        if state != seen:
            say(f"run: {' '.join(state)}")
            seen = state
    run = client.runs.get(name)
    if run.state is not RunState.SUCCEEDED:
        say(f"run: {run.error.message if run.error else 'not finished'}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
