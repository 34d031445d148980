"""Field numbers of rbac, authentication, authorization and certificates, of Kubernetes 1.32; the notation is explained in `schema.py`.

Source: the generated.proto files of k8s.io/api 0.32.
"""

from __future__ import annotations

RBAC = """
AggregationRule = clusterRoleSelectors:1*:meta.v1.LabelSelector
ClusterRole = metadata:1:meta.v1.ObjectMeta rules:2*:PolicyRule aggregationRule:3?:AggregationRule
ClusterRoleBinding = metadata:1:meta.v1.ObjectMeta subjects:2*:Subject roleRef:3:RoleRef
PolicyRule = verbs:1* apiGroups:2* resources:3* resourceNames:4* nonResourceURLs:5*
Role = metadata:1:meta.v1.ObjectMeta rules:2*:PolicyRule
RoleBinding = metadata:1:meta.v1.ObjectMeta subjects:2*:Subject roleRef:3:RoleRef
RoleRef = apiGroup:1 kind:2 name:3
Subject = kind:1 apiGroup:2 name:3 namespace:4
"""

AUTHENTICATION = """
BoundObjectReference = kind:1 apiVersion:2 name:3 uid:4
SelfSubjectReview = metadata:1:meta.v1.ObjectMeta status:2:SelfSubjectReviewStatus
SelfSubjectReviewStatus = userInfo:1:UserInfo
TokenRequest = metadata:1:meta.v1.ObjectMeta spec:2:TokenRequestSpec status:3:TokenRequestStatus
TokenRequestSpec = audiences:1* boundObjectRef:3?:BoundObjectReference expirationSeconds:4?:int64
TokenRequestStatus = token:1 expirationTimestamp:2:Time
TokenReview = metadata:1:meta.v1.ObjectMeta spec:2:TokenReviewSpec status:3:TokenReviewStatus
TokenReviewSpec = token:1 audiences:2*
TokenReviewStatus = authenticated:1:bool user:2:UserInfo error:3 audiences:4*
UserInfo = username:1 uid:2 groups:3* extra:4%:ExtraValue
"""

AUTHORIZATION = """
FieldSelectorAttributes = rawSelector:1 requirements:2*:meta.v1.FieldSelectorRequirement
LabelSelectorAttributes = rawSelector:1 requirements:2*:meta.v1.LabelSelectorRequirement
LocalSubjectAccessReview = metadata:1:meta.v1.ObjectMeta spec:2:SubjectAccessReviewSpec
    status:3:SubjectAccessReviewStatus
NonResourceAttributes = path:1 verb:2
NonResourceRule = verbs:1* nonResourceURLs:2*
ResourceAttributes = namespace:1 verb:2 group:3 version:4 resource:5 subresource:6 name:7
    fieldSelector:8?:FieldSelectorAttributes labelSelector:9?:LabelSelectorAttributes
ResourceRule = verbs:1* apiGroups:2* resources:3* resourceNames:4*
SelfSubjectAccessReview = metadata:1:meta.v1.ObjectMeta spec:2:SelfSubjectAccessReviewSpec
    status:3:SubjectAccessReviewStatus
SelfSubjectAccessReviewSpec = resourceAttributes:1?:ResourceAttributes
    nonResourceAttributes:2?:NonResourceAttributes
SelfSubjectRulesReview = metadata:1:meta.v1.ObjectMeta spec:2:SelfSubjectRulesReviewSpec
    status:3:SubjectRulesReviewStatus
SelfSubjectRulesReviewSpec = namespace:1
SubjectAccessReview = metadata:1:meta.v1.ObjectMeta spec:2:SubjectAccessReviewSpec
    status:3:SubjectAccessReviewStatus
SubjectAccessReviewSpec = resourceAttributes:1?:ResourceAttributes nonResourceAttributes:2?:NonResourceAttributes
    user:3 groups:4* extra:5%:ExtraValue uid:6
SubjectAccessReviewStatus = allowed:1:bool reason:2 evaluationError:3 denied:4:bool
SubjectRulesReviewStatus = resourceRules:1*:ResourceRule nonResourceRules:2*:NonResourceRule incomplete:3:bool
    evaluationError:4
"""

CERTIFICATES = """
CertificateSigningRequest = metadata:1:meta.v1.ObjectMeta spec:2:CertificateSigningRequestSpec
    status:3:CertificateSigningRequestStatus
CertificateSigningRequestCondition = type:1 reason:2 message:3 lastUpdateTime:4:Time lastTransitionTime:5:Time
    status:6
CertificateSigningRequestSpec = request:1:bytes username:2 uid:3 groups:4* usages:5* extra:6%:ExtraValue
    signerName:7 expirationSeconds:8?:int32
CertificateSigningRequestStatus = conditions:1*:CertificateSigningRequestCondition certificate:2:bytes
"""
