"""Policy versions, where they come from, and what moving an alias does."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ilf_client.models.policies import Policy
from ilf_client.models.runs import Iteration, Run
from ilf_client.models.specs import Schedule

_VERSION = re.compile(r"(?P<run>[a-z0-9-]+)/it-(?P<iteration>\d{1,6})")


@dataclass(frozen=True)
class Version:
    """A policy with its origin.

    Attributes:
        policy: As the refinement service tells it.
        run: Id of the run that trained it; empty for a model that the server was started with.
        iteration: Of that run.
        job: The finetune job (`jobs/<id>`), where known.
        ancestors: What it was trained from, the nearest first.
    """

    policy: Policy
    run: str = ""
    iteration: int = 0
    job: str = ""
    ancestors: Sequence[str] = ()


def runs_of(policies: Sequence[Policy]) -> list[str]:
    """Ids of the runs that trained some of them."""
    matches = [_VERSION.fullmatch(policy.name) for policy in policies]
    return sorted({match["run"] for match in matches if match})


def version(policy: Policy, runs: Mapping[str, Run]) -> Version:
    """The policy with its origin, as far as its run is known."""
    match = _VERSION.fullmatch(policy.name)
    if match is None:
        return Version(policy, ancestors=(policy.base_model,) if policy.base_model else ())
    run, iteration = runs.get(match["run"]), int(match["iteration"])
    if run is None:
        return Version(policy, match["run"], iteration)
    trained = next((one for one in run.iterations if one.index == iteration), Iteration(iteration))
    return Version(policy, match["run"], iteration, trained.finetune_job, ancestors(run, iteration))


def ancestors(run: Run, iteration: int) -> list[str]:
    """What a run's version was trained from, back to what the run began with, the nearest first.

    The schedule CONTINUE trains the last version on; UNION begins with the base each time.
    """
    began = run.spec.base_model or run.spec.policy
    if run.spec.schedule is not Schedule.CONTINUE:
        return [began]
    bare = run.name.rpartition("/")[2]
    return [*(f"{bare}/it-{k}" for k in range(iteration - 1, 0, -1)), began]


def holders(policies: Sequence[Policy]) -> dict[str, str]:
    """Where each alias points."""
    return {alias: policy.name for policy in policies for alias in policy.aliases}


def promotion(alias: str, name: str, policies: Sequence[Policy]) -> list[str]:
    """What pointing an alias at a version does, in sentences."""
    now = holders(policies).get(alias)
    if now is None:
        before = f"There is no alias {alias} yet: it is made."
        after = "There is nothing to roll back to, until it is moved again."
    else:
        before = f"{alias} points at {now} now."
        after = f"A rollback points it back at {now}, as long as that stays loaded."
    return [
        before,
        f"From then on, whoever asks for {alias} is answered by {name}; answers that are being written are finished.",
        after,
    ]


def rollback_target(alias: str, policies: Sequence[Policy]) -> str:
    """The version that a rollback would lead to; empty where there is none that is still loaded."""
    return next((policy.rollback_targets[alias] for policy in policies if alias in policy.rollback_targets), "")


def rolling_back(alias: str, target: str, policies: Sequence[Policy]) -> list[str]:
    """What a rollback does, in sentences."""
    now = holders(policies).get(alias)
    return [
        f"{alias} points at {now} now. It goes back to {target}, at which it pointed before.",
        f"From then on, whoever asks for {alias} is answered by {target}; {now} stays loaded.",
        "It works once: what it pointed at before that is not remembered.",
    ]
