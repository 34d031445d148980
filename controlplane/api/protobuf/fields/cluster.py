"""Field numbers of admissionregistration, flowcontrol, node, scheduling and storage, of Kubernetes 1.32; the notation is explained in `schema.py`.

Source: the generated.proto files of k8s.io/api 0.32.
"""

from __future__ import annotations

ADMISSIONREGISTRATION = """
AuditAnnotation = key:1 valueExpression:2
ExpressionWarning = fieldRef:2 warning:3
MatchCondition = name:1 expression:2
MatchResources = namespaceSelector:1?:meta.v1.LabelSelector objectSelector:2?:meta.v1.LabelSelector
    resourceRules:3*:NamedRuleWithOperations excludeResourceRules:4*:NamedRuleWithOperations matchPolicy:7?
MutatingWebhook = name:1 clientConfig:2:WebhookClientConfig rules:3*:RuleWithOperations failurePolicy:4?
    namespaceSelector:5?:meta.v1.LabelSelector sideEffects:6? timeoutSeconds:7?:int32 admissionReviewVersions:8*
    matchPolicy:9? reinvocationPolicy:10? objectSelector:11?:meta.v1.LabelSelector
    matchConditions:12*:MatchCondition
MutatingWebhookConfiguration = metadata:1:meta.v1.ObjectMeta webhooks:2*:MutatingWebhook
NamedRuleWithOperations = resourceNames:1* ruleWithOperations:2^:RuleWithOperations
ParamKind = apiVersion:1 kind:2
ParamRef = name:1 namespace:2 selector:3?:meta.v1.LabelSelector parameterNotFoundAction:4?
Rule = apiGroups:1* apiVersions:2* resources:3* scope:4?
RuleWithOperations = operations:1* rule:2^:Rule
ServiceReference = namespace:1 name:2 path:3? port:4?:int32
TypeChecking = expressionWarnings:1*:ExpressionWarning
ValidatingAdmissionPolicy = metadata:1:meta.v1.ObjectMeta spec:2:ValidatingAdmissionPolicySpec
    status:3:ValidatingAdmissionPolicyStatus
ValidatingAdmissionPolicyBinding = metadata:1:meta.v1.ObjectMeta spec:2:ValidatingAdmissionPolicyBindingSpec
ValidatingAdmissionPolicyBindingSpec = policyName:1 paramRef:2?:ParamRef matchResources:3?:MatchResources
    validationActions:4*
ValidatingAdmissionPolicySpec = paramKind:1?:ParamKind matchConstraints:2?:MatchResources validations:3*:Validation
    failurePolicy:4? auditAnnotations:5*:AuditAnnotation matchConditions:6*:MatchCondition variables:7*:Variable
ValidatingAdmissionPolicyStatus = observedGeneration:1:int64 typeChecking:2?:TypeChecking
    conditions:3*:meta.v1.Condition
ValidatingWebhook = name:1 clientConfig:2:WebhookClientConfig rules:3*:RuleWithOperations failurePolicy:4?
    namespaceSelector:5?:meta.v1.LabelSelector sideEffects:6? timeoutSeconds:7?:int32 admissionReviewVersions:8*
    matchPolicy:9? objectSelector:10?:meta.v1.LabelSelector matchConditions:11*:MatchCondition
ValidatingWebhookConfiguration = metadata:1:meta.v1.ObjectMeta webhooks:2*:ValidatingWebhook
Validation = expression:1 message:2 reason:3? messageExpression:4
Variable = name:1 expression:2
WebhookClientConfig = service:1?:ServiceReference caBundle:2:bytes url:3?
"""

FLOWCONTROL = """
ExemptPriorityLevelConfiguration = nominalConcurrencyShares:1?:int32 lendablePercent:2?:int32
FlowDistinguisherMethod = type:1
FlowSchema = metadata:1:meta.v1.ObjectMeta spec:2:FlowSchemaSpec status:3:FlowSchemaStatus
FlowSchemaCondition = type:1 status:2 lastTransitionTime:3:Time reason:4 message:5
FlowSchemaSpec = priorityLevelConfiguration:1:PriorityLevelConfigurationReference matchingPrecedence:2:int32
    distinguisherMethod:3?:FlowDistinguisherMethod rules:4*:PolicyRulesWithSubjects
FlowSchemaStatus = conditions:1*:FlowSchemaCondition
GroupSubject = name:1
LimitResponse = type:1 queuing:2?:QueuingConfiguration
LimitedPriorityLevelConfiguration = nominalConcurrencyShares:1?:int32 limitResponse:2:LimitResponse
    lendablePercent:3?:int32 borrowingLimitPercent:4?:int32
NonResourcePolicyRule = verbs:1* nonResourceURLs:6*
PolicyRulesWithSubjects = subjects:1*:Subject resourceRules:2*:ResourcePolicyRule
    nonResourceRules:3*:NonResourcePolicyRule
PriorityLevelConfiguration = metadata:1:meta.v1.ObjectMeta spec:2:PriorityLevelConfigurationSpec
    status:3:PriorityLevelConfigurationStatus
PriorityLevelConfigurationCondition = type:1 status:2 lastTransitionTime:3:Time reason:4 message:5
PriorityLevelConfigurationReference = name:1
PriorityLevelConfigurationSpec = type:1 limited:2?:LimitedPriorityLevelConfiguration
    exempt:3?:ExemptPriorityLevelConfiguration
PriorityLevelConfigurationStatus = conditions:1*:PriorityLevelConfigurationCondition
QueuingConfiguration = queues:1:int32 handSize:2:int32 queueLengthLimit:3:int32
ResourcePolicyRule = verbs:1* apiGroups:2* resources:3* clusterScope:4:bool namespaces:5*
ServiceAccountSubject = namespace:1 name:2
Subject = kind:1 user:2?:UserSubject group:3?:GroupSubject serviceAccount:4?:ServiceAccountSubject
UserSubject = name:1
"""

NODE = """
Overhead = podFixed:1%:Quantity
RuntimeClass = metadata:1:meta.v1.ObjectMeta handler:2 overhead:3?:Overhead scheduling:4?:Scheduling
Scheduling = nodeSelector:1% tolerations:2*:core.v1.Toleration
"""

SCHEDULING = """
PriorityClass = metadata:1:meta.v1.ObjectMeta value:2:int32 globalDefault:3:bool description:4 preemptionPolicy:5?
"""

STORAGE = """
CSIDriver = metadata:1:meta.v1.ObjectMeta spec:2:CSIDriverSpec
CSIDriverSpec = attachRequired:1?:bool podInfoOnMount:2?:bool volumeLifecycleModes:3* storageCapacity:4?:bool
    fsGroupPolicy:5? tokenRequests:6*:TokenRequest requiresRepublish:7?:bool seLinuxMount:8?:bool
CSINode = metadata:1:meta.v1.ObjectMeta spec:2:CSINodeSpec
CSINodeDriver = name:1 nodeID:2 topologyKeys:3* allocatable:4?:VolumeNodeResources
CSINodeSpec = drivers:1*:CSINodeDriver
CSIStorageCapacity = metadata:1:meta.v1.ObjectMeta nodeTopology:2?:meta.v1.LabelSelector storageClassName:3
    capacity:4?:Quantity maximumVolumeSize:5?:Quantity
StorageClass = metadata:1:meta.v1.ObjectMeta provisioner:2 parameters:3% reclaimPolicy:4? mountOptions:5*
    allowVolumeExpansion:6?:bool volumeBindingMode:7? allowedTopologies:8*:core.v1.TopologySelectorTerm
TokenRequest = audience:1 expirationSeconds:2?:int64
VolumeAttachment = metadata:1:meta.v1.ObjectMeta spec:2:VolumeAttachmentSpec status:3:VolumeAttachmentStatus
VolumeAttachmentSource = persistentVolumeName:1? inlineVolumeSpec:2?:core.v1.PersistentVolumeSpec
VolumeAttachmentSpec = attacher:1 source:2:VolumeAttachmentSource nodeName:3
VolumeAttachmentStatus = attached:1:bool attachmentMetadata:2% attachError:3?:VolumeError detachError:4?:VolumeError
VolumeError = time:1:Time message:2
VolumeNodeResources = count:1?:int32
"""
