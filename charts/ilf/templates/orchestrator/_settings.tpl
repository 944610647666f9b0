{{- define "ilf.settings.orchestrator" -}}
{{- $root := . -}}
{{ include "ilf.settings.common" (dict "root" . "stage" "orchestrator" "drain" .Values.orchestrator.drainSeconds) }}
{{ include "ilf.settings.store" . }}
state_dir: /var/lib/ilf/state
{{- range append (include "ilf.stages" . | fromJsonArray) "finetune" }}
{{ . }}: {{- include "ilf.settings.peer" (dict "root" $root "service" .) | nindent 2 }}
{{- end }}
{{- if not .Values.reward.enabled }}
reward: null
{{- end }}
{{- if eq (include "ilf.autoscalingMode" .) "keda" }}
scaler: {{- include "ilf.settings.scaler" . | nindent 2 }}
{{- end }}
pools:
  {{- range include "ilf.stages" . | fromJsonArray }}
  {{ . }}: {{- include "ilf.settings.pool" (dict "root" $root "stage" .) | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* KEDA shows a certificate and has no token. */}}
{{- define "ilf.settings.scaler" -}}
{{- $ports := include "ilf.ports" . | fromYaml -}}
host: 0.0.0.0
port: {{ $ports.orchestrator.scaler }}
{{ include "ilf.settings.serverTls" . }}
{{- end -}}

{{/* (root, stage) */}}
{{- define "ilf.settings.pool" -}}
{{- $pool := (get .root.Values .stage).pool -}}
front: {{- include "ilf.settings.peer" (dict "root" .root "service" .stage) | nindent 2 }}
min_replicas: {{ $pool.minReplicas }}
max_replicas: {{ $pool.maxReplicas }}
target_seconds: {{ $pool.targetSeconds }}
idle_seconds: {{ $pool.idleSeconds }}
items_per_second: {{ $pool.warmup.itemsPerSecond }}
start_seconds: {{ $pool.warmup.startSeconds }}
{{/* Only what the scaler takes away can be waited for. */ -}}
hand_over: {{ and $pool.handOver (eq (include "ilf.scaledBy" .) "keda") }}
{{- end -}}
