{{/* The services' settings: /etc/ilf/config.yaml. What the chart decides goes over `settings` of the values. */}}

{{/* (root, stage, drain): group `server` */}}
{{- define "ilf.settings.server" -}}
{{- $ports := include "ilf.ports" .root | fromYaml -}}
host: 0.0.0.0
port: {{ (get $ports .stage).grpc }}
metrics_port: {{ (get $ports .stage).metrics }}
health_port: {{ $ports.health }}
drain_seconds: {{ .drain }}
{{ include "ilf.settings.serverTls" .root }}
{{- if .root.Values.auth.enabled }}
token_file: /etc/ilf/token/token
{{- end }}
{{- end -}}

{{- define "ilf.settings.serverTls" -}}
{{- if ne (include "ilf.tlsMode" .) "off" -}}
tls_cert_file: /etc/ilf/tls/tls.crt
tls_key_file: /etc/ilf/tls/tls.key
{{- if .Values.tls.mutual }}
tls_client_ca_file: /etc/ilf/tls/ca.crt
{{- end }}
{{- end -}}
{{- end -}}

{{/* (root, address): how a service is reached */}}
{{- define "ilf.settings.channel" -}}
address: {{ .address }}
{{ include "ilf.settings.security" .root }}
{{- end -}}

{{/* What a caller shows. */}}
{{- define "ilf.settings.security" -}}
{{- if ne (include "ilf.tlsMode" .) "off" -}}
tls_ca_file: /etc/ilf/tls/ca.crt
{{- if .Values.tls.mutual }}
tls_cert_file: /etc/ilf/tls/tls.crt
tls_key_file: /etc/ilf/tls/tls.key
{{- end }}
{{ end -}}
{{- if .Values.auth.enabled -}}
token_file: /etc/ilf/token/token
{{- end }}
{{- end -}}

{{/* (root, service): the front of a stage, or finetune or the orchestrator, as others reach it */}}
{{- define "ilf.settings.peer" -}}
{{- $ports := include "ilf.ports" .root | fromYaml -}}
{{- $address := printf "%s-%s:%v" (include "ilf.fullname" .root) .service (get $ports .service).grpc -}}
{{- include "ilf.settings.channel" (dict "root" .root "address" $address) -}}
{{- end -}}

{{- define "ilf.settings.telemetry" -}}
log_level: {{ .Values.telemetry.logLevel }}
{{- with .Values.telemetry.otlpEndpoint }}
otlp_endpoint: {{ . }}
{{- end }}
{{- end -}}

{{/* (root, stage, drain): groups that all have */}}
{{- define "ilf.settings.common" -}}
server:
  {{- include "ilf.settings.server" . | nindent 2 }}
telemetry:
  {{- include "ilf.settings.telemetry" .root | nindent 2 }}
{{- end -}}

{{- define "ilf.settings.store" -}}
store:
  root: {{ include "ilf.storeRoot" . | quote }}
{{- end -}}

{{/* (root, component, section, chart, settings): ConfigMap of one component; `chart` is YAML text */}}
{{- define "ilf.configMap" -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "ilf.componentName" . }}
  labels: {{- include "ilf.labels" . | nindent 4 }}
data:
  config.yaml: |
    {{- include "ilf.configText" . | nindent 4 }}
{{- end -}}

{{- define "ilf.configText" -}}
{{- $chart := fromYaml .chart -}}
{{- if hasKey $chart "Error" -}}{{- fail (printf "settings of %s: %s" .component $chart.Error) -}}{{- end -}}
{{- toYaml (dict .section (mergeOverwrite (deepCopy .settings) $chart)) -}}
{{- end -}}

{{/* (root, stage): settings of a front */}}
{{- define "ilf.settings.front" -}}
{{- $ports := include "ilf.ports" .root | fromYaml -}}
{{- $values := get .root.Values .stage -}}
{{ include "ilf.settings.common" (dict "root" .root "stage" .stage "drain" $values.drainSeconds) }}
{{ include "ilf.settings.store" .root }}
workers:
  {{- $address := printf "%s-%s-workers.%s.svc.%s:%v" (include "ilf.fullname" .root) .stage .root.Release.Namespace .root.Values.clusterDomain (get $ports .stage).grpc }}
  {{- include "ilf.settings.channel" (dict "root" .root "address" $address) | nindent 2 }}
{{- end -}}

{{/* (pool): what a pool's GPUs mean for an engine */}}
{{- define "ilf.settings.engine" -}}
tensor_parallel_size: {{ .tensorParallel }}
{{- if eq (int .gpu.count) 0 }}
device: cpu
{{- end }}
{{- end -}}
