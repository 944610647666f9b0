{{/* NetworkPolicies: each component names who may call it and whom it may call; the rest is denied. */}}

{{/* (root, component, from: [{components, peers, ports}], to: [{components, cidrs, peers, ports}], api: bool, hub: bool, store: bool, oidc: bool) */}}
{{- define "ilf.networkPolicy" -}}
{{- $root := .root -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "ilf.componentName" . }}
  labels: {{- include "ilf.labels" . | nindent 4 }}
spec:
  podSelector:
    matchLabels: {{- include "ilf.selectorLabels" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    {{- range .from }}
    - from: {{- include "ilf.networkPeers" (dict "root" $root "rule" .) | nindent 8 }}
      {{- include "ilf.networkPorts" .ports | nindent 6 }}
    {{- end }}
    {{- if .metrics }}
    - from: {{- toYaml $root.Values.networkPolicy.monitoring | nindent 8 }}
      {{- include "ilf.networkPorts" (list .metrics) | nindent 6 }}
    {{- end }}
  egress:
    - ports:
        - {port: 53, protocol: UDP}
        - {port: 53, protocol: TCP}
    {{- range .to }}
    - to: {{- include "ilf.networkPeers" (dict "root" $root "rule" .) | nindent 8 }}
      {{- include "ilf.networkPorts" .ports | nindent 6 }}
    {{- end }}
    {{- range $target := include "ilf.networkOutside" . | fromJsonArray }}
    {{- $rule := get $root.Values.networkPolicy $target }}
    - to: {{- include "ilf.networkPeers" (dict "root" $root "rule" $rule) | nindent 8 }}
      {{- include "ilf.networkPorts" $rule.ports | nindent 6 }}
    {{- end }}
{{- end -}}

{{/* Which places outside the release a component may reach, as a JSON list. */}}
{{- define "ilf.networkOutside" -}}
{{- $targets := list -}}
{{- if and .store .root.Values.store.root -}}{{- $targets = append $targets "store" -}}{{- end -}}
{{- if and .hub (or (not .root.Values.huggingface.offline) .root.Values.modelVolume.download) -}}{{- $targets = append $targets "hub" -}}{{- end -}}
{{- if .api -}}{{- $targets = append $targets "apiServer" -}}{{- end -}}
{{- if and .database (not .root.Values.postgresql.enabled) -}}{{- $targets = append $targets "database" -}}{{- end -}}
{{- if and .oidc .root.Values.console.settings.oidc -}}{{- $targets = append $targets "oidc" -}}{{- end -}}
{{- if .root.Values.telemetry.otlpEndpoint -}}{{- $targets = append $targets "otlp" -}}{{- end -}}
{{- toJson $targets -}}
{{- end -}}

{{/* (root, rule) */}}
{{- define "ilf.networkPeers" -}}
{{- range .rule.components }}
- podSelector:
    matchLabels: {{- include "ilf.selectorLabels" (dict "root" $.root "component" .) | nindent 6 }}
{{- end }}
{{- range .rule.cidrs }}
- ipBlock: {cidr: {{ . }}}
{{- end }}
{{- with .rule.peers }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "ilf.networkPorts" -}}
{{- with . -}}
ports:
{{- range . }}
  - {port: {{ . }}, protocol: TCP}
{{- end }}
{{- end }}
{{- end -}}

{{/* The components that call all services, as a JSON list. */}}
{{- define "ilf.orchestrating" -}}
{{- toJson (ternary (list "orchestrator" "console") (list "orchestrator") .Values.console.enabled) -}}
{{- end -}}

{{/* (root, stage): front and workers */}}
{{- define "ilf.stageNetwork" -}}
{{- $ports := get (include "ilf.ports" .root | fromYaml) .stage -}}
{{- $front := printf "%s-front" .stage -}}
{{- $worker := printf "%s-worker" .stage -}}
{{- $callers := include "ilf.orchestrating" .root | fromJsonArray -}}
{{- if eq .stage "refinement" -}}{{- $callers = append $callers "reward-worker" -}}{{- end -}}
{{- $grpc := list $ports.grpc -}}
{{- $clients := .root.Values.networkPolicy.clients -}}
{{ include "ilf.networkPolicy" (dict "root" .root "component" $front "metrics" $ports.metrics "store" true
  "from" (list (dict "components" $callers "peers" $clients "ports" $grpc))
  "to" (list (dict "components" (list $worker) "ports" $grpc))) }}
---
{{ include "ilf.networkPolicy" (dict "root" .root "component" $worker "metrics" $ports.metrics "store" true "hub" true
  "from" (list (dict "components" (list $front) "ports" $grpc))
  "to" .calls) }}
{{- end -}}
