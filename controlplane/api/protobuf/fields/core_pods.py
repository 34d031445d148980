"""Field numbers of the pods of core/v1, of Kubernetes 1.32; the notation is explained in `schema.py`.

Source: the generated.proto files of k8s.io/api 0.32.
"""

from __future__ import annotations

CORE_PODS = """
Affinity = nodeAffinity:1?:NodeAffinity podAffinity:2?:PodAffinity podAntiAffinity:3?:PodAntiAffinity
AppArmorProfile = type:1 localhostProfile:2?
Capabilities = add:1* drop:2*
ConfigMapEnvSource = localObjectReference:1^:LocalObjectReference optional:2?:bool
ConfigMapKeySelector = localObjectReference:1^:LocalObjectReference key:2 optional:3?:bool
Container = name:1 image:2 command:3* args:4* workingDir:5 ports:6*:ContainerPort env:7*:EnvVar
    resources:8:ResourceRequirements volumeMounts:9*:VolumeMount livenessProbe:10?:Probe readinessProbe:11?:Probe
    lifecycle:12?:Lifecycle terminationMessagePath:13 imagePullPolicy:14 securityContext:15?:SecurityContext
    stdin:16:bool stdinOnce:17:bool tty:18:bool envFrom:19*:EnvFromSource terminationMessagePolicy:20
    volumeDevices:21*:VolumeDevice startupProbe:22?:Probe resizePolicy:23*:ContainerResizePolicy restartPolicy:24?
ContainerImage = names:1* sizeBytes:2:int64
ContainerPort = name:1 hostPort:2:int32 containerPort:3:int32 protocol:4 hostIP:5
ContainerResizePolicy = resourceName:1 restartPolicy:2
ContainerState = waiting:1?:ContainerStateWaiting running:2?:ContainerStateRunning
    terminated:3?:ContainerStateTerminated
ContainerStateRunning = startedAt:1:Time
ContainerStateTerminated = exitCode:1:int32 signal:2:int32 reason:3 message:4 startedAt:5:Time finishedAt:6:Time
    containerID:7
ContainerStateWaiting = reason:1 message:2
ContainerStatus = name:1 state:2:ContainerState lastState:3:ContainerState ready:4:bool restartCount:5:int32 image:6
    imageID:7 containerID:8 started:9?:bool allocatedResources:10%:Quantity resources:11?:ResourceRequirements
    volumeMounts:12*:VolumeMountStatus user:13?:ContainerUser allocatedResourcesStatus:14*:ResourceStatus
ContainerUser = linux:1?:LinuxContainerUser
EnvFromSource = prefix:1 configMapRef:2?:ConfigMapEnvSource secretRef:3?:SecretEnvSource
EnvVar = name:1 value:2 valueFrom:3?:EnvVarSource
EnvVarSource = fieldRef:1?:ObjectFieldSelector resourceFieldRef:2?:ResourceFieldSelector
    configMapKeyRef:3?:ConfigMapKeySelector secretKeyRef:4?:SecretKeySelector
EphemeralContainer = ephemeralContainerCommon:1^:EphemeralContainerCommon targetContainerName:2
EphemeralContainerCommon = name:1 image:2 command:3* args:4* workingDir:5 ports:6*:ContainerPort env:7*:EnvVar
    resources:8:ResourceRequirements volumeMounts:9*:VolumeMount livenessProbe:10?:Probe readinessProbe:11?:Probe
    lifecycle:12?:Lifecycle terminationMessagePath:13 imagePullPolicy:14 securityContext:15?:SecurityContext
    stdin:16:bool stdinOnce:17:bool tty:18:bool envFrom:19*:EnvFromSource terminationMessagePolicy:20
    volumeDevices:21*:VolumeDevice startupProbe:22?:Probe resizePolicy:23*:ContainerResizePolicy restartPolicy:24?
ExecAction = command:1*
GRPCAction = port:1:int32 service:2?
HTTPGetAction = path:1 port:2:IntOrString host:3 scheme:4 httpHeaders:5*:HTTPHeader
HTTPHeader = name:1 value:2
HostAlias = ip:1 hostnames:2*
HostIP = ip:1
Lifecycle = postStart:1?:LifecycleHandler preStop:2?:LifecycleHandler
LifecycleHandler = exec:1?:ExecAction httpGet:2?:HTTPGetAction tcpSocket:3?:TCPSocketAction sleep:4?:SleepAction
LinuxContainerUser = uid:1:int64 gid:2:int64 supplementalGroups:3*:int64
NodeAffinity = requiredDuringSchedulingIgnoredDuringExecution:1?:NodeSelector
    preferredDuringSchedulingIgnoredDuringExecution:2*:PreferredSchedulingTerm
NodeSelector = nodeSelectorTerms:1*:NodeSelectorTerm
NodeSelectorRequirement = key:1 operator:2 values:3*
NodeSelectorTerm = matchExpressions:1*:NodeSelectorRequirement matchFields:2*:NodeSelectorRequirement
ObjectFieldSelector = apiVersion:1 fieldPath:2
Pod = metadata:1:meta.v1.ObjectMeta spec:2:PodSpec status:3:PodStatus
PodAffinity = requiredDuringSchedulingIgnoredDuringExecution:1*:PodAffinityTerm
    preferredDuringSchedulingIgnoredDuringExecution:2*:WeightedPodAffinityTerm
PodAffinityTerm = labelSelector:1?:meta.v1.LabelSelector namespaces:2* topologyKey:3
    namespaceSelector:4?:meta.v1.LabelSelector matchLabelKeys:5* mismatchLabelKeys:6*
PodAntiAffinity = requiredDuringSchedulingIgnoredDuringExecution:1*:PodAffinityTerm
    preferredDuringSchedulingIgnoredDuringExecution:2*:WeightedPodAffinityTerm
PodAttachOptions = stdin:1:bool stdout:2:bool stderr:3:bool tty:4:bool container:5
PodCondition = type:1 status:2 lastProbeTime:3:Time lastTransitionTime:4:Time reason:5 message:6
PodDNSConfig = nameservers:1* searches:2* options:3*:PodDNSConfigOption
PodDNSConfigOption = name:1 value:2?
PodExecOptions = stdin:1:bool stdout:2:bool stderr:3:bool tty:4:bool container:5 command:6*
PodIP = ip:1
PodLogOptions = container:1 follow:2:bool previous:3:bool sinceSeconds:4?:int64 sinceTime:5?:Time timestamps:6:bool
    tailLines:7?:int64 limitBytes:8?:int64 insecureSkipTLSVerifyBackend:9:bool stream:10?
PodOS = name:1
PodPortForwardOptions = ports:1*:int32
PodProxyOptions = path:1
PodReadinessGate = conditionType:1
PodResourceClaim = name:1 resourceClaimName:3? resourceClaimTemplateName:4?
PodResourceClaimStatus = name:1 resourceClaimName:2?
PodSchedulingGate = name:1
PodSecurityContext = seLinuxOptions:1?:SELinuxOptions runAsUser:2?:int64 runAsNonRoot:3?:bool
    supplementalGroups:4*:int64 fsGroup:5?:int64 runAsGroup:6?:int64 sysctls:7*:Sysctl
    windowsOptions:8?:WindowsSecurityContextOptions fsGroupChangePolicy:9? seccompProfile:10?:SeccompProfile
    appArmorProfile:11?:AppArmorProfile supplementalGroupsPolicy:12? seLinuxChangePolicy:13?
PodSignature = podController:1?:meta.v1.OwnerReference
PodSpec = volumes:1*:Volume containers:2*:Container restartPolicy:3 terminationGracePeriodSeconds:4?:int64
    activeDeadlineSeconds:5?:int64 dnsPolicy:6 nodeSelector:7% serviceAccountName:8 serviceAccount:9 nodeName:10
    hostNetwork:11:bool hostPID:12:bool hostIPC:13:bool securityContext:14?:PodSecurityContext
    imagePullSecrets:15*:LocalObjectReference hostname:16 subdomain:17 affinity:18?:Affinity schedulerName:19
    initContainers:20*:Container automountServiceAccountToken:21?:bool tolerations:22*:Toleration
    hostAliases:23*:HostAlias priorityClassName:24 priority:25?:int32 dnsConfig:26?:PodDNSConfig
    shareProcessNamespace:27?:bool readinessGates:28*:PodReadinessGate runtimeClassName:29?
    enableServiceLinks:30?:bool preemptionPolicy:31? overhead:32%:Quantity
    topologySpreadConstraints:33*:TopologySpreadConstraint ephemeralContainers:34*:EphemeralContainer
    setHostnameAsFQDN:35?:bool os:36?:PodOS hostUsers:37?:bool schedulingGates:38*:PodSchedulingGate
    resourceClaims:39*:PodResourceClaim resources:40?:ResourceRequirements
PodStatus = phase:1 conditions:2*:PodCondition message:3 reason:4 hostIP:5 podIP:6 startTime:7?:Time
    containerStatuses:8*:ContainerStatus qosClass:9 initContainerStatuses:10*:ContainerStatus nominatedNodeName:11
    podIPs:12*:PodIP ephemeralContainerStatuses:13*:ContainerStatus resize:14
    resourceClaimStatuses:15*:PodResourceClaimStatus hostIPs:16*:HostIP
PodStatusResult = metadata:1:meta.v1.ObjectMeta status:2:PodStatus
PodTemplate = metadata:1:meta.v1.ObjectMeta template:2:PodTemplateSpec
PodTemplateSpec = metadata:1:meta.v1.ObjectMeta spec:2:PodSpec
PreferredSchedulingTerm = weight:1:int32 preference:2:NodeSelectorTerm
Probe = handler:1^:ProbeHandler initialDelaySeconds:2:int32 timeoutSeconds:3:int32 periodSeconds:4:int32
    successThreshold:5:int32 failureThreshold:6:int32 terminationGracePeriodSeconds:7?:int64
ProbeHandler = exec:1?:ExecAction httpGet:2?:HTTPGetAction tcpSocket:3?:TCPSocketAction grpc:4?:GRPCAction
ResourceClaim = name:1 request:2
ResourceFieldSelector = containerName:1 resource:2 divisor:3:Quantity
ResourceHealth = resourceID:1 health:2
ResourceRequirements = limits:1%:Quantity requests:2%:Quantity claims:3*:ResourceClaim
ResourceStatus = name:1 resources:2*:ResourceHealth
SELinuxOptions = user:1 role:2 type:3 level:4
SeccompProfile = type:1 localhostProfile:2?
SecretEnvSource = localObjectReference:1^:LocalObjectReference optional:2?:bool
SecretKeySelector = localObjectReference:1^:LocalObjectReference key:2 optional:3?:bool
SecurityContext = capabilities:1?:Capabilities privileged:2?:bool seLinuxOptions:3?:SELinuxOptions
    runAsUser:4?:int64 runAsNonRoot:5?:bool readOnlyRootFilesystem:6?:bool allowPrivilegeEscalation:7?:bool
    runAsGroup:8?:int64 procMount:9? windowsOptions:10?:WindowsSecurityContextOptions
    seccompProfile:11?:SeccompProfile appArmorProfile:12?:AppArmorProfile
SleepAction = seconds:1:int64
Sysctl = name:1 value:2
TCPSocketAction = port:1:IntOrString host:2
Toleration = key:1 operator:2 value:3 effect:4 tolerationSeconds:5?:int64
TopologySelectorLabelRequirement = key:1 values:2*
TopologySelectorTerm = matchLabelExpressions:1*:TopologySelectorLabelRequirement
TopologySpreadConstraint = maxSkew:1:int32 topologyKey:2 whenUnsatisfiable:3 labelSelector:4?:meta.v1.LabelSelector
    minDomains:5?:int32 nodeAffinityPolicy:6? nodeTaintsPolicy:7? matchLabelKeys:8*
WeightedPodAffinityTerm = weight:1:int32 podAffinityTerm:2:PodAffinityTerm
WindowsSecurityContextOptions = gmsaCredentialSpecName:1? gmsaCredentialSpec:2? runAsUserName:3? hostProcess:4?:bool
"""
