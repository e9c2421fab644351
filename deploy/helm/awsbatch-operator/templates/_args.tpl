{{- /* Flags of `awsbatch-operator run` for the values that are set; the operator has its own defaults. */ -}}
{{- define "awsbatch-operator.args" -}}
- run
# No host: listen on IPv4 and IPv6.
- --http-address=:8080
- --leader-elect
- --lease-name={{ include "awsbatch-operator.lease" . }}
{{- range .Values.watchNamespaces }}
- --namespace={{ . }}
{{- end }}
{{- with .Values.aws.region }}
- --region={{ . }}
{{- end }}
{{- range .Values.allowRegions }}
- --allow-region={{ . }}
{{- end }}
- --access-policy={{ .Values.accessPolicy.mode }}
{{- with .Values.pollInterval.running }}
- --poll-running={{ . }}
{{- end }}
{{- with .Values.pollInterval.pending }}
- --poll-pending={{ . }}
{{- end }}
{{- with .Values.pollInterval.withEvents }}
- --poll-with-events={{ . }}
{{- end }}
{{- if eq (toString .Values.listPolls) "false" }}
- --no-list-polls
{{- end }}
{{- range .Values.eventsQueues }}
- --events-queue={{ . }}
{{- end }}
{{- range $value, $flag := dict
    "clusterName" "cluster-name"
    "missingGrace" "missing-grace"
    "resendAfter" "resend-after"
    "describeRate" "describe-rate"
    "terminateRate" "terminate-rate"
    "unattendedLimit" "unattended-limit"
    "logFormat" "log-format"
    "logLevel" "log-level" }}
{{- with index $.Values $value }}
- --{{ $flag }}={{ . }}
{{- end }}
{{- end }}
{{- if .Values.onDelete.enabled }}
- --on-delete=enabled
{{- end }}
{{- with .Values.onDelete.timeout }}
- --on-delete-timeout={{ . }}
{{- end }}
{{- if eq (toString .Values.metricsRoleLabel) "false" }}
- --no-metrics-role-label
{{- end }}
# The last one wins where a flag comes twice.
{{- range .Values.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end -}}
