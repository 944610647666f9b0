{{/* DNS names of all servers, as a JSON list. Workers are reached by the name of their headless Service. */}}
{{- define "ilf.serverNames" -}}
{{- $fullname := include "ilf.fullname" . -}}
{{- $services := list "finetune" "orchestrator" -}}
{{- range $stage := include "ilf.stages" . | fromJsonArray -}}
{{- $services = concat $services (list $stage (printf "%s-workers" $stage)) -}}
{{- end -}}
{{- $names := list "localhost" -}}
{{- range $service := $services -}}
{{- $name := printf "%s-%s" $fullname $service -}}
{{- $in := list $name (printf "%s.%s" $name $.Release.Namespace) (printf "%s.%s.svc" $name $.Release.Namespace) (printf "%s.%s.svc.%s" $name $.Release.Namespace $.Values.clusterDomain) -}}
{{- $names = concat $names $in -}}
{{- if hasSuffix "-workers" $service -}}
{{- $names = append $names (printf "*.%s.%s.svc.%s" $name $.Release.Namespace $.Values.clusterDomain) -}}
{{- end -}}
{{- end -}}
{{- toJson (concat $names .Values.tls.extraNames) -}}
{{- end -}}

{{/* (root, name, annotation, certificate, authority) */}}
{{- define "ilf.tlsSecretObject" -}}
apiVersion: v1
kind: Secret
type: kubernetes.io/tls
metadata:
  name: {{ .name }}
  labels: {{- include "ilf.labels" (dict "root" .root "component" "") | nindent 4 }}
  annotations: {ilf.dev/made-for: {{ .annotation }}}
data:
  tls.crt: {{ .certificate }}
  tls.key: {{ .key }}
  ca.crt: {{ .authority }}
{{- end -}}
