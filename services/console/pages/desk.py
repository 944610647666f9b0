"""What annotating, comparing and reviewing share: one leased task, the answer to it, and one's own last answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ilf_client import AsyncClient
from ilf_client.models.runs import Progress
from ilf_client.models.tasks import AnnotationProgress
from ilf_common.errors import NotFoundError
from services.console import audit
from services.console.bodies import Body, BodyT, read_body
from services.console.identity import Role, needs, user
from services.console.pages.reading import ALL_RUNS
from services.console.rendering import page
from services.console.views import tasks as views
from services.console.views.commands import bare
from services.console.views.tasks import Task, TaskT

TaskT_co = TypeVar("TaskT_co", bound=Task, covariant=True)
_SHOWN_ANSWERS = 8
_LAST_ANSWERS = 100


class AnswerBody(Body):
    """What is sent with every answer.

    Attributes:
        task: Name of the task.
        request_id: The same for every repeat of this answer.
        skip: Give the task back unanswered.
        flags: What the task is marked with.
    """

    task: str
    request_id: str = Field(min_length=1, max_length=100)
    skip: bool = False
    flags: list[str] = Field(default=[], max_length=10)


class LeaseBody(Body):
    """Which task is to be held on to."""

    task: str


class Leased(Protocol[TaskT_co]):
    """Tasks that were leased."""

    @property
    def tasks(self) -> Sequence[TaskT_co]:
        """One's own."""


class Asking(Protocol[TaskT_co]):
    """One kind of tasks of the client."""

    async def lease(self, annotator: str, *, run: str, count: int = 1) -> Leased[TaskT_co]:
        """Leases tasks; one's own open leases first."""

    async def skip(self, name: str, annotator: str, *, request_id: str | None) -> TaskT_co:
        """Gives a task back."""


@dataclass(frozen=True)
class Desk(Generic[TaskT, BodyT]):
    """A page where people answer tasks of one kind.

    Attributes:
        path: Its address.
        template: Its template, a child of `desk.html`.
        kind: The tasks' class.
        body: What its script sends.
        asking: That part of the client.
        progress: That part of the progress.
        submit: Sends an answer.
        details: Further values for the template, from the task.
    """

    path: str
    template: str
    kind: type[TaskT]
    body: type[BodyT]
    asking: Callable[[AsyncClient], Asking[TaskT]]
    progress: Callable[[AnnotationProgress], Progress]
    submit: Callable[[AsyncClient, str, BodyT], Awaitable[TaskT]]
    details: Callable[[TaskT], dict[str, Any]] = lambda task: {}

    @property
    def routes(self) -> list[Route]:
        """The page, and what its script asks for."""
        asked_by_itself = needs(Role.ANNOTATOR, keeps_alive=False)
        return [
            Route(self.path, needs(Role.ANNOTATOR)(self.show)),
            Route(f"{self.path}/answers", needs(Role.ANNOTATOR)(self.answer), methods=["POST"]),
            Route(f"{self.path}/lease", asked_by_itself(self.renew), methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        """The next task; with `task` in the query one's own answer to it, to be changed."""
        who, client = user(request).name, request.app.state.client
        run = request.query_params.get("run") or ALL_RUNS
        wanted = request.query_params.get("task", "")
        progress, answers = await asyncio.gather(
            client.answers.progress(annotator=who, run=run),
            client.answers.latest(who, run=views.run_of(wanted) or run, count=_LAST_ANSWERS),
        )
        own = views.of_kind(answers, self.kind)
        task = self._own(own, wanted) if wanted else await self._next(client, who, run)
        return page(
            request,
            self.template,
            desk=self.path,
            task=task,
            editing=bool(wanted),
            run="" if run == ALL_RUNS else bare(run),
            progress=self.progress(progress),
            pace=views.pace(progress),
            lease_seconds=views.lease_seconds(task),
            previous=views.previous(own, task),
            answers=[(answer, views.summary(answer)) for answer in own[:_SHOWN_ANSWERS]],
            flag_labels=views.FLAG_LABELS,
            **(self.details(task) if task is not None else {}),
        )

    async def answer(self, request: Request) -> Response:
        """Takes an answer, or gives the task back."""
        who, client, body = user(request).name, request.app.state.client, await read_body(request, self.body)
        assert isinstance(body, AnswerBody)
        if body.skip:
            await self.asking(client).skip(body.task, who, request_id=body.request_id)
        else:
            await self.submit(client, who, body)
        audit.record(request, "skip" if body.skip else "submit", body.task)
        return JSONResponse({"task": body.task})

    async def renew(self, request: Request) -> Response:
        """Holds on to a task while its page is open; says whether it is still this person's."""
        who, body = user(request).name, await read_body(request, LeaseBody)
        # A person has one task of a kind and run at a time, and tasks of several runs in several windows.
        leased = await self.asking(request.app.state.client).lease(who, run=views.run_of(body.task))
        task: Task | None = next((task for task in leased.tasks if task.name == body.task), None)
        return JSONResponse({"held": task is not None, "lease_seconds": views.lease_seconds(task)})

    async def _next(self, client: AsyncClient, who: str, run: str) -> TaskT | None:
        leased = await self.asking(client).lease(who, run=run)
        return leased.tasks[0] if leased.tasks else None

    def _own(self, own: Sequence[TaskT], name: str) -> TaskT:
        task = views.find(own, name, self.kind)
        if task is None:
            raise NotFoundError(
                f"Among your last {_LAST_ANSWERS} answers is none to {name}.", resource_type="task", resource_name=name
            )
        return task
