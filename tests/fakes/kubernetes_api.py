"""A small API server: objects by kind, versions, watches that can be ended, forgotten and refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

Object = dict[str, Any]


class FakeApiServer:
    """Answers lists, watches, creations, replacements and deletions.

    Attributes:
        objects: By "plural/name".
        requests: "METHOD plural" of every request.
        refuse: Answers (status, reason, message) for a request that is to fail, or None; gets method and plural.
    """

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.requests: list[str] = []
        self.refuse: Callable[[str, str], tuple[int, str, str] | None] = lambda method, plural: None
        self._version = 100
        self._oldest = 0
        self._history: list[tuple[int, str, str, Object]] = []
        self._moved = asyncio.Event()
        self._cut = 0

    def put(self, plural: str, found: Object) -> Object:
        """Creates or changes an object, as some other part of the cluster would."""
        name = found["metadata"]["name"]
        key = f"{plural}/{name}"
        kind = "MODIFIED" if key in self.objects else "ADDED"
        self._version += 1
        metadata = {"uid": f"uid-{name}", **found["metadata"], "resourceVersion": str(self._version)}
        self.objects[key] = {**found, "metadata": metadata}
        self._tell(kind, plural, self.objects[key])
        return self.objects[key]

    def remove(self, plural: str, name: str) -> None:
        """Deletes an object."""
        found = self.objects.pop(f"{plural}/{name}")
        self._version += 1
        gone = {**found, "metadata": {**found["metadata"], "resourceVersion": str(self._version)}}
        self._tell("DELETED", plural, gone)

    def cut_watches(self) -> None:
        """Ends all watches, as a restart of the API server does."""
        self._cut += 1
        self._tick()

    def forget_history(self) -> None:
        """From now on watches from older versions are answered with 410."""
        self._oldest = self._version
        self._history.clear()

    def _tell(self, kind: str, plural: str, found: Object) -> None:
        self._history.append((self._version, kind, plural, found))
        self._tick()

    def _tick(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Address of the running server."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            self.cut_watches()
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        parts = request.path.split("/namespaces/")
        if len(parts) == 1:
            return _status(404, "NotFound", "the server could not find the requested resource")
        _, plural, *name = parts[1].split("/")
        self.requests.append(f"{request.method} {plural}")
        refusal = self.refuse(request.method, plural)
        if refusal is not None:
            return _status(*refusal)
        if request.method == "GET" and not name:
            if "watch" in request.query:
                return await self._watch(request, plural)
            items = [found for key, found in self.objects.items() if key.startswith(f"{plural}/")]
            return web.json_response({"metadata": {"resourceVersion": str(self._version)}, "items": items})
        body = await request.json() if request.can_read_body else {}
        key = f"{plural}/{name[0] if name else body['metadata']['name']}"
        known = self.objects.get(key)
        if request.method == "POST":
            if known is not None:
                return _status(409, "AlreadyExists", f"{key} already exists")
            return web.json_response(self.put(plural, body))
        if known is None:
            return _status(404, "NotFound", f"{key} not found")
        if request.method == "PUT":
            if body["metadata"].get("resourceVersion") != known["metadata"]["resourceVersion"]:
                return _status(409, "Conflict", f"{key} has changed")
            return web.json_response(self.put(plural, body))
        if request.method == "DELETE":
            self.remove(plural, name[0])
        return web.json_response(known)

    async def _watch(self, request: web.Request, plural: str) -> web.StreamResponse:
        version = int(request.query["resourceVersion"])
        response = web.StreamResponse()
        await response.prepare(request)
        if version < self._oldest:
            await _send(response, {"type": "ERROR", "object": {"code": 410, "message": "too old resource version"}})
            return response
        cut = self._cut
        while cut == self._cut:
            moved = self._moved
            for at, kind, what, found in [*self._history]:
                if at > version and what == plural:
                    await _send(response, {"type": kind, "object": found})
            if self._version > version:
                version = self._version
                bookmark = {"metadata": {"resourceVersion": str(version)}}
                await _send(response, {"type": "BOOKMARK", "object": bookmark})
            await moved.wait()
        return response


async def _send(response: web.StreamResponse, event: Object) -> None:
    await response.write(json.dumps(event).encode() + b"\n")


def _status(code: int, reason: str, message: str) -> web.Response:
    return web.json_response({"kind": "Status", "code": code, "reason": reason, "message": message}, status=code)
