"""Two things every namespace has: the ServiceAccount `default` and the ConfigMap `kube-root-ca.crt`.

Both are level-triggered on the namespace's name: whoever deletes or changes one gets it back.
Source: kubernetes pkg/controller/serviceaccount, pkg/controller/certificates/rootcacertpublisher.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from podnet.controlplane.api import meta
from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import CONFIGMAPS, NAMESPACES, SERVICEACCOUNTS
from podnet.controlplane.api.types import Object, Resource
from podnet.controlplane.client.reconcile import DONE, Controller, Result
from podnet.controlplane.client.workqueue import WorkQueue
from podnet.controlplane.controllers.context import ControllerContext, handling

DEFAULT_NAME = "default"
ROOT_CA_NAME = "kube-root-ca.crt"
ROOT_CA_KEY = "ca.crt"
ROOT_CA_DESCRIPTION = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the "
    "internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes "
    "clusters."
)


def desired_service_account(namespace: str) -> Object:
    """The ServiceAccount of pods that name none."""
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": DEFAULT_NAME, "namespace": namespace}}


def desired_root_ca(namespace: str, certificate: str) -> Object:
    """What pods verify the API server with."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": ROOT_CA_NAME,
            "namespace": namespace,
            "annotations": {"kubernetes.io/description": ROOT_CA_DESCRIPTION},
        },
        "data": {ROOT_CA_KEY: certificate},
    }


class _PerNamespace:
    """One named object in every active namespace."""

    def __init__(
        self,
        context: ControllerContext,
        name: str,
        resource: Resource,
        object_name: str,
        desired: Callable[[str], Object],
    ) -> None:
        self._context = context
        self._name = name
        self._resource = resource
        self._object_name = object_name
        self._desired = desired
        self._namespaces = context.informers.of(NAMESPACES)
        self._objects = context.informers.of(resource)
        self._queue = WorkQueue()

    async def run(self) -> None:
        with handling((self._namespaces, self._on_namespace), (self._objects, self._on_object)):
            await self._context.informers.wait_synced(self._namespaces, self._objects)
            await Controller(self._name, self._queue, self.reconcile, workers=2).run()

    def _on_namespace(self, key: str, _old: Object | None, new: Object | None) -> None:
        if new is not None:
            self._queue.add(key)

    def _on_object(self, key: str, _old: Object | None, _new: Object | None) -> None:
        namespace, name = meta.split_key(key)
        if name == self._object_name:
            self._queue.add(namespace)

    async def reconcile(self, key: str) -> Result:
        """One namespace."""
        namespace = self._namespaces.get(key)
        if namespace is None or meta.is_terminating(namespace):
            return DONE
        desired = self._desired(key)
        current = self._objects.get(f"{key}/{self._object_name}")
        try:
            if current is None:
                await self._context.client.create(self._resource, desired)
            elif "data" in desired and current.get("data") != desired["data"]:
                await self._context.client.update(self._resource, {**current, "data": desired["data"]})
        except StatusError as error:
            # The namespace went, or another copy of us was faster: both are as they should be.
            if not (error.is_already_exists or error.is_not_found or _is_terminating(error)):
                raise
        return DONE


def _is_terminating(error: StatusError) -> bool:
    causes = (error.details or {}).get("causes") or ()
    return error.code == 403 and any(cause.get("reason") == "NamespaceTerminating" for cause in causes)


def run_service_account(context: ControllerContext) -> Awaitable[None]:
    """The ServiceAccount `default` everywhere."""
    return _PerNamespace(context, "serviceaccount", SERVICEACCOUNTS, DEFAULT_NAME, desired_service_account).run()


def run_root_ca(context: ControllerContext) -> Awaitable[None]:
    """The ConfigMap `kube-root-ca.crt` everywhere."""
    certificate = context.config.root_ca_file.read_text()
    return _PerNamespace(
        context, "root-ca", CONFIGMAPS, ROOT_CA_NAME, lambda namespace: desired_root_ca(namespace, certificate)
    ).run()
