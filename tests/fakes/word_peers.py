"""Stand-ins that do the word-removal task by rule, instantly: for pictures of the console with texts that make sense.

`python -m tests.fakes.word_peers --store DIR --port PORT` serves until SIGTERM.
"""

from __future__ import annotations

import random
from typing import Any

from ilf.plugin.v1 import plugin_service_pb2 as plugin
from ilf.ranking.v1 import ranking_service_pb2 as ranking
from ilf.refinement.v1 import refinement_service_pb2 as refinement

from examples.word_removal.program import HIDDEN_WORDS, exact_match, feedback
from examples.word_removal.task import context_sentence, remove_words, words_of
from tests.fakes import console_peers, peers

NEVER, AT_EACH_ITERATION = 0.0, 0.45


class Refinement(console_peers.Refinement):
    """A policy that leaves more of the hidden words out at each iteration; a refiner that mostly does as it is told."""

    async def BatchGenerate(self, request: Any, context: Any) -> Any:
        _, _, iteration = request.model.partition("/it-")
        share = int(iteration) * AT_EACH_ITERATION if iteration else NEVER
        outcomes = []
        for item in request.items:
            outcome = refinement.GenerateOutcome(item_id=item.item_id)
            for sample in range(max(request.sampling.n, 1)):
                rng = random.Random(item.seed + sample)
                gone = [word for word in sorted(HIDDEN_WORDS) if rng.random() < share]
                outcome.result.outputs.add(text=remove_words(context_sentence(item.context), gone), token_count=12)
            outcome.result.usage.prompt_tokens, outcome.result.usage.completion_tokens = 18, 12
            outcomes.append(outcome)
        async for message in peers.in_messages(outcomes, refinement.BatchGenerateResponse):
            yield message

    async def BatchRefine(self, request: Any, context: Any) -> Any:
        outcomes = []
        for item in request.items:
            outcome = refinement.RefineOutcome(item_id=item.item_id)
            named = [word for word in words_of(item.feedback) if word in words_of(item.initial_output)]
            for sample in range(request.sampling.n):
                rng = random.Random(item.seed + sample)
                gone = [word for word in named if rng.random() < 0.7]
                gone += [word for word in words_of(item.initial_output)[3:-1] if rng.random() < 0.08]
                outcome.result.refinements.add(text=remove_words(item.initial_output, gone), token_count=10)
            outcome.result.usage.prompt_tokens, outcome.result.usage.completion_tokens = 46, 50
            outcomes.append(outcome)
        async for message in peers.in_messages(outcomes, refinement.BatchRefineResponse):
            yield message


class Ranking(console_peers.Ranking):
    """Judges that see most of what is left and of what should have stayed."""

    async def BatchRank(self, request: Any, context: Any) -> Any:
        outcomes = []
        for item in request.items:
            outcome = ranking.RankOutcome(item_id=item.item_id)
            wanted = set(words_of(remove_words(item.initial_output, words_of(item.feedback))))
            for candidate in item.candidates:
                wrong = len(wanted ^ set(words_of(candidate)))
                self._judge(outcome.result.scores.add(), candidate, 0.92 * 0.55**wrong)
            outcomes.append(outcome)
        async for message in peers.in_messages(outcomes, ranking.BatchRankResponse):
            yield message

    def _judge(self, score: Any, candidate: str, fit: float) -> None:
        for number in range(self.peers.judges):
            rng = random.Random(f"{candidate} {number}")
            said = min(0.99, max(0.01, fit + rng.gauss(0, 0.09)))
            score.judge_scores.add(judge=f"judge-{number + 1}", score=said, missing_mass=0.04 * rng.random())
        said_by_all = [one.score for one in score.judge_scores]
        score.score = sum(said_by_all) / len(said_by_all)
        score.spread = (sum((one - score.score) ** 2 for one in said_by_all) / len(said_by_all)) ** 0.5
        score.missing_mass = sum(one.missing_mass for one in score.judge_scores) / len(said_by_all)


class Plugin(peers.PluginStandIn):
    """The demo's program."""

    async def GiveFeedback(self, request: Any, context: Any) -> Any:
        return plugin.GiveFeedbackResponse(feedback=[feedback(one.context, one.output) for one in request.items])

    async def ScoreOutputs(self, request: Any, context: Any) -> Any:
        return plugin.ScoreOutputsResponse(scores=[exact_match(one.context, one.output) for one in request.items])


if __name__ == "__main__":
    console_peers.main(Refinement, Ranking, Plugin)
