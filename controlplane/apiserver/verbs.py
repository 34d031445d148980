"""The verbs by resource and subresource: which function answers create, update and patch.

Both doors, HTTP and the in-process client, come through here, so they cannot differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from podnet.controlplane.api import schema
from podnet.controlplane.api.errors import (
    Cause,
    StatusError,
    bad_request,
    go_quoted,
    internal_error,
    invalid,
    invalid_value,
    method_not_allowed,
    not_supported,
)
from podnet.controlplane.api.types import Object, Resource
from podnet.controlplane.apiserver import managers, scheme
from podnet.controlplane.apiserver import metadata as meta
from podnet.controlplane.apiserver.admission import Attributes, admit
from podnet.controlplane.apiserver.options import DeleteOptions, UserInfo, WriteOptions
from podnet.controlplane.apiserver.patching import PatchType
from podnet.controlplane.apiserver.registry import Registry
from podnet.controlplane.apiserver.subresources import binding, eviction, reviews, scale, token
from podnet.controlplane.apiserver.tokens import TokenIssuer
from podnet.controlplane.apiserver.watchcache import Entry

AS_OBJECT = frozenset({"", "status", "approval", "ephemeralcontainers", "finalize"})
"""Subresources that are updates of their object under another strategy."""

PROPAGATION = ("", "Foreground", "Background", "Orphan")


@dataclass(frozen=True, slots=True)
class Request:
    """What a URL addresses, and who asks."""

    resource: Resource
    namespace: str
    name: str
    subresource: str
    user: UserInfo


@dataclass(frozen=True, slots=True)
class Answer:
    """An object to answer with; `entry` where its bytes may be shared. `created` makes it a 201."""

    obj: Object
    entry: Entry | None = None
    created: bool = False


def of_entry(entry: Entry, *, created: bool = False) -> Answer:
    """The answer that is a stored object."""
    return Answer(entry.obj, entry, created)


async def create(
    registry: Registry, tokens: TokenIssuer | None, request: Request, obj: Any, options: WriteOptions
) -> Answer:
    """POST to a collection or a subresource."""
    resource, subresource = request.resource, request.subresource
    managers.check_options(options)
    if subresource:
        return await _create_subresource(registry, tokens, request, obj, options)
    if "create" not in resource.verbs:
        raise method_not_allowed()
    if resource.plural == "bindings":
        body = scheme.check_fields(meta.type_check(obj, resource), options)
        name = body["metadata"].get("name") or ""
        return Answer(await binding.bind(registry, request.namespace, name, body, options), created=True)
    if resource.group in {"authentication.k8s.io", "authorization.k8s.io"}:
        body = scheme.check_fields(meta.type_check(obj, resource), options)
        return Answer(_review(registry, tokens, request, body), created=True)
    return of_entry(await registry.create(resource, request.namespace, obj, options), created=True)


def _review(registry: Registry, tokens: TokenIssuer | None, request: Request, body: Object) -> Object:
    plural = request.resource.plural
    if plural == "selfsubjectreviews":
        return reviews.self_subject_review(body, request.user, registry.clock())
    if plural == "selfsubjectrulesreviews":
        return reviews.self_subject_rules_review(body)
    if plural == "tokenreviews":
        return token.review_token(registry, _need(tokens), body)
    return reviews.access_review(body, request.user if plural == "selfsubjectaccessreviews" else None)


async def _create_subresource(
    registry: Registry, tokens: TokenIssuer | None, request: Request, obj: Any, options: WriteOptions
) -> Answer:
    resource, namespace, name = request.resource, request.namespace, request.name
    sub = resource.subresources.get(request.subresource)
    if sub is None or "create" not in sub.verbs or sub.name not in {"binding", "eviction", "token"}:
        raise method_not_allowed()
    api_version = f"{sub.group}/{sub.version}" if sub.group else sub.version
    body = obj if obj is not None else {}
    body = scheme.check_fields(meta.type_check(body, resource, api_version=api_version, kind=sub.kind), options)
    admit(Attributes("CREATE", resource, namespace, name, body, subresource=sub.name, user=options.user), registry)
    if sub.name == "binding":
        return Answer(await binding.bind(registry, namespace, name, body, options), created=True)
    if sub.name == "token":
        return Answer(await token.request_token(registry, _need(tokens), namespace, name, body), created=True)
    delete = parse_delete_options(body.get("deleteOptions"), DeleteOptions(options.user, options.dry_run))
    return Answer(await eviction.evict(registry, namespace, name, body, options, delete), created=True)


def _need(tokens: TokenIssuer | None) -> TokenIssuer:
    if tokens is None:
        raise internal_error("this server has no key to sign tokens with")
    return tokens


async def update(registry: Registry, request: Request, obj: Any, options: WriteOptions) -> Answer:
    """PUT of an object or a subresource."""
    _check_verb(request, "update")
    managers.check_options(options, kind="UpdateOptions")
    if request.subresource == "scale":
        body = obj if isinstance(obj, dict) else {}
        return Answer(await scale.put_scale(registry, request.resource, request.namespace, request.name, body, options))
    entry, created = await registry.update(
        request.resource, request.namespace, request.name, obj, options, subresource=request.subresource
    )
    return of_entry(entry, created=created)


async def patch(
    registry: Registry, request: Request, patch_body: Any, patch_type: PatchType, options: WriteOptions
) -> Answer:
    """PATCH of an object or a subresource."""
    _check_verb(request, "patch")
    managers.check_options(options, patch_type=patch_type)
    resource, namespace, name = request.resource, request.namespace, request.name
    if patch_type == "apply" and request.subresource != "scale":
        entry, created = await registry.apply(
            resource, namespace, name, patch_body, options, subresource=request.subresource
        )
        return of_entry(entry, created=created)
    if request.subresource == "scale":
        return Answer(await scale.patch_scale(registry, resource, namespace, name, patch_body, patch_type, options))
    return of_entry(
        await registry.patch(
            resource, namespace, name, patch_body, patch_type, options, subresource=request.subresource
        )
    )


async def get(registry: Registry, request: Request, resource_version: str = "") -> Answer:
    """GET of an object or of the subresources that are objects."""
    _check_verb(request, "get")
    if request.subresource == "scale":
        return Answer(await scale.get_scale(registry, request.resource, request.namespace, request.name))
    return of_entry(
        await registry.get(request.resource, request.namespace, request.name, resource_version=resource_version)
    )


def _check_verb(request: Request, verb: str) -> None:
    resource = request.resource
    if not request.subresource:
        if verb not in resource.verbs:
            raise method_not_allowed()
        return
    sub = resource.subresources.get(request.subresource)
    if sub is None or verb not in sub.verbs or (sub.name not in AS_OBJECT and sub.name != "scale"):
        raise method_not_allowed()


def parse_delete_options(body: Any, options: DeleteOptions) -> DeleteOptions:
    """DeleteOptions as a body says them, over what the query said; 400 or 422 for what makes no sense."""
    if body is not None:
        _read_delete_options(body, options)
    if options.propagation not in PROPAGATION:
        causes = [not_supported("propagationPolicy", options.propagation, [*PROPAGATION[1:], "nil"], sort=False)]
        raise _invalid_delete_options(causes)
    return options


def _read_delete_options(body: Any, options: DeleteOptions) -> None:
    if not isinstance(body, Mapping):
        raise bad_request(
            "the object provided is unrecognized (must be of type DeleteOptions): it is not a JSON object"
        )
    if body.get("kind") not in {None, "DeleteOptions"}:
        raise bad_request(f"expected DeleteOptions, got {body.get('kind')}")
    problem = schema.decode_error({**body, "apiVersion": "v1", "kind": "DeleteOptions"})
    if problem is not None:
        raise bad_request(problem)
    period = body.get("gracePeriodSeconds")
    if period is not None:
        if not isinstance(period, int) or not -(2**63) <= period < 2**63:
            raise bad_request(
                'DeleteOptions in version "v1" cannot be handled as a DeleteOptions: json: cannot unmarshal number '
                f"{period} into Go struct field DeleteOptions.gracePeriodSeconds of type int64"
            )
        options.grace_period_s = period
    policy, orphan = body.get("propagationPolicy"), body.get("orphanDependents")
    if policy is not None and orphan is not None:
        raise propagation_and_orphan(policy)
    if policy is not None:
        options.propagation = policy
    elif orphan is not None:
        options.propagation = "Orphan" if orphan else "Background"
    preconditions = body.get("preconditions") or {}
    options.uid = str(preconditions.get("uid") or "")
    options.resource_version = str(preconditions.get("resourceVersion") or "")
    if body.get("dryRun"):
        options.dry_run = parse_dry_run(body["dryRun"])


def parse_dry_run(values: Any, kind: str = "DeleteOptions") -> bool:
    """`dryRun=All` and nothing else; 422 naming `kind`."""
    causes = dry_run_causes(values)
    if causes:
        raise invalid(kind, "", causes, "meta.k8s.io")
    return bool(values)


def dry_run_causes(values: Any) -> list[Cause]:
    """What is wrong with a list of dryRun directives."""
    said = [values] if isinstance(values, str) else values or []
    if all(value == "All" for value in said):
        return []
    shown = "[]string{" + ", ".join(go_quoted(str(value)) for value in said) + "}"
    return [Cause("FieldValueNotSupported", f'Unsupported value: {shown}: supported values: "All"', "dryRun")]


def propagation_and_orphan(policy: str) -> StatusError:
    """422: two ways of saying what happens to dependents."""
    cause = invalid_value("propagationPolicy", policy, "orphanDependents and deletionPropagation cannot be both set")
    return _invalid_delete_options([cause])


def _invalid_delete_options(causes: list[Cause]) -> StatusError:
    return invalid("DeleteOptions", "", causes, "meta.k8s.io")
