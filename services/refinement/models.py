"""What the refinement service talks about: calls for text, their outcomes, and the versions of the policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from ilf_common.engine.port import Sample, Sampling
from ilf_common.errors import IlfError

ResultT_co = TypeVar("ResultT_co", covariant=True)

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}"
"""Names of models, versions and aliases."""


class Task(Enum):
    """Which of the two sampling calls is asked for; they differ in the fields of an item and in their defaults."""

    REFINE = "refine"
    GENERATE = "generate"


@dataclass(frozen=True)
class TemplateChoice:
    """A template as a request gives it: by content, by the name of a shipped one (empty text), or not at all."""

    name: str = ""
    text: str = ""
    target_prefix: str = ""


@dataclass(frozen=True)
class PostProcessing:
    """How samples are cleaned and which are drawn again (paper, facts sheet 1.2).

    Attributes:
        normalize_whitespace: Drop leading characters that are neither letters nor digits; squeeze white space.
        first_line_only: Cut at the first newline.
        drop_unfinished_sentence: Drop what follows the last finished sentence, where there is one.
        resample_budget: Most samples drawn for one prompt while some are equal, empty or forbidden; 0 draws no more.
        forbidden_substrings: A sample that holds one of these is drawn again.
    """

    normalize_whitespace: bool = False
    first_line_only: bool = False
    drop_unfinished_sentence: bool = False
    resample_budget: int = 0
    forbidden_substrings: tuple[str, ...] = ()


@dataclass(frozen=True)
class SampleItem:
    """One prompt's parts; fields that the task does not have stay empty."""

    item_id: str
    context: str
    initial_output: str = ""
    feedback: str = ""
    seed: int | None = None


@dataclass(frozen=True)
class SampleCall:
    """Refine, Generate, or a batch of them. `seed` is the whole call's; an item's own goes first."""

    task: Task
    model: str
    items: tuple[SampleItem, ...]
    sampling: Sampling
    seed: int | None
    template: TemplateChoice
    post_processing: PostProcessing


@dataclass(frozen=True)
class SampleResult:
    """The samples of one item, cleaned and in order of preference; tokens count everything that was drawn."""

    samples: tuple[Sample, ...]
    prompt_tokens: int
    completion_tokens: int
    model_version: str


@dataclass(frozen=True)
class ScoreItem:
    """A text whose log-probability after a context's prompt is asked for; an unfinished one was cut before its end."""

    item_id: str
    context: str
    text: str
    unfinished: bool = False


@dataclass(frozen=True)
class ScoreCall:
    """ScoreText, or a batch of them."""

    model: str
    items: tuple[ScoreItem, ...]
    template: TemplateChoice


@dataclass(frozen=True)
class ScoreResult:
    """Summed raw log-probability in nats over `token_count` tokens, a finished text's end included."""

    logprob: float
    token_count: int
    model_version: str


class Item(Protocol):
    """What every item of a batch has: the caller's id."""

    @property
    def item_id(self) -> str:
        """Echoed in the outcome."""
        ...


@dataclass(frozen=True)
class ItemOutcome(Generic[ResultT_co]):
    """What became of one item: a result, or the error of this item alone."""

    item_id: str
    result: ResultT_co | None = None
    error: IlfError | None = None


class PolicyKind(Enum):
    """What a version's directory holds."""

    CHECKPOINT = "checkpoint"
    ADAPTER = "adapter"


class PolicyState(Enum):
    """Where a version stands.

    FAILED: it could not be restored at start; the reason is kept beside it. PARKED: it gave its engine to another
    version and is loaded again by the next call that names it.
    """

    LOADING = "loading"
    SERVING = "serving"
    DRAINING = "draining"
    FAILED = "failed"
    PARKED = "parked"


@dataclass(frozen=True)
class PolicyVersion:
    """One servable version, as it is written down.

    Attributes:
        name: `<run>/it-<k>`, or a model's configured name.
        kind: Whole checkpoint or adapter.
        uri: Where the checkpoint lies; for a configured model its source.
        digest: sha256 over the checkpoint's manifest.
        load_time: When it took traffic.
        base_model: Adapters: the served model under it.
        checksum: What the engine read back from the weights that it holds.
    """

    name: str
    kind: PolicyKind
    uri: str
    digest: str
    load_time: datetime
    base_model: str = ""
    checksum: str = ""

    @property
    def version(self) -> str:
        """The text that results carry."""
        return f"{self.name}@{self.digest}"


@dataclass(frozen=True)
class PolicyAlias:
    """A name that points at a version, where it pointed before, and the request that changed it last."""

    alias: str
    policy: str
    previous_policy: str = ""
    request_id: str = ""


@dataclass(frozen=True)
class PolicyView:
    """A version with what is true of it right now; a rollback of an alias would lead to its rollback target."""

    policy: PolicyVersion
    state: PolicyState
    aliases: tuple[str, ...] = ()
    max_model_len: int = 0
    running_requests: int = 0
    failure: str = ""
    rollback_targets: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LoadRequest:
    """Asks for a version under `name`; `replace` swaps what serves there."""

    name: str
    uri: str
    base_model: str = ""
    replace: bool = False
    request_id: str = ""


@dataclass(frozen=True)
class AdapterFacts:
    """What an adapter says of itself.

    Attributes:
        peft_type: Only LORA is served.
        rank: Of its matrices.
        base: Name or path of the model that it was trained on; empty where it does not say.
    """

    peft_type: str
    rank: int
    base: str


@dataclass(frozen=True)
class Checkpoint:
    """A verified directory of the artifact store.

    Attributes:
        uri: Its full address.
        path: Where it lies on this machine.
        digest: Of its manifest.
        files: sha256 by relative path.
        adapter: Set for a LoRA adapter.
    """

    uri: str
    path: Path
    digest: str
    files: Mapping[str, str]
    adapter: AdapterFacts | None = None


@dataclass(frozen=True)
class PolicyRecords:
    """What survives a restart."""

    versions: tuple[PolicyVersion, ...] = ()
    aliases: tuple[PolicyAlias, ...] = ()
