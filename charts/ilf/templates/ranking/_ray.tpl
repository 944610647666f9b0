{{/*
A container of Ray: (root, component, resources, gpu, env, ready: {port, path})
KubeRay's own probes would call programs in the image, and ask a port that is not opened where no HTTP proxy runs.
*/}}
{{- define "ilf.rayContainer" -}}
{{- $values := .root.Values.ranking -}}
image: {{ include "ilf.image" (dict "root" .root "name" "ranking" "override" $values.image) }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
env:
  # Ray stops a node only when its calls have ended, or after this time.
  - {name: RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S, value: {{ $values.drainSeconds | quote }}}
  {{- include "ilf.env" (dict "root" .root "env" $values.env "models" true) | nindent 2 }}
{{- include "ilf.envFrom" .root | nindent 0 }}
startupProbe:
  httpGet: {port: 52365, path: /api/local_raylet_healthz}
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: {{ div (add $values.startupSeconds 1) 2 }}
readinessProbe:
  httpGet: {port: {{ .ready.port }}, path: {{ .ready.path }}}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 5
livenessProbe:
  httpGet: {port: 52365, path: /api/local_raylet_healthz}
  periodSeconds: 10
  timeoutSeconds: 10
  failureThreshold: 6
securityContext: {{- include "ilf.containerSecurity" .root | nindent 2 }}
resources: {{- include "ilf.resources" (dict "resources" .resources "gpu" .gpu) | nindent 2 }}
volumeMounts: {{- include "ilf.mounts" . | nindent 2 }}
{{- end -}}

{{/* Ray's own ports are plain, so only Ray's pods, its operator and the front reach these pods. */}}
{{- define "ilf.rayNetwork" -}}
{{- $ports := (include "ilf.ports" . | fromYaml).ranking -}}
{{- $pods := list "ranking-worker" "ranking-judge" -}}
{{ include "ilf.networkPolicy" (dict "root" . "component" "ranking-front" "metrics" $ports.metrics "store" true
  "from" (list (dict "components" (list "orchestrator") "peers" .Values.networkPolicy.clients "ports" (list $ports.grpc)))
  "to" (list (dict "components" (list "ranking-worker") "ports" (list $ports.grpc)))) }}
---
{{ include "ilf.networkPolicy" (dict "root" . "component" "ranking-worker" "metrics" $ports.metrics "hub" true "api" true
  "from" (list
    (dict "components" $pods)
    (dict "components" (list "ranking-front") "ports" (list $ports.grpc))
    (dict "peers" .Values.networkPolicy.kuberay "ports" (list 8265 52365 8000)))
  "to" (list (dict "components" $pods))) }}
---
{{ include "ilf.networkPolicy" (dict "root" . "component" "ranking-judge" "hub" true
  "from" (list (dict "components" $pods) (dict "peers" .Values.networkPolicy.kuberay "ports" (list 52365)))
  "to" (list (dict "components" $pods))) }}
{{- end -}}
