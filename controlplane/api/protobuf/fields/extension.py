"""Field numbers of apiextensions and apiregistration, of Kubernetes 1.32; the notation is explained in `schema.py`.

Source: the generated.proto files of k8s.io/apiextensions-apiserver and k8s.io/kube-aggregator 0.32.
"""

from __future__ import annotations

APIEXTENSIONS = """
CustomResourceDefinition = metadata:1:meta.v1.ObjectMeta spec:2:CustomResourceDefinitionSpec
    status:3:CustomResourceDefinitionStatus
CustomResourceDefinitionSpec = group:1 names:3:CustomResourceDefinitionNames scope:4
    versions:7*:CustomResourceDefinitionVersion conversion:9?:CustomResourceConversion preserveUnknownFields:10:bool
CustomResourceDefinitionNames = plural:1 singular:2 shortNames:3* kind:4 listKind:5 categories:6*
CustomResourceDefinitionVersion = name:1 served:2:bool storage:3:bool schema:4?:CustomResourceValidation
    subresources:5?:CustomResourceSubresources additionalPrinterColumns:6*:CustomResourceColumnDefinition
    deprecated:7:bool deprecationWarning:8? selectableFields:9*:SelectableField
CustomResourceColumnDefinition = name:1 type:2 format:3 description:4 priority:5:int32 jsonPath:6
CustomResourceConversion = strategy:1 webhook:2?:WebhookConversion
CustomResourceDefinitionCondition = type:1 status:2 lastTransitionTime:3:Time reason:4 message:5
CustomResourceDefinitionStatus = conditions:1*:CustomResourceDefinitionCondition
    acceptedNames:2:CustomResourceDefinitionNames storedVersions:3*
CustomResourceSubresourceScale = specReplicasPath:1 statusReplicasPath:2 labelSelectorPath:3?
CustomResourceSubresourceStatus =
CustomResourceSubresources = status:1?:CustomResourceSubresourceStatus scale:2?:CustomResourceSubresourceScale
CustomResourceValidation = openAPIV3Schema:1?:JSONSchemaProps
ExternalDocumentation = description:1 url:2
JSONSchemaProps = id:1 $schema:2 $ref:3? description:4 type:5 format:6 title:7 default:8?:JSON maximum:9?:double
    exclusiveMaximum:10:bool minimum:11?:double exclusiveMinimum:12:bool maxLength:13?:int64 minLength:14?:int64
    pattern:15 maxItems:16?:int64 minItems:17?:int64 uniqueItems:18:bool multipleOf:19?:double enum:20*:JSON
    maxProperties:21?:int64 minProperties:22?:int64 required:23* items:24?:SchemaOrArray allOf:25*:JSONSchemaProps
    oneOf:26*:JSONSchemaProps anyOf:27*:JSONSchemaProps not:28?:JSONSchemaProps properties:29%:JSONSchemaProps
    additionalProperties:30?:SchemaOrBool patternProperties:31%:JSONSchemaProps dependencies:32%:SchemaOrStrings
    additionalItems:33?:SchemaOrBool definitions:34%:JSONSchemaProps externalDocs:35?:ExternalDocumentation
    example:36?:JSON nullable:37:bool x-kubernetes-preserve-unknown-fields:38?:bool
    x-kubernetes-embedded-resource:39:bool x-kubernetes-int-or-string:40:bool x-kubernetes-list-map-keys:41*
    x-kubernetes-list-type:42? x-kubernetes-map-type:43? x-kubernetes-validations:44*:ValidationRule
SelectableField = jsonPath:1
ServiceReference = namespace:1 name:2 path:3? port:4?:int32
ValidationRule = rule:1 message:2 messageExpression:3 reason:4? fieldPath:5 optionalOldSelf:6?:bool
WebhookClientConfig = service:1?:ServiceReference caBundle:2:bytes url:3?
WebhookConversion = clientConfig:2?:WebhookClientConfig conversionReviewVersions:3*
"""

APIREGISTRATION = """
APIService = metadata:1:meta.v1.ObjectMeta spec:2:APIServiceSpec status:3:APIServiceStatus
APIServiceCondition = type:1 status:2 lastTransitionTime:3:Time reason:4 message:5
APIServiceSpec = service:1?:ServiceReference group:2 version:3 insecureSkipTLSVerify:4:bool caBundle:5:bytes
    groupPriorityMinimum:7:int32 versionPriority:8:int32
APIServiceStatus = conditions:1*:APIServiceCondition
ServiceReference = namespace:1 name:2 port:3?:int32
"""
