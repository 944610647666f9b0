{{/* What "auto" came to. Each answers one word. */}}

{{- define "ilf.tlsMode" -}}
{{- if ne .Values.tls.mode "auto" -}}{{- .Values.tls.mode -}}
{{- else if .Capabilities.APIVersions.Has "cert-manager.io/v1" -}}cert-manager
{{- else -}}chart
{{- end -}}
{{- end -}}

{{- define "ilf.autoscalingMode" -}}
{{- if ne .Values.autoscaling.mode "auto" -}}{{- .Values.autoscaling.mode -}}
{{- else if .Capabilities.APIVersions.Has "keda.sh/v1alpha1" -}}keda
{{- else if .Capabilities.APIVersions.Has "metrics.k8s.io/v1beta1" -}}hpa
{{- else -}}fixed
{{- end -}}
{{- end -}}

{{- define "ilf.rankingMode" -}}
{{- if ne .Values.ranking.ray.mode "auto" -}}{{- .Values.ranking.ray.mode -}}
{{- else if .Capabilities.APIVersions.Has "ray.io/v1" -}}kuberay
{{- else -}}inprocess
{{- end -}}
{{- end -}}

{{/* "enabled" or "disabled" */}}
{{- define "ilf.kueueMode" -}}
{{- $queues := or .Values.kueue.create.enabled (and .Values.kueue.servingQueue .Values.kueue.trainingQueue) -}}
{{- if ne .Values.kueue.mode "auto" -}}{{- .Values.kueue.mode -}}
{{- else if and $queues (include "ilf.kueueVersion" .) -}}enabled
{{- else -}}disabled
{{- end -}}
{{- end -}}

{{- define "ilf.kueueVersion" -}}
{{- if .Capabilities.APIVersions.Has "kueue.x-k8s.io/v1beta2" -}}kueue.x-k8s.io/v1beta2
{{- else if .Capabilities.APIVersions.Has "kueue.x-k8s.io/v1beta1" -}}kueue.x-k8s.io/v1beta1
{{- end -}}
{{- end -}}

{{/* (root, pool: serving|training): name of its LocalQueue, or nothing */}}
{{- define "ilf.queue" -}}
{{- if eq (include "ilf.kueueMode" .root) "enabled" -}}
{{- default (printf "%s-%s" (include "ilf.fullname" .root) .pool) (get .root.Values.kueue (printf "%sQueue" .pool)) -}}
{{- end -}}
{{- end -}}

{{/* (root, what: serviceMonitor|prometheusRule): "enabled" or "disabled" */}}
{{- define "ilf.monitoringMode" -}}
{{- $mode := get .root.Values.metrics .what -}}
{{- if ne $mode "auto" -}}{{- $mode -}}
{{- else if .root.Capabilities.APIVersions.Has "monitoring.coreos.com/v1" -}}enabled
{{- else -}}disabled
{{- end -}}
{{- end -}}

{{/* (root, stage): who scales its workers: keda, hpa, fixed or ray */}}
{{- define "ilf.scaledBy" -}}
{{- if and (eq .stage "ranking") (eq (include "ilf.rankingMode" .root) "kuberay") -}}ray
{{- else -}}{{- include "ilf.autoscalingMode" .root -}}
{{- end -}}
{{- end -}}
