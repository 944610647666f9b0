{{/* Names, labels and images. */}}

{{- define "ilf.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* 40 characters at most: the longest name made of it must stay below 63. */}}
{{- define "ilf.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "ilf.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "ilf.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* (root, component) */}}
{{- define "ilf.componentName" -}}
{{- printf "%s-%s" (include "ilf.fullname" .root) .component -}}
{{- end -}}

{{/* (root, component) */}}
{{- define "ilf.selectorLabels" -}}
app.kubernetes.io/name: ilf
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* (root, component); component "" for what all share */}}
{{- define "ilf.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: ilf
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: ilf
{{- end -}}

{{/* (root, component): labels of a pod */}}
{{- define "ilf.podLabels" -}}
{{ include "ilf.labels" . }}
{{- with .root.Values.podLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* (root, name, override) */}}
{{- define "ilf.image" -}}
{{- $image := .root.Values.image -}}
{{- if .override -}}
{{- .override -}}
{{- else -}}
{{- printf "%s:%s" (compact (list $image.registry $image.repository .name) | join "/") (default .root.Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "ilf.ports" -}}
refinement: {grpc: 50051, metrics: 9101}
ranking: {grpc: 50052, metrics: 9102}
reward: {grpc: 50053, metrics: 9103}
finetune: {grpc: 50054, metrics: 9104}
orchestrator: {grpc: 50055, metrics: 9105, scaler: 50065}
console: {http: 50070, metrics: 9106}
health: 9100
{{- end -}}

{{/* The serving stages that are switched on, as a JSON list. */}}
{{- define "ilf.stages" -}}
{{- $stages := list "refinement" "ranking" -}}
{{- if .Values.reward.enabled -}}{{- $stages = append $stages "reward" -}}{{- end -}}
{{- toJson $stages -}}
{{- end -}}

{{/* (root, class): name of a PriorityClass, or nothing */}}
{{- define "ilf.priorityClass" -}}
{{- $name := get .root.Values.priorityClasses .class -}}
{{- if $name -}}{{- $name -}}
{{- else if .root.Values.priorityClasses.create -}}{{- printf "%s-%s-%s" .root.Release.Namespace (include "ilf.fullname" .root) .class -}}
{{- end -}}
{{- end -}}

{{/* Names of what the chart makes or is given. */}}
{{- define "ilf.storeClaim" -}}
{{- default (printf "%s-artifacts" (include "ilf.fullname" .)) .Values.store.claim.existingClaim -}}
{{- end -}}
{{- define "ilf.modelClaim" -}}
{{- default (printf "%s-models" (include "ilf.fullname" .)) .Values.modelVolume.existingClaim -}}
{{- end -}}
{{- define "ilf.tokenSecret" -}}
{{- default (printf "%s-token" (include "ilf.fullname" .)) .Values.auth.existingSecret -}}
{{- end -}}
{{- define "ilf.tlsSecret" -}}
{{- default (printf "%s-tls" (include "ilf.fullname" .)) .Values.tls.existingSecret -}}
{{- end -}}
{{- define "ilf.clientTlsSecret" -}}
{{- default (printf "%s-client-tls" (include "ilf.fullname" .)) .Values.tls.existingClientSecret -}}
{{- end -}}
{{- define "ilf.storeRoot" -}}
{{- default "/var/lib/ilf/artifacts" .Values.store.root -}}
{{- end -}}
