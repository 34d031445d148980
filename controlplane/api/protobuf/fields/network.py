"""Field numbers of networking, discovery, coordination and events, of Kubernetes 1.32; the notation is explained in `schema.py`.

Source: the generated.proto files of k8s.io/api 0.32.
"""

from __future__ import annotations

NETWORKING = """
HTTPIngressPath = path:1 backend:2:IngressBackend pathType:3?
HTTPIngressRuleValue = paths:1*:HTTPIngressPath
IPBlock = cidr:1 except:2*
Ingress = metadata:1:meta.v1.ObjectMeta spec:2:IngressSpec status:3:IngressStatus
IngressBackend = resource:3?:core.v1.TypedLocalObjectReference service:4?:IngressServiceBackend
IngressClass = metadata:1:meta.v1.ObjectMeta spec:2:IngressClassSpec
IngressClassParametersReference = apiGroup:1? kind:2 name:3 scope:4? namespace:5?
IngressClassSpec = controller:1 parameters:2?:IngressClassParametersReference
IngressLoadBalancerIngress = ip:1 hostname:2 ports:4*:IngressPortStatus
IngressLoadBalancerStatus = ingress:1*:IngressLoadBalancerIngress
IngressPortStatus = port:1:int32 protocol:2 error:3?
IngressRule = host:1 ingressRuleValue:2^:IngressRuleValue
IngressRuleValue = http:1?:HTTPIngressRuleValue
IngressServiceBackend = name:1 port:2:ServiceBackendPort
IngressSpec = defaultBackend:1?:IngressBackend tls:2*:IngressTLS rules:3*:IngressRule ingressClassName:4?
IngressStatus = loadBalancer:1:IngressLoadBalancerStatus
IngressTLS = hosts:1* secretName:2
NetworkPolicy = metadata:1:meta.v1.ObjectMeta spec:2:NetworkPolicySpec
NetworkPolicyEgressRule = ports:1*:NetworkPolicyPort to:2*:NetworkPolicyPeer
NetworkPolicyIngressRule = ports:1*:NetworkPolicyPort from:2*:NetworkPolicyPeer
NetworkPolicyPeer = podSelector:1?:meta.v1.LabelSelector namespaceSelector:2?:meta.v1.LabelSelector
    ipBlock:3?:IPBlock
NetworkPolicyPort = protocol:1? port:2?:IntOrString endPort:3?:int32
NetworkPolicySpec = podSelector:1:meta.v1.LabelSelector ingress:2*:NetworkPolicyIngressRule
    egress:3*:NetworkPolicyEgressRule policyTypes:4*
ServiceBackendPort = name:1 number:2:int32
"""

NETWORKING_BETA = """
IPAddress = metadata:1:meta.v1.ObjectMeta spec:2:IPAddressSpec
IPAddressSpec = parentRef:1?:ParentReference
ParentReference = group:1 resource:2 namespace:3 name:4
ServiceCIDR = metadata:1:meta.v1.ObjectMeta spec:2:ServiceCIDRSpec status:3:ServiceCIDRStatus
ServiceCIDRSpec = cidrs:1*
ServiceCIDRStatus = conditions:1*:meta.v1.Condition
"""

DISCOVERY = """
Endpoint = addresses:1* conditions:2:EndpointConditions hostname:3? targetRef:4?:core.v1.ObjectReference
    deprecatedTopology:5% nodeName:6? zone:7? hints:8?:EndpointHints
EndpointConditions = ready:1?:bool serving:2?:bool terminating:3?:bool
EndpointHints = forZones:1*:ForZone
EndpointPort = name:1? protocol:2? port:3?:int32 appProtocol:4?
EndpointSlice = metadata:1:meta.v1.ObjectMeta endpoints:2*:Endpoint ports:3*:EndpointPort addressType:4
ForZone = name:1
"""

COORDINATION = """
Lease = metadata:1:meta.v1.ObjectMeta spec:2:LeaseSpec
LeaseSpec = holderIdentity:1? leaseDurationSeconds:2?:int32 acquireTime:3?:MicroTime renewTime:4?:MicroTime
    leaseTransitions:5?:int32 strategy:6? preferredHolder:7?
"""

EVENTS = """
Event = metadata:1:meta.v1.ObjectMeta eventTime:2:MicroTime series:3?:EventSeries reportingController:4
    reportingInstance:5 action:6 reason:7 regarding:8:core.v1.ObjectReference related:9?:core.v1.ObjectReference
    note:10 type:11 deprecatedSource:12:core.v1.EventSource deprecatedFirstTimestamp:13:Time
    deprecatedLastTimestamp:14:Time deprecatedCount:15:int32
EventSeries = count:1:int32 lastObservedTime:2:MicroTime
"""
