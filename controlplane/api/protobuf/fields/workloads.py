"""Field numbers of apps, batch, autoscaling and policy, of Kubernetes 1.32; the notation is explained in `schema.py`.

Source: the generated.proto files of k8s.io/api 0.32.
"""

from __future__ import annotations

APPS = """
ControllerRevision = metadata:1:meta.v1.ObjectMeta data:2:RawExtension revision:3:int64
DaemonSet = metadata:1:meta.v1.ObjectMeta spec:2:DaemonSetSpec status:3:DaemonSetStatus
DaemonSetCondition = type:1 status:2 lastTransitionTime:3:Time reason:4 message:5
DaemonSetSpec = selector:1?:meta.v1.LabelSelector template:2:core.v1.PodTemplateSpec
    updateStrategy:3:DaemonSetUpdateStrategy minReadySeconds:4:int32 revisionHistoryLimit:6?:int32
DaemonSetStatus = currentNumberScheduled:1:int32 numberMisscheduled:2:int32 desiredNumberScheduled:3:int32
    numberReady:4:int32 observedGeneration:5:int64 updatedNumberScheduled:6:int32 numberAvailable:7:int32
    numberUnavailable:8:int32 collisionCount:9?:int32 conditions:10*:DaemonSetCondition
DaemonSetUpdateStrategy = type:1 rollingUpdate:2?:RollingUpdateDaemonSet
Deployment = metadata:1:meta.v1.ObjectMeta spec:2:DeploymentSpec status:3:DeploymentStatus
DeploymentCondition = type:1 status:2 reason:4 message:5 lastUpdateTime:6:Time lastTransitionTime:7:Time
DeploymentSpec = replicas:1?:int32 selector:2?:meta.v1.LabelSelector template:3:core.v1.PodTemplateSpec
    strategy:4:DeploymentStrategy minReadySeconds:5:int32 revisionHistoryLimit:6?:int32 paused:7:bool
    progressDeadlineSeconds:9?:int32
DeploymentStatus = observedGeneration:1:int64 replicas:2:int32 updatedReplicas:3:int32 availableReplicas:4:int32
    unavailableReplicas:5:int32 conditions:6*:DeploymentCondition readyReplicas:7:int32 collisionCount:8?:int32
DeploymentStrategy = type:1 rollingUpdate:2?:RollingUpdateDeployment
ReplicaSet = metadata:1:meta.v1.ObjectMeta spec:2:ReplicaSetSpec status:3:ReplicaSetStatus
ReplicaSetCondition = type:1 status:2 lastTransitionTime:3:Time reason:4 message:5
ReplicaSetSpec = replicas:1?:int32 selector:2?:meta.v1.LabelSelector template:3:core.v1.PodTemplateSpec
    minReadySeconds:4:int32
ReplicaSetStatus = replicas:1:int32 fullyLabeledReplicas:2:int32 observedGeneration:3:int64 readyReplicas:4:int32
    availableReplicas:5:int32 conditions:6*:ReplicaSetCondition
RollingUpdateDaemonSet = maxUnavailable:1?:IntOrString maxSurge:2?:IntOrString
RollingUpdateDeployment = maxUnavailable:1?:IntOrString maxSurge:2?:IntOrString
RollingUpdateStatefulSetStrategy = partition:1?:int32 maxUnavailable:2?:IntOrString
StatefulSet = metadata:1:meta.v1.ObjectMeta spec:2:StatefulSetSpec status:3:StatefulSetStatus
StatefulSetCondition = type:1 status:2 lastTransitionTime:3:Time reason:4 message:5
StatefulSetOrdinals = start:1:int32
StatefulSetPersistentVolumeClaimRetentionPolicy = whenDeleted:1 whenScaled:2
StatefulSetSpec = replicas:1?:int32 selector:2?:meta.v1.LabelSelector template:3:core.v1.PodTemplateSpec
    volumeClaimTemplates:4*:core.v1.PersistentVolumeClaim serviceName:5 podManagementPolicy:6
    updateStrategy:7:StatefulSetUpdateStrategy revisionHistoryLimit:8?:int32 minReadySeconds:9:int32
    persistentVolumeClaimRetentionPolicy:10?:StatefulSetPersistentVolumeClaimRetentionPolicy
    ordinals:11?:StatefulSetOrdinals
StatefulSetStatus = observedGeneration:1:int64 replicas:2:int32 readyReplicas:3:int32 currentReplicas:4:int32
    updatedReplicas:5:int32 currentRevision:6 updateRevision:7 collisionCount:9?:int32
    conditions:10*:StatefulSetCondition availableReplicas:11:int32
StatefulSetUpdateStrategy = type:1 rollingUpdate:2?:RollingUpdateStatefulSetStrategy
"""

BATCH = """
CronJob = metadata:1:meta.v1.ObjectMeta spec:2:CronJobSpec status:3:CronJobStatus
CronJobSpec = schedule:1 startingDeadlineSeconds:2?:int64 concurrencyPolicy:3 suspend:4?:bool
    jobTemplate:5:JobTemplateSpec successfulJobsHistoryLimit:6?:int32 failedJobsHistoryLimit:7?:int32 timeZone:8?
CronJobStatus = active:1*:core.v1.ObjectReference lastScheduleTime:4?:Time lastSuccessfulTime:5?:Time
Job = metadata:1:meta.v1.ObjectMeta spec:2:JobSpec status:3:JobStatus
JobCondition = type:1 status:2 lastProbeTime:3:Time lastTransitionTime:4:Time reason:5 message:6
JobSpec = parallelism:1?:int32 completions:2?:int32 activeDeadlineSeconds:3?:int64 selector:4?:meta.v1.LabelSelector
    manualSelector:5?:bool template:6:core.v1.PodTemplateSpec backoffLimit:7?:int32 ttlSecondsAfterFinished:8?:int32
    completionMode:9? suspend:10?:bool podFailurePolicy:11?:PodFailurePolicy backoffLimitPerIndex:12?:int32
    maxFailedIndexes:13?:int32 podReplacementPolicy:14? managedBy:15? successPolicy:16?:SuccessPolicy
JobStatus = conditions:1*:JobCondition startTime:2?:Time completionTime:3?:Time active:4:int32 succeeded:5:int32
    failed:6:int32 completedIndexes:7 uncountedTerminatedPods:8?:UncountedTerminatedPods ready:9?:int32
    failedIndexes:10? terminating:11?:int32
JobTemplateSpec = metadata:1:meta.v1.ObjectMeta spec:2:JobSpec
PodFailurePolicy = rules:1*:PodFailurePolicyRule
PodFailurePolicyOnExitCodesRequirement = containerName:1? operator:2 values:3*:int32
PodFailurePolicyOnPodConditionsPattern = type:1 status:2
PodFailurePolicyRule = action:1 onExitCodes:2?:PodFailurePolicyOnExitCodesRequirement
    onPodConditions:3*:PodFailurePolicyOnPodConditionsPattern
SuccessPolicy = rules:1*:SuccessPolicyRule
SuccessPolicyRule = succeededIndexes:1? succeededCount:2?:int32
UncountedTerminatedPods = succeeded:1* failed:2*
"""

AUTOSCALING_V1 = """
ContainerResourceMetricSource = name:1 targetAverageUtilization:2?:int32 targetAverageValue:3?:Quantity container:5
ContainerResourceMetricStatus = name:1 currentAverageUtilization:2?:int32 currentAverageValue:3:Quantity container:4
CrossVersionObjectReference = kind:1 name:2 apiVersion:3
ExternalMetricSource = metricName:1 metricSelector:2?:meta.v1.LabelSelector targetValue:3?:Quantity
    targetAverageValue:4?:Quantity
ExternalMetricStatus = metricName:1 metricSelector:2?:meta.v1.LabelSelector currentValue:3:Quantity
    currentAverageValue:4?:Quantity
HorizontalPodAutoscaler = metadata:1:meta.v1.ObjectMeta spec:2:HorizontalPodAutoscalerSpec
    status:3:HorizontalPodAutoscalerStatus
HorizontalPodAutoscalerCondition = type:1 status:2 lastTransitionTime:3:Time reason:4 message:5
HorizontalPodAutoscalerSpec = scaleTargetRef:1:CrossVersionObjectReference minReplicas:2?:int32 maxReplicas:3:int32
    targetCPUUtilizationPercentage:4?:int32
HorizontalPodAutoscalerStatus = observedGeneration:1?:int64 lastScaleTime:2?:Time currentReplicas:3:int32
    desiredReplicas:4:int32 currentCPUUtilizationPercentage:5?:int32
MetricSpec = type:1 object:2?:ObjectMetricSource pods:3?:PodsMetricSource resource:4?:ResourceMetricSource
    external:5?:ExternalMetricSource containerResource:7?:ContainerResourceMetricSource
MetricStatus = type:1 object:2?:ObjectMetricStatus pods:3?:PodsMetricStatus resource:4?:ResourceMetricStatus
    external:5?:ExternalMetricStatus containerResource:7?:ContainerResourceMetricStatus
ObjectMetricSource = target:1:CrossVersionObjectReference metricName:2 targetValue:3:Quantity
    selector:4?:meta.v1.LabelSelector averageValue:5?:Quantity
ObjectMetricStatus = target:1:CrossVersionObjectReference metricName:2 currentValue:3:Quantity
    selector:4?:meta.v1.LabelSelector averageValue:5?:Quantity
PodsMetricSource = metricName:1 targetAverageValue:2:Quantity selector:3?:meta.v1.LabelSelector
PodsMetricStatus = metricName:1 currentAverageValue:2:Quantity selector:3?:meta.v1.LabelSelector
ResourceMetricSource = name:1 targetAverageUtilization:2?:int32 targetAverageValue:3?:Quantity
ResourceMetricStatus = name:1 currentAverageUtilization:2?:int32 currentAverageValue:3:Quantity
Scale = metadata:1:meta.v1.ObjectMeta spec:2:ScaleSpec status:3:ScaleStatus
ScaleSpec = replicas:1:int32
ScaleStatus = replicas:1:int32 selector:2
"""

AUTOSCALING_V2 = """
ContainerResourceMetricSource = name:1 target:2:MetricTarget container:3
ContainerResourceMetricStatus = name:1 current:2:MetricValueStatus container:3
CrossVersionObjectReference = kind:1 name:2 apiVersion:3
ExternalMetricSource = metric:1:MetricIdentifier target:2:MetricTarget
ExternalMetricStatus = metric:1:MetricIdentifier current:2:MetricValueStatus
HPAScalingPolicy = type:1 value:2:int32 periodSeconds:3:int32
HPAScalingRules = selectPolicy:1? policies:2*:HPAScalingPolicy stabilizationWindowSeconds:3?:int32
HorizontalPodAutoscaler = metadata:1:meta.v1.ObjectMeta spec:2:HorizontalPodAutoscalerSpec
    status:3:HorizontalPodAutoscalerStatus
HorizontalPodAutoscalerBehavior = scaleUp:1?:HPAScalingRules scaleDown:2?:HPAScalingRules
HorizontalPodAutoscalerCondition = type:1 status:2 lastTransitionTime:3:Time reason:4 message:5
HorizontalPodAutoscalerSpec = scaleTargetRef:1:CrossVersionObjectReference minReplicas:2?:int32 maxReplicas:3:int32
    metrics:4*:MetricSpec behavior:5?:HorizontalPodAutoscalerBehavior
HorizontalPodAutoscalerStatus = observedGeneration:1?:int64 lastScaleTime:2?:Time currentReplicas:3:int32
    desiredReplicas:4:int32 currentMetrics:5*:MetricStatus conditions:6*:HorizontalPodAutoscalerCondition
MetricIdentifier = name:1 selector:2?:meta.v1.LabelSelector
MetricSpec = type:1 object:2?:ObjectMetricSource pods:3?:PodsMetricSource resource:4?:ResourceMetricSource
    external:5?:ExternalMetricSource containerResource:7?:ContainerResourceMetricSource
MetricStatus = type:1 object:2?:ObjectMetricStatus pods:3?:PodsMetricStatus resource:4?:ResourceMetricStatus
    external:5?:ExternalMetricStatus containerResource:7?:ContainerResourceMetricStatus
MetricTarget = type:1 value:2?:Quantity averageValue:3?:Quantity averageUtilization:4?:int32
MetricValueStatus = value:1?:Quantity averageValue:2?:Quantity averageUtilization:3?:int32
ObjectMetricSource = describedObject:1:CrossVersionObjectReference target:2:MetricTarget metric:3:MetricIdentifier
ObjectMetricStatus = metric:1:MetricIdentifier current:2:MetricValueStatus
    describedObject:3:CrossVersionObjectReference
PodsMetricSource = metric:1:MetricIdentifier target:2:MetricTarget
PodsMetricStatus = metric:1:MetricIdentifier current:2:MetricValueStatus
ResourceMetricSource = name:1 target:2:MetricTarget
ResourceMetricStatus = name:1 current:2:MetricValueStatus
"""

POLICY = """
Eviction = metadata:1:meta.v1.ObjectMeta deleteOptions:2?:meta.v1.DeleteOptions
PodDisruptionBudget = metadata:1:meta.v1.ObjectMeta spec:2:PodDisruptionBudgetSpec
    status:3:PodDisruptionBudgetStatus
PodDisruptionBudgetSpec = minAvailable:1?:IntOrString selector:2:meta.v1.LabelSelector maxUnavailable:3?:IntOrString
    unhealthyPodEvictionPolicy:4?
PodDisruptionBudgetStatus = observedGeneration:1:int64 disruptedPods:2%:Time disruptionsAllowed:3:int32
    currentHealthy:4:int32 desiredHealthy:5:int32 expectedPods:6:int32 conditions:7*:meta.v1.Condition
"""
