"""Field numbers of the rest of core/v1, of Kubernetes 1.32; the notation is explained in `schema.py`.

Source: the generated.proto files of k8s.io/api 0.32.
"""

from __future__ import annotations

CORE = """
AvoidPods = preferAvoidPods:1*:PreferAvoidPodsEntry
Binding = metadata:1:meta.v1.ObjectMeta target:2:ObjectReference
ClientIPConfig = timeoutSeconds:1?:int32
ComponentCondition = type:1 status:2 message:3 error:4
ComponentStatus = metadata:1:meta.v1.ObjectMeta conditions:2*:ComponentCondition
ConfigMap = metadata:1:meta.v1.ObjectMeta data:2% binaryData:3%:bytes immutable:4?:bool
ConfigMapNodeConfigSource = namespace:1 name:2 uid:3 resourceVersion:4 kubeletConfigKey:5
DaemonEndpoint = Port:1:int32
EndpointAddress = ip:1 targetRef:2?:ObjectReference hostname:3 nodeName:4?
EndpointPort = name:1 port:2:int32 protocol:3 appProtocol:4?
EndpointSubset = addresses:1*:EndpointAddress notReadyAddresses:2*:EndpointAddress ports:3*:EndpointPort
Endpoints = metadata:1:meta.v1.ObjectMeta subsets:2*:EndpointSubset
Event = metadata:1:meta.v1.ObjectMeta involvedObject:2:ObjectReference reason:3 message:4 source:5:EventSource
    firstTimestamp:6:Time lastTimestamp:7:Time count:8:int32 type:9 eventTime:10:MicroTime series:11?:EventSeries
    action:12 related:13?:ObjectReference reportingComponent:14 reportingInstance:15
EventSeries = count:1:int32 lastObservedTime:2:MicroTime
EventSource = component:1 host:2
LimitRange = metadata:1:meta.v1.ObjectMeta spec:2:LimitRangeSpec
LimitRangeItem = type:1 max:2%:Quantity min:3%:Quantity default:4%:Quantity defaultRequest:5%:Quantity
    maxLimitRequestRatio:6%:Quantity
LimitRangeSpec = limits:1*:LimitRangeItem
List = metadata:1:meta.v1.ListMeta items:2*:RawExtension
LoadBalancerIngress = ip:1 hostname:2 ipMode:3? ports:4*:PortStatus
LoadBalancerStatus = ingress:1*:LoadBalancerIngress
LocalObjectReference = name:1
Namespace = metadata:1:meta.v1.ObjectMeta spec:2:NamespaceSpec status:3:NamespaceStatus
NamespaceCondition = type:1 status:2 lastTransitionTime:4:Time reason:5 message:6
NamespaceSpec = finalizers:1*
NamespaceStatus = phase:1 conditions:2*:NamespaceCondition
Node = metadata:1:meta.v1.ObjectMeta spec:2:NodeSpec status:3:NodeStatus
NodeAddress = type:1 address:2
NodeCondition = type:1 status:2 lastHeartbeatTime:3:Time lastTransitionTime:4:Time reason:5 message:6
NodeConfigSource = configMap:2?:ConfigMapNodeConfigSource
NodeConfigStatus = assigned:1?:NodeConfigSource active:2?:NodeConfigSource lastKnownGood:3?:NodeConfigSource error:4
NodeDaemonEndpoints = kubeletEndpoint:1:DaemonEndpoint
NodeFeatures = supplementalGroupsPolicy:1?:bool
NodeProxyOptions = path:1
NodeRuntimeHandler = name:1 features:2?:NodeRuntimeHandlerFeatures
NodeRuntimeHandlerFeatures = recursiveReadOnlyMounts:1?:bool userNamespaces:2?:bool
NodeSpec = podCIDR:1 externalID:2 providerID:3 unschedulable:4:bool taints:5*:Taint configSource:6?:NodeConfigSource
    podCIDRs:7*
NodeStatus = capacity:1%:Quantity allocatable:2%:Quantity phase:3 conditions:4*:NodeCondition
    addresses:5*:NodeAddress daemonEndpoints:6:NodeDaemonEndpoints nodeInfo:7:NodeSystemInfo
    images:8*:ContainerImage volumesInUse:9* volumesAttached:10*:AttachedVolume config:11?:NodeConfigStatus
    runtimeHandlers:12*:NodeRuntimeHandler features:13?:NodeFeatures
NodeSystemInfo = machineID:1 systemUUID:2 bootID:3 kernelVersion:4 osImage:5 containerRuntimeVersion:6
    kubeletVersion:7 kubeProxyVersion:8 operatingSystem:9 architecture:10
ObjectReference = kind:1 namespace:2 name:3 uid:4 apiVersion:5 resourceVersion:6 fieldPath:7
PortStatus = port:1:int32 protocol:2 error:3?
Preconditions = uid:1?
PreferAvoidPodsEntry = podSignature:1:PodSignature evictionTime:2:Time reason:3 message:4
RangeAllocation = metadata:1:meta.v1.ObjectMeta range:2 data:3:bytes
ReplicationController = metadata:1:meta.v1.ObjectMeta spec:2:ReplicationControllerSpec
    status:3:ReplicationControllerStatus
ReplicationControllerCondition = type:1 status:2 lastTransitionTime:3:Time reason:4 message:5
ReplicationControllerSpec = replicas:1?:int32 selector:2% template:3?:PodTemplateSpec minReadySeconds:4:int32
ReplicationControllerStatus = replicas:1:int32 fullyLabeledReplicas:2:int32 observedGeneration:3:int64
    readyReplicas:4:int32 availableReplicas:5:int32 conditions:6*:ReplicationControllerCondition
ResourceQuota = metadata:1:meta.v1.ObjectMeta spec:2:ResourceQuotaSpec status:3:ResourceQuotaStatus
ResourceQuotaSpec = hard:1%:Quantity scopes:2* scopeSelector:3?:ScopeSelector
ResourceQuotaStatus = hard:1%:Quantity used:2%:Quantity
ScopeSelector = matchExpressions:1*:ScopedResourceSelectorRequirement
ScopedResourceSelectorRequirement = scopeName:1 operator:2 values:3*
Secret = metadata:1:meta.v1.ObjectMeta data:2%:bytes type:3 stringData:4% immutable:5?:bool
SecretReference = name:1 namespace:2
SerializedReference = reference:1:ObjectReference
Service = metadata:1:meta.v1.ObjectMeta spec:2:ServiceSpec status:3:ServiceStatus
ServiceAccount = metadata:1:meta.v1.ObjectMeta secrets:2*:ObjectReference imagePullSecrets:3*:LocalObjectReference
    automountServiceAccountToken:4?:bool
ServicePort = name:1 protocol:2 port:3:int32 targetPort:4:IntOrString nodePort:5:int32 appProtocol:6?
ServiceProxyOptions = path:1
ServiceSpec = ports:1*:ServicePort selector:2% clusterIP:3 type:4 externalIPs:5* sessionAffinity:7 loadBalancerIP:8
    loadBalancerSourceRanges:9* externalName:10 externalTrafficPolicy:11 healthCheckNodePort:12:int32
    publishNotReadyAddresses:13:bool sessionAffinityConfig:14?:SessionAffinityConfig ipFamilyPolicy:17?
    clusterIPs:18* ipFamilies:19* allocateLoadBalancerNodePorts:20?:bool loadBalancerClass:21?
    internalTrafficPolicy:22? trafficDistribution:23?
ServiceStatus = loadBalancer:1:LoadBalancerStatus conditions:2*:meta.v1.Condition
SessionAffinityConfig = clientIP:1?:ClientIPConfig
Taint = key:1 value:2 effect:3 timeAdded:4?:Time
TypedLocalObjectReference = apiGroup:1? kind:2 name:3
TypedObjectReference = apiGroup:1? kind:2 name:3 namespace:4?
"""
