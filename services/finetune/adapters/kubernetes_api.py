"""The Kubernetes API as JSON over the official client: objects stay the mappings that they are on the wire."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from kubernetes.aio import client, config
from prometheus_client import Counter

from ilf_common.errors import FailedPreconditionError, UnavailableError
from ilf_common.telemetry import REGISTRY

Object = Mapping[str, Any]
_REQUESTS = Counter("ilf_finetune_kubernetes_requests", "Sent to the API server.", ("verb", "kind"), registry=REGISTRY)
_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_REQUEST_SECONDS = 30.0
# A watch whose connection has died in silence is noticed so long after its time.
_GRACE_SECONDS = 15.0
_PAGE = 500


@dataclass(frozen=True)
class Collection:
    """A kind of objects of a namespace.

    Attributes:
        api: "v1", or "group/version".
        plural: As in the address.
    """

    api: str
    plural: str

    def path(self, namespace: str, name: str = "") -> str:
        """The address of all objects, or of one."""
        root = f"/apis/{self.api}" if "/" in self.api else f"/api/{self.api}"
        return f"{root}/namespaces/{namespace}/{self.plural}{f'/{name}' if name else ''}"


CONFIG_MAPS = Collection("v1", "configmaps")
PODS = Collection("v1", "pods")
SERVICES = Collection("v1", "services")
EVENTS = Collection("v1", "events")
JOBS = Collection("batch/v1", "jobs")


class RefusedError(FailedPreconditionError):
    """The API server says no.

    Attributes:
        status: HTTP status.
        kind: Kubernetes' own reason, such as "AlreadyExists".
        text: What the API server says.
    """

    default_reason = "KUBERNETES_REFUSED"

    def __init__(self, doing: str, status: int, kind: str, text: str) -> None:
        super().__init__(f"Kubernetes refuses to {doing}: {text}")
        self.status = status
        self.kind = kind
        self.text = text


class Cluster:
    """One namespace of a cluster, as this process may see it: by its pod's account, or by a kubeconfig.

    Args:
        namespace: "" is the pod's own, or that of the kubeconfig's context.
        kubeconfig: None is the usual one.
    """

    def __init__(self, namespace: str = "", kubeconfig: Path | None = None) -> None:
        self.namespace = namespace
        self._kubeconfig = kubeconfig
        self._client: client.ApiClient | None = None
        self._opening = asyncio.Lock()

    async def close(self) -> None:
        """Closes the connections."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def versions(self, group: str) -> Sequence[str]:
        """The versions of an API group that are served, the preferred one first; none where the group is not there."""
        await self._open()
        try:
            answer = await self._call("GET", f"/apis/{group}", doing="look for API groups")
        except RefusedError as error:
            if error.status == 404:
                return ()
            raise
        preferred = answer["preferredVersion"]["version"]
        return (preferred, *(one["version"] for one in answer["versions"] if one["version"] != preferred))

    async def get(self, kind: Collection, name: str) -> Object | None:
        """One object, or None."""
        await self._open()
        try:
            found: Object = await self._call("GET", kind.path(self.namespace, name), doing=f"read {kind.plural}/{name}")
            return found
        except RefusedError as error:
            if error.status == 404:
                return None
            raise

    async def list(self, kind: Collection, labels: str = "", fields: str = "") -> tuple[list[Object], str]:
        """All objects and the version of the list, read in pages."""
        await self._open()
        items: list[Object] = []
        position = ""
        while True:
            query = _selectors(labels, fields) | {"limit": str(_PAGE)} | ({"continue": position} if position else {})
            page = await self._call("GET", kind.path(self.namespace), query=query, doing=f"list {kind.plural}")
            items += page["items"]
            position = page["metadata"].get("continue", "")
            if not position:
                return items, page["metadata"]["resourceVersion"]

    async def create(self, kind: Collection, body: Object) -> Object:
        """Creates an object.

        Raises:
            RefusedError: "AlreadyExists" among others.
        """
        await self._open()
        doing = f"create {kind.plural}/{body['metadata']['name']}"
        made: Object = await self._call("POST", kind.path(self.namespace), body=body, doing=doing)
        return made

    async def replace(self, kind: Collection, body: Object) -> Object:
        """Replaces an object, where it still has the version that the body names."""
        await self._open()
        name = body["metadata"]["name"]
        doing = f"write {kind.plural}/{name}"
        written: Object = await self._call("PUT", kind.path(self.namespace, name), body=body, doing=doing)
        return written

    async def delete(
        self, kind: Collection, name: str, *, foreground: bool = False, grace_seconds: int | None = None
    ) -> None:
        """Deletes an object, with what belongs to it before it or after it; one that is gone is well."""
        await self._open()
        body: dict[str, Any] = {"propagationPolicy": "Foreground" if foreground else "Background"}
        if grace_seconds is not None:
            body["gracePeriodSeconds"] = grace_seconds
        try:
            doing = f"delete {kind.plural}/{name}"
            await self._call("DELETE", kind.path(self.namespace, name), body=body, doing=doing)
        except RefusedError as error:
            if error.status != 404:
                raise

    async def watch(
        self, kind: Collection, version: str, labels: str = "", fields: str = "", *, seconds: int = 60
    ) -> AsyncIterator[Object]:
        """Events after a version, with bookmarks, until the server ends the stream."""
        await self._open()
        query = _selectors(labels, fields) | {
            "watch": "1",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
        }
        timeout = aiohttp.ClientTimeout(sock_connect=_REQUEST_SECONDS, sock_read=seconds + _GRACE_SECONDS)
        response = await self._send("GET", kind.path(self.namespace), query, None, timeout, f"watch {kind.plural}")
        async with response:
            await _require_success(response, f"watch {kind.plural}")
            try:
                async for line in response.content:
                    yield json.loads(line)
            except (aiohttp.ClientError, TimeoutError) as error:
                raise _unreachable(error) from error

    async def _open(self) -> None:
        async with self._opening:
            if self._client is None:
                self._client, found = await _connect(self._kubeconfig)
                self.namespace = self.namespace or found

    async def _call(
        self, method: str, path: str, *, doing: str, query: Mapping[str, str] | None = None, body: Object | None = None
    ) -> Any:
        timeout = aiohttp.ClientTimeout(total=_REQUEST_SECONDS)
        try:
            async with await self._send(method, path, query or {}, body, timeout, doing) as response:
                await _require_success(response, doing)
                return await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _unreachable(error) from error

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Object | None,
        timeout: aiohttp.ClientTimeout,
        doing: str,
    ) -> aiohttp.ClientResponse:
        assert self._client is not None
        verb, kind = doing.split("/")[0].split(" ", 1)
        _REQUESTS.labels(verb, kind).inc()
        request = await self._client.param_serialize(
            method,
            path,
            query_params=list(query.items()),
            header_params={"Accept": "application/json"},
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            answer = await self._client.call_api(*request, _request_timeout=timeout)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unreachable(error) from error
        response: aiohttp.ClientResponse = answer.response
        return response


async def _connect(kubeconfig: Path | None) -> tuple[client.ApiClient, str]:
    """A client and the namespace that it stands in."""
    settings = client.Configuration()
    try:
        if _OWN_NAMESPACE.exists():
            config.load_incluster_config(settings)
            return client.ApiClient(settings), _OWN_NAMESPACE.read_text(encoding="utf-8").strip()
        file = str(kubeconfig) if kubeconfig else None
        await config.load_kube_config(config_file=file, client_configuration=settings)
        _, active = config.list_kube_config_contexts(config_file=file)
    except config.ConfigException as error:
        raise FailedPreconditionError(
            f"backend kubernetes needs a pod's service account or a kubeconfig: {error}", reason="NO_CLUSTER"
        ) from error
    return client.ApiClient(settings), active["context"].get("namespace", "default")


async def _require_success(response: aiohttp.ClientResponse, doing: str) -> None:
    if response.status < 300:
        return
    text = await response.text()
    try:
        status = json.loads(text)
    except ValueError:
        status = {"reason": response.reason or "", "message": text[:300]}
    if response.status == 429 or response.status >= 500:
        raise UnavailableError(f"Kubernetes cannot {doing} now: {status.get('message')}", retry_after=1.0)
    raise RefusedError(doing, response.status, status.get("reason", ""), status.get("message", ""))


def _unreachable(error: BaseException) -> UnavailableError:
    return UnavailableError(f"The Kubernetes API does not answer: {type(error).__name__}", retry_after=1.0)


def _selectors(labels: str = "", fields: str = "") -> dict[str, str]:
    named = {"labelSelector": labels, "fieldSelector": fields}
    return {name: value for name, value in named.items() if value}
