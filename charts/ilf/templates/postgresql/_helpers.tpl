{{- define "ilf.postgresqlSecret" -}}
{{- default (printf "%s-postgresql" (include "ilf.fullname" .)) .Values.postgresql.existingSecret -}}
{{- end -}}

{{/* The orchestrator's database URL, from secrets. */}}
{{- define "ilf.databaseEnv" -}}
{{- if .Values.postgresql.enabled -}}
- name: POSTGRES_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ include "ilf.postgresqlSecret" . }}, key: password}}
- name: ILF_ORCHESTRATOR__DATABASE_URL
  value: postgresql://ilf:$(POSTGRES_PASSWORD)@{{ include "ilf.fullname" . }}-postgresql:5432/ilf
{{- else -}}
- name: ILF_ORCHESTRATOR__DATABASE_URL
  valueFrom: {secretKeyRef: {name: {{ .Values.externalDatabase.existingSecret }}, key: {{ .Values.externalDatabase.key }}}}
{{- end -}}
{{- end -}}
