"""Field numbers of the volumes of core/v1, of Kubernetes 1.32; the notation is explained in `schema.py`.

Source: the generated.proto files of k8s.io/api 0.32.
"""

from __future__ import annotations

CORE_VOLUMES = """
AWSElasticBlockStoreVolumeSource = volumeID:1 fsType:2 partition:3:int32 readOnly:4:bool
AttachedVolume = name:1 devicePath:2
AzureDiskVolumeSource = diskName:1 diskURI:2 cachingMode:3? fsType:4? readOnly:5?:bool kind:6?
AzureFilePersistentVolumeSource = secretName:1 shareName:2 readOnly:3:bool secretNamespace:4?
AzureFileVolumeSource = secretName:1 shareName:2 readOnly:3:bool
CSIPersistentVolumeSource = driver:1 volumeHandle:2 readOnly:3:bool fsType:4 volumeAttributes:5%
    controllerPublishSecretRef:6?:SecretReference nodeStageSecretRef:7?:SecretReference
    nodePublishSecretRef:8?:SecretReference controllerExpandSecretRef:9?:SecretReference
    nodeExpandSecretRef:10?:SecretReference
CSIVolumeSource = driver:1 readOnly:2?:bool fsType:3? volumeAttributes:4%
    nodePublishSecretRef:5?:LocalObjectReference
CephFSPersistentVolumeSource = monitors:1* path:2 user:3 secretFile:4 secretRef:5?:SecretReference readOnly:6:bool
CephFSVolumeSource = monitors:1* path:2 user:3 secretFile:4 secretRef:5?:LocalObjectReference readOnly:6:bool
CinderPersistentVolumeSource = volumeID:1 fsType:2 readOnly:3:bool secretRef:4?:SecretReference
CinderVolumeSource = volumeID:1 fsType:2 readOnly:3:bool secretRef:4?:LocalObjectReference
ClusterTrustBundleProjection = name:1? signerName:2? labelSelector:3?:meta.v1.LabelSelector path:4 optional:5?:bool
ConfigMapProjection = localObjectReference:1^:LocalObjectReference items:2*:KeyToPath optional:4?:bool
ConfigMapVolumeSource = localObjectReference:1^:LocalObjectReference items:2*:KeyToPath defaultMode:3?:int32
    optional:4?:bool
DownwardAPIProjection = items:1*:DownwardAPIVolumeFile
DownwardAPIVolumeFile = path:1 fieldRef:2?:ObjectFieldSelector resourceFieldRef:3?:ResourceFieldSelector
    mode:4?:int32
DownwardAPIVolumeSource = items:1*:DownwardAPIVolumeFile defaultMode:2?:int32
EmptyDirVolumeSource = medium:1 sizeLimit:2?:Quantity
EphemeralVolumeSource = volumeClaimTemplate:1?:PersistentVolumeClaimTemplate
FCVolumeSource = targetWWNs:1* lun:2?:int32 fsType:3 readOnly:4:bool wwids:5*
FlexPersistentVolumeSource = driver:1 fsType:2 secretRef:3?:SecretReference readOnly:4:bool options:5%
FlexVolumeSource = driver:1 fsType:2 secretRef:3?:LocalObjectReference readOnly:4:bool options:5%
FlockerVolumeSource = datasetName:1 datasetUUID:2
GCEPersistentDiskVolumeSource = pdName:1 fsType:2 partition:3:int32 readOnly:4:bool
GitRepoVolumeSource = repository:1 revision:2 directory:3
GlusterfsPersistentVolumeSource = endpoints:1 path:2 readOnly:3:bool endpointsNamespace:4?
GlusterfsVolumeSource = endpoints:1 path:2 readOnly:3:bool
HostPathVolumeSource = path:1 type:2?
ISCSIPersistentVolumeSource = targetPortal:1 iqn:2 lun:3:int32 iscsiInterface:4 fsType:5 readOnly:6:bool portals:7*
    chapAuthDiscovery:8:bool secretRef:10?:SecretReference chapAuthSession:11:bool initiatorName:12?
ISCSIVolumeSource = targetPortal:1 iqn:2 lun:3:int32 iscsiInterface:4 fsType:5 readOnly:6:bool portals:7*
    chapAuthDiscovery:8:bool secretRef:10?:LocalObjectReference chapAuthSession:11:bool initiatorName:12?
ImageVolumeSource = reference:1 pullPolicy:2
KeyToPath = key:1 path:2 mode:3?:int32
LocalVolumeSource = path:1 fsType:2?
ModifyVolumeStatus = targetVolumeAttributesClassName:1 status:2
NFSVolumeSource = server:1 path:2 readOnly:3:bool
PersistentVolume = metadata:1:meta.v1.ObjectMeta spec:2:PersistentVolumeSpec status:3:PersistentVolumeStatus
PersistentVolumeClaim = metadata:1:meta.v1.ObjectMeta spec:2:PersistentVolumeClaimSpec
    status:3:PersistentVolumeClaimStatus
PersistentVolumeClaimCondition = type:1 status:2 lastProbeTime:3:Time lastTransitionTime:4:Time reason:5 message:6
PersistentVolumeClaimSpec = accessModes:1* resources:2:VolumeResourceRequirements volumeName:3
    selector:4?:meta.v1.LabelSelector storageClassName:5? volumeMode:6? dataSource:7?:TypedLocalObjectReference
    dataSourceRef:8?:TypedObjectReference volumeAttributesClassName:9?
PersistentVolumeClaimStatus = phase:1 accessModes:2* capacity:3%:Quantity
    conditions:4*:PersistentVolumeClaimCondition allocatedResources:5%:Quantity allocatedResourceStatuses:7%
    currentVolumeAttributesClassName:8? modifyVolumeStatus:9?:ModifyVolumeStatus
PersistentVolumeClaimTemplate = metadata:1:meta.v1.ObjectMeta spec:2:PersistentVolumeClaimSpec
PersistentVolumeClaimVolumeSource = claimName:1 readOnly:2:bool
PersistentVolumeSource = gcePersistentDisk:1?:GCEPersistentDiskVolumeSource
    awsElasticBlockStore:2?:AWSElasticBlockStoreVolumeSource hostPath:3?:HostPathVolumeSource
    glusterfs:4?:GlusterfsPersistentVolumeSource nfs:5?:NFSVolumeSource rbd:6?:RBDPersistentVolumeSource
    iscsi:7?:ISCSIPersistentVolumeSource cinder:8?:CinderPersistentVolumeSource
    cephfs:9?:CephFSPersistentVolumeSource fc:10?:FCVolumeSource flocker:11?:FlockerVolumeSource
    flexVolume:12?:FlexPersistentVolumeSource azureFile:13?:AzureFilePersistentVolumeSource
    vsphereVolume:14?:VsphereVirtualDiskVolumeSource quobyte:15?:QuobyteVolumeSource
    azureDisk:16?:AzureDiskVolumeSource photonPersistentDisk:17?:PhotonPersistentDiskVolumeSource
    portworxVolume:18?:PortworxVolumeSource scaleIO:19?:ScaleIOPersistentVolumeSource local:20?:LocalVolumeSource
    storageos:21?:StorageOSPersistentVolumeSource csi:22?:CSIPersistentVolumeSource
PersistentVolumeSpec = capacity:1%:Quantity persistentVolumeSource:2^:PersistentVolumeSource accessModes:3*
    claimRef:4?:ObjectReference persistentVolumeReclaimPolicy:5 storageClassName:6 mountOptions:7* volumeMode:8?
    nodeAffinity:9?:VolumeNodeAffinity volumeAttributesClassName:10?
PersistentVolumeStatus = phase:1 message:2 reason:3 lastPhaseTransitionTime:4?:Time
PhotonPersistentDiskVolumeSource = pdID:1 fsType:2
PortworxVolumeSource = volumeID:1 fsType:2 readOnly:3:bool
ProjectedVolumeSource = sources:1*:VolumeProjection defaultMode:2?:int32
QuobyteVolumeSource = registry:1 volume:2 readOnly:3:bool user:4 group:5 tenant:6
RBDPersistentVolumeSource = monitors:1* image:2 fsType:3 pool:4 user:5 keyring:6 secretRef:7?:SecretReference
    readOnly:8:bool
RBDVolumeSource = monitors:1* image:2 fsType:3 pool:4 user:5 keyring:6 secretRef:7?:LocalObjectReference
    readOnly:8:bool
ScaleIOPersistentVolumeSource = gateway:1 system:2 secretRef:3?:SecretReference sslEnabled:4:bool protectionDomain:5
    storagePool:6 storageMode:7 volumeName:8 fsType:9 readOnly:10:bool
ScaleIOVolumeSource = gateway:1 system:2 secretRef:3?:LocalObjectReference sslEnabled:4:bool protectionDomain:5
    storagePool:6 storageMode:7 volumeName:8 fsType:9 readOnly:10:bool
SecretProjection = localObjectReference:1^:LocalObjectReference items:2*:KeyToPath optional:4?:bool
SecretVolumeSource = secretName:1 items:2*:KeyToPath defaultMode:3?:int32 optional:4?:bool
ServiceAccountTokenProjection = audience:1 expirationSeconds:2?:int64 path:3
StorageOSPersistentVolumeSource = volumeName:1 volumeNamespace:2 fsType:3 readOnly:4:bool
    secretRef:5?:ObjectReference
StorageOSVolumeSource = volumeName:1 volumeNamespace:2 fsType:3 readOnly:4:bool secretRef:5?:LocalObjectReference
Volume = name:1 volumeSource:2^:VolumeSource
VolumeDevice = name:1 devicePath:2
VolumeMount = name:1 readOnly:2:bool mountPath:3 subPath:4 mountPropagation:5? subPathExpr:6 recursiveReadOnly:7?
VolumeMountStatus = name:1 mountPath:2 readOnly:3:bool recursiveReadOnly:4?
VolumeNodeAffinity = required:1?:NodeSelector
VolumeProjection = secret:1?:SecretProjection downwardAPI:2?:DownwardAPIProjection configMap:3?:ConfigMapProjection
    serviceAccountToken:4?:ServiceAccountTokenProjection clusterTrustBundle:5?:ClusterTrustBundleProjection
VolumeResourceRequirements = limits:1%:Quantity requests:2%:Quantity
VolumeSource = hostPath:1?:HostPathVolumeSource emptyDir:2?:EmptyDirVolumeSource
    gcePersistentDisk:3?:GCEPersistentDiskVolumeSource awsElasticBlockStore:4?:AWSElasticBlockStoreVolumeSource
    gitRepo:5?:GitRepoVolumeSource secret:6?:SecretVolumeSource nfs:7?:NFSVolumeSource iscsi:8?:ISCSIVolumeSource
    glusterfs:9?:GlusterfsVolumeSource persistentVolumeClaim:10?:PersistentVolumeClaimVolumeSource
    rbd:11?:RBDVolumeSource flexVolume:12?:FlexVolumeSource cinder:13?:CinderVolumeSource
    cephfs:14?:CephFSVolumeSource flocker:15?:FlockerVolumeSource downwardAPI:16?:DownwardAPIVolumeSource
    fc:17?:FCVolumeSource azureFile:18?:AzureFileVolumeSource configMap:19?:ConfigMapVolumeSource
    vsphereVolume:20?:VsphereVirtualDiskVolumeSource quobyte:21?:QuobyteVolumeSource
    azureDisk:22?:AzureDiskVolumeSource photonPersistentDisk:23?:PhotonPersistentDiskVolumeSource
    portworxVolume:24?:PortworxVolumeSource scaleIO:25?:ScaleIOVolumeSource projected:26?:ProjectedVolumeSource
    storageos:27?:StorageOSVolumeSource csi:28?:CSIVolumeSource ephemeral:29?:EphemeralVolumeSource
    image:30?:ImageVolumeSource
VsphereVirtualDiskVolumeSource = volumePath:1 fsType:2 storagePolicyName:3 storagePolicyID:4
"""
