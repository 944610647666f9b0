"""Before the first stage: digests of everything outside that must stay what it is for the whole run."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from ilf_common.errors import InvalidArgumentError
from services.orchestrator.codec import digest_of
from services.orchestrator.models import FeedbackSource, RankerSpec, RunSpec
from services.orchestrator.work import RunWork


def frozen_models(spec: RunSpec) -> dict[str, str]:
    """The refinement service's models that a run freezes, by their part in it."""
    models = {"refiner": spec.refine.refiner}
    if spec.feedback.source is FeedbackSource.CRITIC:
        models["critic"] = spec.feedback.critic
    return models


async def pin(work: RunWork) -> None:
    """Notes the digests once; a resumed run keeps those that it began with.

    Raises:
        NotFoundError: A model or ranker is not there.
        InvalidArgumentError: Nobody says what training is to start from.
    """
    if work.run.plan.pins:
        return
    spec, peers = work.spec, work.peers
    pins = {}
    for part, model in frozen_models(spec).items():
        pins[part] = (await work.patiently("refinement", partial(peers.refinement.model, model))).digest
    policy = await work.patiently("refinement", lambda: peers.refinement.model(spec.policy))
    pins["ranker"] = await work.ranker_digest()
    if spec.evaluate.win_rate and not spec.evaluate.disabled:
        judges = RankerSpec("compare", spec.evaluate.judges)
        pins["judges"] = digest_of(judges)
    base = spec.base_model or policy.source
    if not base and not spec.preview_rows:
        raise InvalidArgumentError.of(
            "spec.base_model",
            f"is missing, and the refinement service does not say what {spec.policy!r} was loaded from",
        )
    await work.journal.change(
        lambda run: replace(run, plan=replace(run.plan, pins=pins, base_model=base), policy=run.policy or spec.policy)
    )
