"""Sessions in the terminal: one person answers the tasks of one kind."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Generic, TypeVar

import click

from ilf_client.models.runs import Progress
from ilf_client.models.tasks import ComparisonTask, FeedbackTask, Preference, ReviewTask, Verdict
from ilf_common.errors import FailedPreconditionError, IlfError

if TYPE_CHECKING:
    from ilf_client.sync import Client

TaskT = TypeVar("TaskT", ComparisonTask, ReviewTask)
ChoiceT = TypeVar("ChoiceT", Preference, Verdict)

_RENEW = frozenset({"LEASE_EXPIRED", "LEASE_TAKEN"})
_LEAST_RENEWAL_SECONDS = 5.0


class FeedbackDesk:
    """One person's session of feedback tasks."""

    def __init__(self, client: Client, run: str, annotator: str) -> None:
        self._client = client
        self._run = run
        self._annotator = annotator
        self._previous: FeedbackTask | None = None

    def work(self) -> int:
        """Asks until nothing is left or the person quits; answers how many items were answered."""
        answered = 0
        while True:
            leased = self._client.feedback.lease(self._annotator, run=self._run)
            if not leased.tasks:
                click.echo(_nothing_left(leased.progress))
                return answered
            task = leased.tasks[0]
            click.clear()
            click.echo(
                click.style(f"{task.item_id}   {leased.progress.done} of {leased.progress.total} done", dim=True)
            )
            _show("Context", task.context)
            _show("Output", task.initial_output)
            with _LeaseKeeper(task.lease_expire_time, self._renew):
                text = _ask("What is wrong with it?")
            if text == "/quit":
                return answered
            if text == "/skip":
                self._client.feedback.skip(task.name, self._annotator)
            elif text == "/edit":
                self._edit()
            elif text and self._submit(task, text):
                answered += 1

    def _edit(self) -> None:
        if self._previous is None:
            click.echo("There is no previous answer.")
            return
        _show("Output", self._previous.initial_output)
        _show("Your feedback", self._previous.feedback)
        text = _ask("Instead")
        if text and not text.startswith("/"):
            self._submit(self._previous, text)

    def _submit(self, task: FeedbackTask, text: str) -> bool:
        """Sends an answer; a lease that ran out meanwhile is taken again, where nobody else has it."""
        try:
            self._previous = self._client.feedback.submit(task.name, self._annotator, text)
        except FailedPreconditionError as error:
            if error.reason not in _RENEW or not self._leased_again(task):
                click.echo(f"Not taken: {error.message}", err=True)
                return False
            self._previous = self._client.feedback.submit(task.name, self._annotator, text)
        return True

    def _renew(self) -> None:
        self._client.feedback.lease(self._annotator, run=self._run)

    def _leased_again(self, task: FeedbackTask) -> bool:
        leased = self._client.feedback.lease(self._annotator, run=self._run)
        return any(other.name == task.name for other in leased.tasks)


class _ChoiceDesk(ABC, Generic[TaskT, ChoiceT]):
    """One person's session of tasks that are answered by a choice of one letter.

    Attributes:
        question: Asked of each task.
        thing: What a task is, in words.
        choices: By their letters.
    """

    question: str
    thing: str
    choices: Mapping[str, ChoiceT]

    def __init__(self, client: Client, run: str, annotator: str) -> None:
        self._client = client
        self._run = run
        self._annotator = annotator

    def work(self) -> int:
        """Asks until nothing is left or the person quits; answers how many tasks were answered."""
        answered = 0
        while True:
            tasks, progress = self.lease()
            if not tasks:
                click.echo(_nothing_left(progress))
                return answered
            task = tasks[0]
            click.clear()
            self.show(task)
            with _LeaseKeeper(task.lease_expire_time, self.lease):
                answer = _ask(self.question).lower()
            if answer == "/quit":
                return answered
            if answer == "/skip":
                self.skip(task)
            elif answer in self.choices:
                answered += self._submit(task, self.choices[answer])

    @abstractmethod
    def lease(self) -> tuple[Sequence[TaskT], Progress]:
        """Takes tasks, or renews what the person has, and tells how far all are."""

    @abstractmethod
    def show(self, task: TaskT) -> None:
        """Prints what the choice is about."""

    @abstractmethod
    def skip(self, task: TaskT) -> None:
        """Gives a task back."""

    @abstractmethod
    def choose(self, task: TaskT, choice: ChoiceT) -> None:
        """Sends an answer."""

    def _submit(self, task: TaskT, choice: ChoiceT) -> int:
        try:
            self.choose(task, choice)
        except IlfError as error:
            if error.reason not in _RENEW:
                raise
            click.echo(f"The {self.thing} went to somebody else meanwhile.", err=True)
            return 0
        return 1


class ComparisonDesk(_ChoiceDesk[ComparisonTask, Preference]):
    """One person's session of comparisons."""

    question = "Which is better? a, b, t for a tie, /skip, /quit"
    thing = "pair"
    choices: Mapping[str, Preference] = {"a": Preference.A, "b": Preference.B, "t": Preference.TIE}

    def lease(self) -> tuple[Sequence[ComparisonTask], Progress]:
        """As in the base."""
        leased = self._client.comparisons.lease(self._annotator, run=self._run)
        return leased.tasks, leased.progress

    def show(self, task: ComparisonTask) -> None:
        """Prints the context and both outputs."""
        _show("Context", task.context)
        _show("A", task.output_a)
        _show("B", task.output_b)

    def skip(self, task: ComparisonTask) -> None:
        """As in the base."""
        self._client.comparisons.skip(task.name, self._annotator)

    def choose(self, task: ComparisonTask, choice: Preference) -> None:
        """As in the base."""
        self._client.comparisons.submit(task.name, self._annotator, choice)


class ReviewDesk(_ChoiceDesk[ReviewTask, Verdict]):
    """One person's session of reviews."""

    question = "Is the feedback in the refinement? y, p for partly, n, /skip, /quit"
    thing = "refinement"
    choices: Mapping[str, Verdict] = {"y": Verdict.YES, "p": Verdict.PARTLY, "n": Verdict.NO}

    def lease(self) -> tuple[Sequence[ReviewTask], Progress]:
        """As in the base."""
        leased = self._client.reviews.lease(self._annotator, run=self._run)
        return leased.tasks, leased.progress

    def show(self, task: ReviewTask) -> None:
        """Prints the output, the feedback on it, and the refinement."""
        _show("Context", task.context)
        _show("Output", task.initial_output)
        _show("Feedback", task.feedback)
        _show("Refinement", task.refinement)

    def skip(self, task: ReviewTask) -> None:
        """As in the base."""
        self._client.reviews.skip(task.name, self._annotator)

    def choose(self, task: ReviewTask, choice: Verdict) -> None:
        """As in the base."""
        self._client.reviews.submit(task.name, self._annotator, choice)


class _LeaseKeeper:
    """Renews a lease from a thread while its holder thinks: a repeat of the lease call answers one's own leases."""

    def __init__(self, expires: datetime | None, renew: Callable[[], object]) -> None:
        self._renew = renew
        seconds = (expires - datetime.now(UTC)).total_seconds() if expires else 0.0
        self._pause = max(_LEAST_RENEWAL_SECONDS, seconds / 3)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease-keeper", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _keep(self) -> None:
        while not self._done.wait(self._pause):
            # A renewal that fails shows when the answer is sent.
            with suppress(IlfError):
                self._renew()


def _nothing_left(progress: Progress) -> str:
    if progress.done < progress.total:
        return f"No open tasks for you: {progress.done} of {progress.total} are done, the rest is with others."
    return "No open tasks."


def _show(title: str, text: str) -> None:
    click.echo(click.style(f"\n{title}", bold=True))
    click.echo(text)


def _ask(question: str) -> str:
    """One answer; a backslash at the end of a line goes on in the next. The end of the input means /quit."""
    lines: list[str] = []
    while True:
        try:
            line = click.prompt(
                f"\n{question}" if not lines else "", prompt_suffix=" > ", default="", show_default=False
            )
        except click.Abort:
            return "/quit"
        if not line.endswith("\\"):
            return "\n".join([*lines, line]).strip()
        lines.append(line[:-1])
