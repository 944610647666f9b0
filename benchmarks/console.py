"""The browser console over HTTP: a hundred annotators at once, and the pages of the sample browser over a long run.

`python -m benchmarks.console` starts the orchestrator on SQLite and the console as processes of their own and asks for
what a browser asks for. There is no alternative beside it: the limits are what people wait for without a spinner.

Annotators: each has a session and a connection, loads the page, which leases a task, and submits feedback with the
request that the page's script sends. At a person's pace all begin at the same moment and think for 2 to 6 seconds
before each submit; without a pause is the worst case, which is shown and not judged. Styles and scripts are left out: a
browser asks for them once a visit. `benchmarks/annotators.py` has the same without the console.

Samples: pages of 50 samples of a finished run of synthetic shards, as `benchmarks/samples.py` has them without the
console. The first filtered page makes the index of the iteration and is reported apart; a kept run may have it already.

The browsers are one process on the same processor, and their share is in every time. The console's processor time is
that of one page, or of one answer with its page; memory is the peak (`VmHWM`). Exit code 1 when a limit is broken.
"""

from __future__ import annotations

import argparse
import asyncio
import html
import random
import re
import sys
import tempfile
import time
import uuid
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
from ilf.orchestrator.v1 import orchestrator_service_pb2 as pb

from benchmarks.annotators import FEEDBACK, ask
from benchmarks.measuring import peak_mib, processor_seconds, quantile, timed
from benchmarks.recording import print_table, record
from benchmarks.sample_shards import RARE_WORD, RUN, make_run
from tests.crash.orchestrator.support import Cluster, free_port, kill, spawn

SUBMIT_LIMIT = 0.5
PAGE_LIMIT = 0.5
FILTER_LIMIT = 2.0
THINKING_SECONDS = (2.0, 6.0)
PAGE = 50
P50, P95 = "p50, s", "p95, s"

# What is asked for, its limit in seconds, and the query of the address.
PAGES: tuple[tuple[str, float, dict[str, str]], ...] = (
    ("samples, first page as in the dataset", PAGE_LIMIT, {}),
    ("samples, first page, highest scores", PAGE_LIMIT, {"order_by": "score", "descending": "yes"}),
    ("samples, filter: score 0.5 to 0.6", FILTER_LIMIT, {"min_score": "0.5", "max_score": "0.6"}),
    ("samples, filter: a rare word", FILTER_LIMIT, {"text": RARE_WORD}),
)

_START_SECONDS = 120
_LONGEST_SECONDS = 1800
_AGAIN_SECONDS = 4.0
_LATER = (httpx2.codes.SERVICE_UNAVAILABLE, httpx2.codes.GATEWAY_TIMEOUT)
# The console closes a connection after 5 seconds without a request; a browser notices, and opens another one.
_KEEP_SECONDS = 4.0
_HTML = {"accept": "text/html"}
_CSRF = re.compile('name="csrf-token" content="([^"]*)"')
_PATH = re.compile('data-path="([^"]*)"')
_FOUND = re.compile('<strong class="figures">([^<]*)</strong> sample')
_TASK = re.compile('data-task="([^"]*)"')

Pause = Callable[[], float]


@dataclass(frozen=True)
class Site:
    """A console and the orchestrator behind it."""

    url: str
    token: str
    console: Process
    cluster: Cluster

    @asynccontextmanager
    async def browser(self, name: str) -> AsyncIterator[httpx2.AsyncClient]:
        """A person's browser, signed in."""
        limits = httpx2.Limits(keepalive_expiry=_KEEP_SECONDS)
        # There is no TLS here, and to load the authorities takes a tenth of a second a browser.
        async with httpx2.AsyncClient(
            base_url=self.url, limits=limits, timeout=60, trust_env=False, verify=False
        ) as http:
            form = {"token": self.token, "name": name, "csrf": _find(_CSRF, await http.get("/login", headers=_HTML))}
            answer = await http.post("/login", data=form, headers=_HTML)
            if answer.status_code != httpx2.codes.SEE_OTHER:
                raise RuntimeError(f"{name} was not signed in: {answer.status_code}")
            yield http

    def row(self, what: str, seconds: Sequence[float], limit: float | None = None, judged: str = "") -> dict[str, Any]:
        """A row of the table; `judged` names the column that the limit is for."""
        return {
            "what": what,
            "times": len(seconds),
            P50: round(quantile(seconds, 0.5), 3),
            P95: round(quantile(seconds, 0.95), 3),
            "limit, s": "" if limit is None else limit,
            "judged": "" if limit is None else judged,
            "rows found": "",
            "answers/s": "",
            "console's processor, ms": "",
            "console, peak MiB": round(peak_mib(self.console)),
            "orchestrator, peak MiB": round(peak_mib(self.cluster.orchestrator)),
        }


@asynccontextmanager
async def serving(folder: Path, *, peers: bool) -> AsyncIterator[Site]:
    """Starts both processes, and the stand-ins for the other services where a run needs them."""
    cluster = Cluster(folder, delay=0.0, limits={})
    port, state = free_port(), folder / "console"
    console: Process | None = None
    try:
        if peers:
            await cluster.start_peers()
        await cluster.start_orchestrator()
        await cluster.call("ListRuns", pb.ListRunsRequest())
        console = await spawn(
            "services.console",
            log=folder / "console.log",
            ILF_CONSOLE__SERVER__PORT=str(port),
            ILF_CONSOLE__SERVICES__ORCHESTRATOR=f"127.0.0.1:{cluster.port}",
            ILF_CONSOLE__STATE_DIR=str(state),
        )
        url = f"http://127.0.0.1:{port}"
        await _started(url, console)
        yield Site(url, (state / "token").read_text(encoding="utf-8"), console, cluster)
    finally:
        if console is not None:
            await kill(console)
        await cluster.stop()


async def annotate(http: httpx2.AsyncClient, answers: int, pause: Pause) -> tuple[list[float], list[float]]:
    """Seconds of each page and of each submit of one annotator."""
    pages, submits = [], []
    for _ in range(answers):
        page, seconds = await timed(_answered(lambda: http.get("/annotate", headers=_HTML)))
        pages.append(seconds)
        task, path = _find(_TASK, page), _find(_PATH, page)
        if not task:
            raise RuntimeError("no task is left: there must be more --tasks than answers")
        await asyncio.sleep(pause())
        body = {"task": task, "request_id": str(uuid.uuid4()), "feedback": FEEDBACK, "flags": []}
        headers = {
            "accept": "application/json",
            "x-csrf": _find(_CSRF, page),
            "origin": str(http.base_url).rstrip("/"),
            "sec-fetch-site": "same-origin",
        }
        send = partial(http.post, f"{path}/answers", json=body, headers=headers)
        _, seconds = await timed(_answered(send))
        submits.append(seconds)
    return pages, submits


async def measure_annotators(
    pace: str, pause: Pause, limit: float | None, *, tasks: int, annotators: int, answers: int
) -> list[dict[str, Any]]:
    """The rows of one pace, on processes and tasks of its own."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        site = await stack.enter_async_context(serving(folder, peers=True))
        await ask(site.cluster, tasks, 1)
        names = [f"annotator-{number}" for number in range(annotators)]
        browsers = [await stack.enter_async_context(site.browser(name)) for name in names]
        begin, worked = time.perf_counter(), processor_seconds(site.console)
        taken = await asyncio.gather(*(annotate(http, answers, pause) for http in browsers))
        seconds, worked = time.perf_counter() - begin, processor_seconds(site.console) - worked
        first = [pages[0] for pages, _ in taken]
        later = [one for pages, _ in taken for one in pages[1:]]
        submits = [one for _, person in taken for one in person]
        return [
            site.row(f"{annotators} annotators {pace}: first page, all at the same moment", first),
            *([site.row(f"{annotators} annotators {pace}: later pages", later)] if later else []),
            site.row(f"{annotators} annotators {pace}: submit", submits, limit, P95)
            | {
                "answers/s": round(len(submits) / seconds, 1),
                "console's processor, ms": round(1000 * worked / len(submits), 1),
            },
        ]


async def measure_samples(folder: Path, repeats: int) -> list[dict[str, Any]]:
    """One row a page of the sample browser."""
    async with serving(folder, peers=False) as site, site.browser("engineer") as http:
        found, seconds = await _samples(http, {"failed": "no"})
        rows = [site.row("samples, index made, once an iteration", [seconds]) | {"rows found": found}]
        print(rows[0], flush=True)
        for what, limit, query in PAGES:
            worked = processor_seconds(site.console)
            answers = [await _samples(http, query) for _ in range(repeats)]
            worked = processor_seconds(site.console) - worked
            rows.append(
                site.row(what, [seconds for _, seconds in answers], limit, P50)
                | {"rows found": answers[0][0], "console's processor, ms": round(1000 * worked / repeats, 1)}
            )
            print(rows[-1], flush=True)
        return rows


async def _answered(send: Callable[[], Awaitable[httpx2.Response]]) -> httpx2.Response:
    """The answer; what may work later is sent again after a while, as the pages' scripts do it."""
    async with asyncio.timeout(_LONGEST_SECONDS):
        while (answer := await send()).status_code in _LATER:
            await asyncio.sleep(_AGAIN_SECONDS)
    return answer.raise_for_status()


async def _samples(http: httpx2.AsyncClient, query: dict[str, str]) -> tuple[str, float]:
    """The number of rows that were found, and the seconds of their first page."""
    address = httpx2.URL(f"/runs/{RUN}/samples", params={"size": str(PAGE), **query})
    page, seconds = await timed(_answered(lambda: http.get(address, headers=_HTML)))
    return _find(_FOUND, page), seconds


async def _started(url: str, console: Process) -> None:
    async with asyncio.timeout(_START_SECONDS), httpx2.AsyncClient(trust_env=False) as http:
        while console.returncode is None:
            try:
                if (await http.get(f"{url}/healthz")).is_success:
                    return
            except httpx2.TransportError:
                await asyncio.sleep(0.1)
    raise RuntimeError("the console has ended; console.log says why")


def _find(pattern: re.Pattern[str], page: httpx2.Response) -> str:
    found = pattern.search(page.text)
    if found is None:
        raise RuntimeError(f"{page.url} has nothing like {pattern.pattern}")
    return html.unescape(found[1])


async def main() -> int:
    """Measures and records."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("annotators", "samples"), help="leaves the other part out")
    parser.add_argument("--annotators", type=int, default=100)
    parser.add_argument("--answers", type=int, default=20, help="of each annotator")
    parser.add_argument("--tasks", type=int, default=4_000)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the run whose samples are looked at")
    parser.add_argument("--shard-rows", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5, help="of each page of samples")
    parser.add_argument("--folder", type=Path, help="keeps that run here, and takes the one that is here")
    parser.add_argument("--no-record", action="store_true")
    options = parser.parse_args()
    table: list[dict[str, Any]] = []
    if options.only != "samples":
        sizes = {"tasks": options.tasks, "annotators": options.annotators, "answers": options.answers}
        draw = random.Random(0)
        pace: tuple[str, Pause, float | None]
        for pace in (
            ("at a person's pace", lambda: draw.uniform(*THINKING_SECONDS), SUBMIT_LIMIT),
            ("without a pause", lambda: 0.0, None),
        ):
            table += await measure_annotators(*pace, **sizes)
            print(table[-1], flush=True)
    if options.only != "annotators":
        with tempfile.TemporaryDirectory() as name:
            folder = options.folder or Path(name)
            await make_run(folder, options.rows, options.shard_rows)
            table += await measure_samples(folder, options.repeats)
    print_table(table)
    if not options.no_record:
        record("console", table, packages=("duckdb", "grpcio", "httpx2", "sqlalchemy", "starlette", "uvicorn"))
    return 0 if all(row[row["judged"]] <= row["limit, s"] for row in table if row["judged"]) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
