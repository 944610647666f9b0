{{/* The gRPC services that clients call, by the Service that answers them, as a JSON object. */}}
{{- define "ilf.routes" -}}
{{- $routes := dict
  "refinement" (list "ilf.refinement.v1.RefinementService")
  "ranking" (list "ilf.ranking.v1.RankingService")
  "finetune" (list "ilf.finetune.v1.FinetuneService")
  "orchestrator" (list "ilf.orchestrator.v1.OrchestratorService" "ilf.data.v1.DataService") -}}
{{- if .Values.reward.enabled -}}{{- $_ := set $routes "reward" (list "ilf.reward.v1.RewardService") -}}{{- end -}}
{{- toJson $routes -}}
{{- end -}}
