{{- /* Flags of `awsbatch-operator run`, those alone whose value is set: the defaults are the operator's own. */ -}}
{{- define "awsbatch-operator.args" -}}
- run
# Without a host it listens on IPv4 and IPv6 alike.
- --http-address=:8080
- --leader-elect
- --lease-name={{ include "awsbatch-operator.lease" . }}
{{- range .Values.watchNamespaces }}
- --namespace={{ . }}
{{- end }}
{{- with .Values.aws.region }}
- --region={{ . }}
{{- end }}
- --access-policy={{ .Values.accessPolicy.mode }}
{{- range $value, $flag := dict
    "clusterName" "cluster-name"
    "lookRunning" "look-running"
    "lookPending" "look-pending"
    "absenceGrace" "absence-grace"
    "resendAfter" "resend-after"
    "describeRate" "describe-rate"
    "terminateRate" "terminate-rate"
    "logFormat" "log-format"
    "logLevel" "log-level" }}
{{- with index $.Values $value }}
- --{{ $flag }}={{ . }}
{{- end }}
{{- end }}
{{- end -}}
