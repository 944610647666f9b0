"""The Kubernetes API by its official client."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import urllib3.exceptions
from kubernetes import client, config
from kubernetes.stream import portforward

from ilf_client.cluster.ports import Claim, Nodes, Permission, Pod, Service, Socket, StorageClass
from ilf_common.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
)

_SECONDS = 15
_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"


class KubernetesCluster:
    """Implements `ports.Cluster` with the user of a kubeconfig.

    Args:
        namespace: The namespace; None takes that of the context.
        context: The kubeconfig's context; None takes the current one.

    Raises:
        InvalidArgumentError: There is no kubeconfig, or no such context in it.
    """

    def __init__(self, namespace: str | None = None, context: str | None = None) -> None:
        try:
            contexts, current = config.list_kube_config_contexts()
            chosen = next((known for known in contexts if known["name"] == context), None) if context else current
            if chosen is None:
                names = ", ".join(known["name"] for known in contexts)
                raise InvalidArgumentError.of("--context", f"{context!r} is not in the kubeconfig; it has {names}")
            self._configuration = client.Configuration()
            config.load_kube_config(context=chosen["name"], client_configuration=self._configuration)
        except config.ConfigException as error:
            raise InvalidArgumentError.of(
                "KUBECONFIG", f"no usable kubeconfig: {error}. Set KUBECONFIG, or write ~/.kube/config"
            ) from error
        self._configuration.retries = False
        self.namespace: str = namespace or chosen["context"].get("namespace") or "default"
        self._api = client.ApiClient(self._configuration)
        self._core = client.CoreV1Api(self._api)

    def version(self) -> str:
        """Of the API server."""
        with self._errors("read the version"):
            return str(client.VersionApi(self._api).get_code(_request_timeout=_SECONDS).git_version)

    def api_versions(self) -> frozenset[str]:
        """Groups with their versions."""
        with self._errors("list the APIs"):
            groups = client.ApisApi(self._api).get_api_versions(_request_timeout=_SECONDS).groups
        return frozenset(version.group_version for group in groups for version in group.versions)

    def services(self, labels: Mapping[str, str]) -> Sequence[Service]:
        """Services with these labels."""
        return [
            Service(
                found.metadata.name,
                found.metadata.labels or {},
                found.spec.selector or {},
                {port.name or "": int(port.port) for port in found.spec.ports},
            )
            for found in self._list("services", self._core.list_namespaced_service, labels)
        ]

    def pods(self, labels: Mapping[str, str]) -> Sequence[Pod]:
        """Pods that have not ended."""
        found = self._list("pods", self._core.list_namespaced_pod, labels)
        return [
            Pod(pod.metadata.name, _takes_calls(pod), "" if _takes_calls(pod) else _trouble(pod))
            for pod in found
            if pod.status.phase not in ("Succeeded", "Failed")
        ]

    def claims(self, labels: Mapping[str, str]) -> Sequence[Claim]:
        """Volume claims with these labels."""
        found = self._list("volume claims", self._core.list_namespaced_persistent_volume_claim, labels)
        return [Claim(claim.metadata.name, str(claim.status.phase)) for claim in found]

    def secret(self, name: str) -> Mapping[str, bytes] | None:
        """A Secret's content."""
        try:
            with self._errors(f"read the Secret {name}"):
                secret = self._core.read_namespaced_secret(name, self.namespace, _request_timeout=_SECONDS)
        except FailedPreconditionError as error:
            if error.metadata.get("status") == "404":
                return None
            raise
        return {key: base64.b64decode(value) for key, value in (secret.data or {}).items()}

    def nodes(self) -> Nodes:
        """All nodes together."""
        with self._errors("list nodes"):
            nodes = self._core.list_node(_request_timeout=_SECONDS).items
        ready = [node for node in nodes if _is_ready(node)]
        gpus: dict[str, int] = {}
        for node in ready:
            for name, amount in (node.status.allocatable or {}).items():
                if name.endswith("/gpu"):
                    gpus[name] = gpus.get(name, 0) + int(amount)
        return Nodes(len(ready), len(nodes), gpus)

    def storage_classes(self) -> Sequence[StorageClass]:
        """All storage classes."""
        with self._errors("list storage classes"):
            found = client.StorageV1Api(self._api).list_storage_class(_request_timeout=_SECONDS).items
        return [
            StorageClass(
                one.metadata.name, one.provisioner, (one.metadata.annotations or {}).get(_DEFAULT_CLASS) == "true"
            )
            for one in found
        ]

    def may(self, permission: Permission) -> bool:
        """Asks the API server's own authorizer."""
        resource, _, subresource = permission.resource.partition("/")
        attributes = client.V1ResourceAttributes(
            namespace=self.namespace,
            verb=permission.verb,
            group=permission.group,
            resource=resource,
            subresource=subresource or None,
        )
        api = client.AuthorizationV1Api(self._api)
        with self._errors("ask for permissions"):
            if not permission.account:
                review = client.V1SelfSubjectAccessReview(
                    spec=client.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes)
                )
                answer = api.create_self_subject_access_review(review, _request_timeout=_SECONDS)
            else:
                user = f"system:serviceaccount:{self.namespace}:{permission.account}"
                review = client.V1SubjectAccessReview(
                    spec=client.V1SubjectAccessReviewSpec(user=user, resource_attributes=attributes)
                )
                answer = api.create_subject_access_review(review, _request_timeout=_SECONDS)
        return bool(answer.status.allowed)

    def dial(self, pod: str, port: int) -> Socket:
        """A connection to a port of a pod."""
        # The client's portforward replaces the request method of its API object for a moment: each gets its own.
        core = client.CoreV1Api(client.ApiClient(self._configuration))
        with self._errors(f"forward to the pod {pod}"):
            forward = portforward(core.connect_get_namespaced_pod_portforward, pod, self.namespace, ports=str(port))
        return cast(Socket, forward.socket(port))

    def _list(self, what: str, method: Any, labels: Mapping[str, str]) -> Any:
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        with self._errors(f"list {what}"):
            return method(self.namespace, label_selector=selector, _request_timeout=_SECONDS).items

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except client.ApiException as error:
            raise self._refusal(error, what) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise UnavailableError(
                f"The Kubernetes API at {self._configuration.host} does not answer; check KUBECONFIG and the network.",
                reason="CLUSTER_UNAVAILABLE",
            ) from error

    def _refusal(
        self, error: client.ApiException, what: str
    ) -> UnauthenticatedError | PermissionDeniedError | UnavailableError | FailedPreconditionError:
        if error.status == 401:
            return UnauthenticatedError("The cluster does not know this kubeconfig's user; log in to it again.")
        if error.status == 403:
            return PermissionDeniedError(
                f"The cluster does not allow this user to {what} in the namespace {self.namespace}.",
                metadata={
                    "hint": "Ask the cluster's administrator for it; `ilf doctor --cluster` lists what is wanted."
                },
            )
        if error.status == 0 or error.status >= 500:
            return UnavailableError(f"The cluster could not {what}: {error.reason}", reason="CLUSTER_UNAVAILABLE")
        return FailedPreconditionError(
            f"The cluster could not {what}: {error.status} {error.reason}", metadata={"status": str(error.status)}
        )


def _is_ready(thing: Any) -> bool:
    conditions = thing.status.conditions or []
    return any(condition.type == "Ready" and condition.status == "True" for condition in conditions)


def _takes_calls(pod: Any) -> bool:
    """A pod that is being deleted says for a while that it is ready."""
    return _is_ready(pod) and pod.metadata.deletion_timestamp is None


def _trouble(pod: Any) -> str:
    """What Kubernetes says about a pod that is not ready: its containers' waiting or ending, then its conditions."""
    if pod.metadata.deletion_timestamp is not None:
        return "being deleted"
    status = pod.status
    for container in [*(status.init_container_statuses or []), *(status.container_statuses or [])]:
        state = container.state
        if state.waiting and state.waiting.reason not in (None, "ContainerCreating", "PodInitializing"):
            last = container.last_state.terminated
            ended = f", ended with exit code {last.exit_code}" if last else ""
            return f"{container.name}: {state.waiting.reason}{ended}"
        if state.terminated and state.terminated.exit_code:
            return f"{container.name}: ended with exit code {state.terminated.exit_code}"
    for condition in status.conditions or []:
        if condition.status == "False" and condition.type == "PodScheduled":
            return f"{condition.reason}: {condition.message}"
    return "starting"
