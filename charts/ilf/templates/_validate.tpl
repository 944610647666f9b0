{{/* What the schema cannot say. All complaints at once, each with its value's path. */}}
{{- define "ilf.validate" -}}
{{- $bad := list -}}
{{- range $stage := include "ilf.stages" . | fromJsonArray -}}
{{- $pool := (get $.Values $stage).pool -}}
{{- if lt (int $pool.maxReplicas) (int $pool.minReplicas) -}}
{{- $bad = append $bad (printf "%s.pool.maxReplicas is %v, less than minReplicas %v" $stage $pool.maxReplicas $pool.minReplicas) -}}
{{- end -}}
{{- $gpus := int $pool.gpu.count -}}
{{- if and (gt $gpus 0) (lt $gpus (int $pool.tensorParallel)) -}}
{{- $bad = append $bad (printf "%s.pool.tensorParallel is %v, but a replica has pool.gpu.count %v GPUs" $stage $pool.tensorParallel $gpus) -}}
{{- end -}}
{{- if and (eq $gpus 0) (gt (int $pool.tensorParallel) 1) -}}
{{- $bad = append $bad (printf "%s.pool.tensorParallel is %v, but pool.gpu.count is 0: without GPUs it is 1" $stage $pool.tensorParallel) -}}
{{- end -}}
{{- end -}}

{{- $database := .Values.externalDatabase.existingSecret -}}
{{- if and .Values.postgresql.enabled $database -}}
{{- $bad = append $bad "externalDatabase.existingSecret is set, but postgresql.enabled is true: choose one database" -}}
{{- end -}}
{{- if not (or .Values.postgresql.enabled $database) -}}
{{- $bad = append $bad "externalDatabase.existingSecret is empty, and postgresql.enabled is false: name the Secret with the database's URL" -}}
{{- end -}}

{{- if and (eq .Values.tls.mode "existing") (not (and .Values.tls.existingSecret .Values.tls.existingClientSecret)) -}}
{{- $bad = append $bad "tls.existingSecret and tls.existingClientSecret are needed with tls.mode existing" -}}
{{- end -}}
{{- if and (ne .Values.tls.mode "existing") (or .Values.tls.existingSecret .Values.tls.existingClientSecret) -}}
{{- $bad = append $bad (printf "tls.existingSecret is only read with tls.mode existing, which is %s" .Values.tls.mode) -}}
{{- end -}}
{{- range $path, $need := dict
  "tls.mode" (list (eq .Values.tls.mode "cert-manager") "cert-manager.io/v1" "cert-manager")
  "autoscaling.mode" (list (eq .Values.autoscaling.mode "keda") "keda.sh/v1alpha1" "KEDA")
  "ranking.ray.mode" (list (eq .Values.ranking.ray.mode "kuberay") "ray.io/v1" "KubeRay")
  "metrics.serviceMonitor" (list (eq .Values.metrics.serviceMonitor "enabled") "monitoring.coreos.com/v1" "the Prometheus operator")
  "metrics.prometheusRule" (list (eq .Values.metrics.prometheusRule "enabled") "monitoring.coreos.com/v1" "the Prometheus operator")
  "grpcRoute.enabled" (list .Values.grpcRoute.enabled "gateway.networking.k8s.io/v1" "the Gateway API") -}}
{{- if and (index $need 0) (not ($.Capabilities.APIVersions.Has (index $need 1))) -}}
{{- $bad = append $bad (printf "%s asks for %s, which this cluster lacks (API %s); install it first, or with `helm template` add --api-versions %s" $path (index $need 2) (index $need 1) (index $need 1)) -}}
{{- end -}}
{{- end -}}

{{- $kueue := .Values.kueue -}}
{{- if eq $kueue.mode "enabled" -}}
{{- if not (include "ilf.kueueVersion" .) -}}
{{- $bad = append $bad "kueue.mode is enabled, but this cluster lacks Kueue (API kueue.x-k8s.io); install it first, or with `helm template` add --api-versions kueue.x-k8s.io/v1beta2" -}}
{{- end -}}
{{- if not (or $kueue.create.enabled (and $kueue.servingQueue $kueue.trainingQueue)) -}}
{{- $bad = append $bad "kueue.mode is enabled: name kueue.servingQueue and kueue.trainingQueue, or set kueue.create.enabled" -}}
{{- end -}}
{{- end -}}
{{- if ne (empty $kueue.servingQueue) (empty $kueue.trainingQueue) -}}
{{- $bad = append $bad "kueue.servingQueue and kueue.trainingQueue belong together: name both or neither" -}}
{{- end -}}
{{- if $kueue.create.enabled -}}
{{- range $resource := include "ilf.poolResources" . | fromJsonArray -}}
{{- if not (hasKey $kueue.create.quota $resource) -}}
{{- $bad = append $bad (printf "kueue.create.quota lacks %s, which a pool asks for: its pods would never be admitted" $resource) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- if and .Values.modelVolume.download (not .Values.modelVolume.enabled) (gt (len .Values.models) 0) -}}
{{- if gt (int .Values.training.pool.nodes) 1 -}}
{{- $bad = append $bad "modelVolume.download without modelVolume.enabled fills a volume of each worker's own; trainers on several nodes need the claim" -}}
{{- end -}}
{{- end -}}
{{- range $judge := .Values.ranking.settings.judges -}}
{{- $models := default $.Values.models $.Values.ranking.settings.models -}}
{{- if and $judge.model (not (hasKey $models $judge.model)) -}}
{{- $bad = append $bad (printf "ranking.settings.judges: judge %s names the model %s, which is none of %v" $judge.name $judge.model (keys $models | sortAlpha)) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.tests.model (not (hasKey .Values.models .Values.tests.model)) -}}
{{- $bad = append $bad (printf "tests.model is %s, which is none of models %v" .Values.tests.model (keys .Values.models | sortAlpha)) -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.host) -}}
{{- $bad = append $bad "ingress.host is needed with ingress.enabled" -}}
{{- end -}}
{{- $console := .Values.console -}}
{{- if and $console.ingress.enabled (not $console.ingress.host) -}}
{{- $bad = append $bad "console.ingress.host is needed with console.ingress.enabled" -}}
{{- end -}}
{{- if and $console.settings.oidc (not (or $console.ingress.enabled (default dict $console.settings.server).url)) -}}
{{- $bad = append $bad "console.settings.oidc needs to know where people reach the console: set console.ingress, or console.settings.server.url" -}}
{{- end -}}
{{- if and .Values.grpcRoute.enabled (not .Values.grpcRoute.parentRefs) -}}
{{- $bad = append $bad "grpcRoute.parentRefs is needed with grpcRoute.enabled: name the Gateway" -}}
{{- end -}}
{{- with $bad -}}
{{- fail (printf "\n\nThese values do not fit:\n  - %s\n" (join "\n  - " .)) -}}
{{- end -}}
{{- end -}}

{{/* GPU resources that pools ask for, as a JSON list. */}}
{{- define "ilf.poolResources" -}}
{{- $found := list -}}
{{- range append (include "ilf.stages" . | fromJsonArray) "training" -}}
{{- $gpu := (get $.Values .).pool.gpu -}}
{{- if gt (int $gpu.count) 0 -}}{{- $found = append $found $gpu.resource -}}{{- end -}}
{{- end -}}
{{- toJson (uniq $found) -}}
{{- end -}}
