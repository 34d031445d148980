"""Field numbers of meta/v1, of Kubernetes 1.32; the notation is explained in `schema.py`.

Source: the generated.proto files of k8s.io/api 0.32 and k8s.io/apimachinery 0.32.
"""

from __future__ import annotations

META = """
Condition = type:1 status:2 observedGeneration:3:int64 lastTransitionTime:4:Time reason:5 message:6
CreateOptions = dryRun:1* fieldManager:3 fieldValidation:4
DeleteOptions = gracePeriodSeconds:1?:int64 preconditions:2?:Preconditions orphanDependents:3?:bool
    propagationPolicy:4? dryRun:5* ignoreStoreReadErrorWithClusterBreakingPotential:6?:bool
FieldSelectorRequirement = key:1 operator:2 values:3*
LabelSelector = matchLabels:1% matchExpressions:2*:LabelSelectorRequirement
LabelSelectorRequirement = key:1 operator:2 values:3*
ListMeta = selfLink:1 resourceVersion:2 continue:3 remainingItemCount:4?:int64
ManagedFieldsEntry = manager:1 operation:2 apiVersion:3 time:4?:Time fieldsType:6 fieldsV1:7?:FieldsV1 subresource:8
ObjectMeta = name:1 generateName:2 namespace:3 selfLink:4 uid:5 resourceVersion:6 generation:7:int64
    creationTimestamp:8:Time deletionTimestamp:9?:Time deletionGracePeriodSeconds:10?:int64 labels:11%
    annotations:12% ownerReferences:13*:OwnerReference finalizers:14* managedFields:17*:ManagedFieldsEntry
OwnerReference = kind:1 name:3 uid:4 apiVersion:5 controller:6?:bool blockOwnerDeletion:7?:bool
Patch =
PatchOptions = dryRun:1* force:2?:bool fieldManager:3 fieldValidation:4
Preconditions = uid:1? resourceVersion:2?
Status = metadata:1:ListMeta status:2 message:3 reason:4 details:5?:StatusDetails code:6:int32
StatusCause = reason:1 message:2 field:3
StatusDetails = name:1 group:2 kind:3 causes:4*:StatusCause retryAfterSeconds:5:int32 uid:6
UpdateOptions = dryRun:1* fieldManager:2 fieldValidation:3
"""
