from __future__ import annotations

import inspect
import subprocess
import sys
from functools import cached_property

import pytest

import ilf_client
from ilf_client import sync
from ilf_client._blocking import Blocking, Streaming
from ilf_client.aio.client import AsyncClient
from ilf_client.aio.data import AsyncData
from ilf_client.aio.evaluation import AsyncEvaluation
from ilf_client.aio.jobs import AsyncJobs
from ilf_client.aio.policies import AsyncPolicies
from ilf_client.aio.reward import AsyncReward
from ilf_client.aio.runs import AsyncRuns
from ilf_client.aio.tasks import AsyncAnswers, AsyncComparisons, AsyncFeedback, AsyncReviews

NAMES = [
    "AbortedError",
    "AlreadyExistsError",
    "AnnotationAgreement",
    "AnnotationProgress",
    "Arm",
    "AsyncClient",
    "BestOfN",
    "BestOfNResult",
    "BestOfNSpec",
    "BestOfNStage",
    "CancelledError",
    "Candidate",
    "CandidateScore",
    "Client",
    "ColumnMap",
    "CompareItem",
    "Comparison",
    "ComparisonTask",
    "ComparisonTasks",
    "Condition",
    "DatasetSpec",
    "DeadlineExceededError",
    "Divergence",
    "Endpoints",
    "EvaluateStage",
    "EvaluationResult",
    "EvaluationSpec",
    "Evaluator",
    "FailedPreconditionError",
    "FeedbackSource",
    "FeedbackStage",
    "FeedbackTask",
    "FeedbackTasks",
    "FieldViolation",
    "Figure",
    "FinetuneJob",
    "FinetuneKind",
    "FinetuneSpec",
    "FinetuneStage",
    "FinetuneTarget",
    "FinishReason",
    "GenerateItem",
    "GenerateResult",
    "GenerateStage",
    "Hyperparameters",
    "IlfError",
    "InternalError",
    "InvalidArgumentError",
    "Iteration",
    "JobProgress",
    "LossPoint",
    "JobState",
    "JudgeScore",
    "JudgeSpec",
    "LoraSpec",
    "Metric",
    "NotFoundError",
    "NothingToChange",
    "Outcome",
    "OutputSource",
    "Pairing",
    "PeopleSpec",
    "PermissionDeniedError",
    "Policy",
    "PolicyAlias",
    "PolicyKind",
    "PolicyState",
    "Pool",
    "PostProcessing",
    "Preference",
    "Progress",
    "PromptTemplate",
    "RankItem",
    "RankResult",
    "RankStage",
    "Ranker",
    "RankerSpec",
    "RefineItem",
    "RefineResult",
    "RefineStage",
    "ResourceExhaustedError",
    "RetryPolicy",
    "RetryableError",
    "ReviewTask",
    "ReviewTasks",
    "RewardComparison",
    "RewardLoss",
    "RewardModel",
    "RewardOptions",
    "RewardReport",
    "RewardScore",
    "Run",
    "RunSample",
    "RunSpec",
    "RunState",
    "Sample",
    "SampleFilter",
    "SampleOrder",
    "SamplePage",
    "SamplingParams",
    "Schedule",
    "ScoreItem",
    "ScoreTextItem",
    "ScorerScale",
    "Security",
    "SelectMethod",
    "SelectStage",
    "ShardExplanation",
    "StageState",
    "StageStatus",
    "TaskState",
    "TextScore",
    "Timeouts",
    "UnauthenticatedError",
    "UnavailableError",
    "UnimplementedError",
    "Upload",
    "Usage",
    "Verdict",
    "Waiting",
    "load_template",
]

TWINS = [
    (sync.Client, AsyncClient),
    (sync.Policies, AsyncPolicies),
    (sync.Reward, AsyncReward),
    (sync.Jobs, AsyncJobs),
    (sync.Runs, AsyncRuns),
    (sync.Feedback, AsyncFeedback),
    (sync.Comparisons, AsyncComparisons),
    (sync.Reviews, AsyncReviews),
    (sync.Answers, AsyncAnswers),
    (sync.Data, AsyncData),
    (sync.Evaluation, AsyncEvaluation),
]


def test_the_public_names_are_these() -> None:
    assert sorted(ilf_client.__all__) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(ilf_client, name).__name__ == name


def test_a_wrong_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Clinet"):
        ilf_client.Clinet  # noqa: B018


@pytest.mark.parametrize(("blocking", "awaited"), TWINS)
def test_the_twins_have_the_same_methods(blocking: type, awaited: type) -> None:
    def public(cls: type) -> set[str]:
        names = {name for name in dir(cls) if not name.startswith("_")}
        return {name for name in names if not isinstance(inspect.getattr_static(cls, name), cached_property)}

    assert public(blocking) == public(awaited)
    for name, value in vars(blocking).items():
        if isinstance(value, Blocking | Streaming):
            assert (value.__doc__ and value.__doc__ == inspect.getdoc(getattr(awaited, name))) or value.__doc__
            assert value._method.__name__ == name


def test_the_signature_of_a_twin_is_that_of_the_awaited_method() -> None:
    with ilf_client.Client() as client:
        signature = inspect.signature(client.runs.get)
        assert list(signature.parameters) == ["name", "timeout"]
        assert client.runs.get.__name__ == "get"


def test_importing_the_package_imports_nothing_heavy() -> None:
    heavy = "{'grpc', 'google.protobuf', 'pydantic', 'yaml', 'rich', 'pyarrow', 'matplotlib', 'jinja2'}"
    code = f"import sys, ilf_client; found = {heavy} & set(sys.modules); assert not found, found"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_commands_help_imports_nothing_heavy() -> None:
    heavy = "{'grpc', 'google.protobuf', 'pydantic', 'yaml', 'rich', 'pyarrow', 'matplotlib', 'jinja2'}"
    code = (
        "import sys; from ilf_client.cli.main import main; main(['--help'], standalone_mode=False); "
        f"found = {heavy} & set(sys.modules); assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, stdout=subprocess.DEVNULL)
