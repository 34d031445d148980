"""The registry of built-in resources: Kubernetes 1.32, GA versions, in the order discovery lists the groups.

One line of `_TABLE` is one resource:

    group/version  plural  Kind  scope  short names  categories  verbs  subresources
    apps/v1        deployments Deployment N deploy all * scale status

Scope is N (namespaced) or C (cluster). `*` stands for all eight verbs, `*-x` for all but x, `-` for none. A subresource
word is looked up in `_SUBRESOURCES`. Everything else (discovery, OpenAPI paths, routing) is derived from these rows.
Source: Kubernetes API conventions, "Types (Kinds)" and "Resources"; `kubectl api-resources -o wide` of 1.32.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from podnet.controlplane.api.types import Resource, Subresource

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")

_TABLE = """
v1 bindings                Binding               N -       -   create   -
v1 componentstatuses       ComponentStatus       C cs      -   get,list -
v1 configmaps              ConfigMap             N cm      -   *        -
v1 endpoints               Endpoints             N ep      -   *        -
v1 events                  Event                 N ev      -   *        -
v1 limitranges             LimitRange            N limits  -   *        -
v1 namespaces              Namespace             C ns      -   *-deletecollection finalize,status
v1 nodes                   Node                  C no      -   *        nodeproxy,status
v1 persistentvolumeclaims  PersistentVolumeClaim N pvc     -   *        status
v1 persistentvolumes       PersistentVolume      C pv      -   *        status
v1 pods                    Pod                   N po      all *        attach,binding,ephemeralcontainers,eviction,exec,log,portforward,podproxy,status
v1 podtemplates            PodTemplate           N -       -   *        -
v1 replicationcontrollers  ReplicationController N rc      all *        scale,status
v1 resourcequotas          ResourceQuota         N quota   -   *        status
v1 secrets                 Secret                N -       -   *        -
v1 serviceaccounts         ServiceAccount        N sa      -   *        token
v1 services                Service               N svc     all *        serviceproxy,status
apiregistration.k8s.io/v1 apiservices   APIService  C - api-extensions * status
apps/v1 controllerrevisions ControllerRevision N -      -   * -
apps/v1 daemonsets          DaemonSet          N ds     all * status
apps/v1 deployments         Deployment         N deploy all * scale,status
apps/v1 replicasets         ReplicaSet         N rs     all * scale,status
apps/v1 statefulsets        StatefulSet        N sts    all * scale,status
events.k8s.io/v1 events Event N ev - * -
authentication.k8s.io/v1 selfsubjectreviews SelfSubjectReview C - - create -
authentication.k8s.io/v1 tokenreviews       TokenReview       C - - create -
authorization.k8s.io/v1 localsubjectaccessreviews LocalSubjectAccessReview N - - create -
authorization.k8s.io/v1 selfsubjectaccessreviews  SelfSubjectAccessReview  C - - create -
authorization.k8s.io/v1 selfsubjectrulesreviews   SelfSubjectRulesReview   C - - create -
authorization.k8s.io/v1 subjectaccessreviews      SubjectAccessReview      C - - create -
autoscaling/v2 horizontalpodautoscalers HorizontalPodAutoscaler N hpa all * status
autoscaling/v1 horizontalpodautoscalers HorizontalPodAutoscaler N hpa all * status
batch/v1 cronjobs CronJob N cj all * status
batch/v1 jobs     Job     N -  all * status
certificates.k8s.io/v1 certificatesigningrequests CertificateSigningRequest C csr - * approval,status
networking.k8s.io/v1 ingressclasses  IngressClass  C -      - * -
networking.k8s.io/v1 ingresses       Ingress       N ing    - * status
networking.k8s.io/v1 networkpolicies NetworkPolicy N netpol - * -
networking.k8s.io/v1beta1 ipaddresses  IPAddress   C ip - * -
networking.k8s.io/v1beta1 servicecidrs ServiceCIDR C -  - * status
policy/v1 poddisruptionbudgets PodDisruptionBudget N pdb - * status
rbac.authorization.k8s.io/v1 clusterrolebindings ClusterRoleBinding C - - * -
rbac.authorization.k8s.io/v1 clusterroles        ClusterRole        C - - * -
rbac.authorization.k8s.io/v1 rolebindings        RoleBinding        N - - * -
rbac.authorization.k8s.io/v1 roles               Role               N - - * -
storage.k8s.io/v1 csidrivers           CSIDriver          C -  - * -
storage.k8s.io/v1 csinodes             CSINode            C -  - * -
storage.k8s.io/v1 csistoragecapacities CSIStorageCapacity N -  - * -
storage.k8s.io/v1 storageclasses       StorageClass       C sc - * -
storage.k8s.io/v1 volumeattachments    VolumeAttachment   C -  - * status
admissionregistration.k8s.io/v1 mutatingwebhookconfigurations     MutatingWebhookConfiguration     C - api-extensions * -
admissionregistration.k8s.io/v1 validatingadmissionpolicies       ValidatingAdmissionPolicy        C - api-extensions * status
admissionregistration.k8s.io/v1 validatingadmissionpolicybindings ValidatingAdmissionPolicyBinding C - api-extensions * -
admissionregistration.k8s.io/v1 validatingwebhookconfigurations   ValidatingWebhookConfiguration   C - api-extensions * -
apiextensions.k8s.io/v1 customresourcedefinitions CustomResourceDefinition C crd,crds api-extensions * status
scheduling.k8s.io/v1 priorityclasses PriorityClass C pc - * -
coordination.k8s.io/v1 leases Lease N - - * -
node.k8s.io/v1 runtimeclasses RuntimeClass C - - * -
discovery.k8s.io/v1 endpointslices EndpointSlice N - - * -
flowcontrol.apiserver.k8s.io/v1 flowschemas FlowSchema C - - * status
flowcontrol.apiserver.k8s.io/v1 prioritylevelconfigurations PriorityLevelConfiguration C - - * status
"""

_READ_WRITE = ("get", "patch", "update")
_CONNECT = ("create", "get")
_PROXY = ("create", "delete", "get", "patch", "update")

# word -> (subresource, its kind ("" = the resource's own), its api version ("" = the resource's own), verbs)
_SUBRESOURCES: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "approval": ("approval", "", "", _READ_WRITE),
    "attach": ("attach", "PodAttachOptions", "v1", _CONNECT),
    "binding": ("binding", "Binding", "v1", ("create",)),
    "ephemeralcontainers": ("ephemeralcontainers", "", "", _READ_WRITE),
    "eviction": ("eviction", "Eviction", "policy/v1", ("create",)),
    "exec": ("exec", "PodExecOptions", "v1", _CONNECT),
    "finalize": ("finalize", "", "", ("update",)),
    "log": ("log", "", "", ("get",)),
    "nodeproxy": ("proxy", "NodeProxyOptions", "v1", _PROXY),
    "podproxy": ("proxy", "PodProxyOptions", "v1", _PROXY),
    "portforward": ("portforward", "PodPortForwardOptions", "v1", _CONNECT),
    "scale": ("scale", "Scale", "autoscaling/v1", _READ_WRITE),
    "serviceproxy": ("proxy", "ServiceProxyOptions", "v1", _PROXY),
    "status": ("status", "", "", _READ_WRITE),
    "token": ("token", "TokenRequest", "authentication.k8s.io/v1", ("create",)),
}


def split_api_version(api_version: str) -> tuple[str, str]:
    """`apps/v1` -> ("apps", "v1"); `v1` -> ("", "v1")."""
    group, _, version = api_version.rpartition("/")
    return group, version


def _words(column: str) -> tuple[str, ...]:
    return () if column == "-" else tuple(column.split(","))


def _verbs(column: str) -> tuple[str, ...]:
    if column.startswith("*"):
        return tuple(verb for verb in ALL_VERBS if verb != column[2:])
    return _words(column)


def _subresource(word: str, group: str, version: str, kind: str) -> Subresource:
    name, own_kind, api_version, verbs = _SUBRESOURCES[word]
    if api_version:
        group, version = split_api_version(api_version)
    return Subresource(name, own_kind or kind, group, version, verbs)


def _row(line: str) -> Resource:
    api_version, plural, kind, scope, short_names, categories, verbs, subresources = line.split()
    group, version = split_api_version(api_version)
    subs = (_subresource(word, group, version, kind) for word in _words(subresources))
    return Resource(
        group=group,
        version=version,
        plural=plural,
        singular=kind.lower(),
        kind=kind,
        namespaced=scope == "N",
        verbs=_verbs(verbs),
        short_names=_words(short_names),
        categories=_words(categories),
        subresources=MappingProxyType({sub.name: sub for sub in subs}),
    )


RESOURCES: tuple[Resource, ...] = tuple(_row(line) for line in _TABLE.strip().splitlines())

_BY_PLURAL = {(r.group, r.version, r.plural): r for r in RESOURCES}
_BY_KIND = {(r.api_version, r.kind): r for r in RESOURCES}


def find(group: str, version: str, plural: str) -> Resource | None:
    """The resource a URL names."""
    return _BY_PLURAL.get((group, version, plural))


def by_kind(api_version: str, kind: str) -> Resource | None:
    """The resource an object belongs to."""
    return _BY_KIND.get((api_version, kind))


def group_versions() -> Mapping[tuple[str, str], tuple[Resource, ...]]:
    """(group, version) -> its resources; core first, a group's preferred version before its others."""
    return _GROUP_VERSIONS


def _group_versions() -> Mapping[tuple[str, str], tuple[Resource, ...]]:
    out: dict[tuple[str, str], tuple[Resource, ...]] = {}
    for resource in RESOURCES:
        key = (resource.group, resource.version)
        out[key] = (*out.get(key, ()), resource)
    return MappingProxyType(out)


_GROUP_VERSIONS = _group_versions()


def _must(api_version: str, plural: str) -> Resource:
    group, version = split_api_version(api_version)
    return _BY_PLURAL[group, version, plural]


BINDINGS = _must("v1", "bindings")
COMPONENTSTATUSES = _must("v1", "componentstatuses")
CONFIGMAPS = _must("v1", "configmaps")
ENDPOINTS = _must("v1", "endpoints")
EVENTS = _must("v1", "events")
LIMITRANGES = _must("v1", "limitranges")
NAMESPACES = _must("v1", "namespaces")
NODES = _must("v1", "nodes")
PERSISTENTVOLUMECLAIMS = _must("v1", "persistentvolumeclaims")
PERSISTENTVOLUMES = _must("v1", "persistentvolumes")
PODS = _must("v1", "pods")
PODTEMPLATES = _must("v1", "podtemplates")
REPLICATIONCONTROLLERS = _must("v1", "replicationcontrollers")
RESOURCEQUOTAS = _must("v1", "resourcequotas")
SECRETS = _must("v1", "secrets")
SERVICEACCOUNTS = _must("v1", "serviceaccounts")
SERVICES = _must("v1", "services")
APISERVICES = _must("apiregistration.k8s.io/v1", "apiservices")
CONTROLLERREVISIONS = _must("apps/v1", "controllerrevisions")
DAEMONSETS = _must("apps/v1", "daemonsets")
DEPLOYMENTS = _must("apps/v1", "deployments")
REPLICASETS = _must("apps/v1", "replicasets")
STATEFULSETS = _must("apps/v1", "statefulsets")
EVENTS_V1 = _must("events.k8s.io/v1", "events")
SELFSUBJECTREVIEWS = _must("authentication.k8s.io/v1", "selfsubjectreviews")
TOKENREVIEWS = _must("authentication.k8s.io/v1", "tokenreviews")
LOCALSUBJECTACCESSREVIEWS = _must("authorization.k8s.io/v1", "localsubjectaccessreviews")
SELFSUBJECTACCESSREVIEWS = _must("authorization.k8s.io/v1", "selfsubjectaccessreviews")
SELFSUBJECTRULESREVIEWS = _must("authorization.k8s.io/v1", "selfsubjectrulesreviews")
SUBJECTACCESSREVIEWS = _must("authorization.k8s.io/v1", "subjectaccessreviews")
HORIZONTALPODAUTOSCALERS = _must("autoscaling/v2", "horizontalpodautoscalers")
HORIZONTALPODAUTOSCALERS_V1 = _must("autoscaling/v1", "horizontalpodautoscalers")
CRONJOBS = _must("batch/v1", "cronjobs")
JOBS = _must("batch/v1", "jobs")
CERTIFICATESIGNINGREQUESTS = _must("certificates.k8s.io/v1", "certificatesigningrequests")
INGRESSCLASSES = _must("networking.k8s.io/v1", "ingressclasses")
INGRESSES = _must("networking.k8s.io/v1", "ingresses")
NETWORKPOLICIES = _must("networking.k8s.io/v1", "networkpolicies")
IPADDRESSES = _must("networking.k8s.io/v1beta1", "ipaddresses")
SERVICECIDRS = _must("networking.k8s.io/v1beta1", "servicecidrs")
PODDISRUPTIONBUDGETS = _must("policy/v1", "poddisruptionbudgets")
CLUSTERROLEBINDINGS = _must("rbac.authorization.k8s.io/v1", "clusterrolebindings")
CLUSTERROLES = _must("rbac.authorization.k8s.io/v1", "clusterroles")
ROLEBINDINGS = _must("rbac.authorization.k8s.io/v1", "rolebindings")
ROLES = _must("rbac.authorization.k8s.io/v1", "roles")
CSIDRIVERS = _must("storage.k8s.io/v1", "csidrivers")
CSINODES = _must("storage.k8s.io/v1", "csinodes")
CSISTORAGECAPACITIES = _must("storage.k8s.io/v1", "csistoragecapacities")
STORAGECLASSES = _must("storage.k8s.io/v1", "storageclasses")
VOLUMEATTACHMENTS = _must("storage.k8s.io/v1", "volumeattachments")
CUSTOMRESOURCEDEFINITIONS = _must("apiextensions.k8s.io/v1", "customresourcedefinitions")
PRIORITYCLASSES = _must("scheduling.k8s.io/v1", "priorityclasses")
LEASES = _must("coordination.k8s.io/v1", "leases")
RUNTIMECLASSES = _must("node.k8s.io/v1", "runtimeclasses")
ENDPOINTSLICES = _must("discovery.k8s.io/v1", "endpointslices")

# Two versions of one stored thing: what is written through one is read through the other. `versions.py` converts.
_STORED_AS = {EVENTS_V1: EVENTS, HORIZONTALPODAUTOSCALERS_V1: HORIZONTALPODAUTOSCALERS}


def storage_resource(resource: Resource) -> Resource:
    """The resource whose form and keys are stored: itself, but core `events` for events.k8s.io, v2 for autoscaling/v1."""
    return _STORED_AS.get(resource, resource)
