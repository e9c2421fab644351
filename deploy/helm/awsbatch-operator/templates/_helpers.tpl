{{- define "awsbatch-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- /* The name of all namespaced objects: the release's alone where it holds the chart's. */ -}}
{{- define "awsbatch-operator.fullname" -}}
{{- $name := include "awsbatch-operator.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "awsbatch-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "awsbatch-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "awsbatch-operator.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "awsbatch-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "awsbatch-operator.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "awsbatch-operator.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "awsbatch-operator.lease" -}}
{{- default (include "awsbatch-operator.fullname" .) .Values.lease.name -}}
{{- end -}}

{{- define "awsbatch-operator.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- /* All that the operator does with BatchJobs and Events: for a ClusterRole, or a Role in each namespace. */ -}}
{{- define "awsbatch-operator.rules" -}}
# The watch, the sweep for objects that vanished, and one object anew after a conflict.
- apiGroups: [awsbatch.dev]
  resources: [batchjobs]
  verbs: [get, list, watch]
- apiGroups: [awsbatch.dev]
  resources: [batchjobs/status]
  verbs: [patch]
# Told, and counted up when the same is told again, by this process (patch) or an earlier one (get).
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, get, patch]
{{- end -}}

{{- /* What decides about BatchJobs and is of the whole cluster: for a ClusterRole, whatever is watched. */ -}}
{{- define "awsbatch-operator.clusterRules" -}}
# Which policy a namespace is under: all policies, and the labels of all namespaces that they select by.
- apiGroups: [awsbatch.dev]
  resources: [batchaccesspolicies]
  verbs: [list, watch]
- apiGroups: [awsbatch.dev]
  resources: [batchaccesspolicies/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [namespaces]
  verbs: [list, watch]
{{- end -}}

{{- /* The name of the operator's ClusterRole. A namespaced release is not the only one of its name in the cluster. */ -}}
{{- define "awsbatch-operator.clusterRole" -}}
{{- $name := include "awsbatch-operator.fullname" . -}}
{{- if .Values.watchNamespaces -}}
{{- $rest := sub 62 (len .Release.Namespace | min 31) | int -}}
{{- printf "%s-%s" ($name | trunc $rest | trimSuffix "-") (.Release.Namespace | trunc 31 | trimSuffix "-") -}}
{{- else -}}
{{- $name -}}
{{- end -}}
{{- end -}}

{{- define "awsbatch-operator.subject" -}}
- kind: ServiceAccount
  name: {{ include "awsbatch-operator.serviceAccount" . }}
  namespace: {{ .Release.Namespace }}
{{- end -}}

{{- /* topologySpreadConstraints, each with the Deployment's own selector unless it has one. */ -}}
{{- define "awsbatch-operator.spread" -}}
{{- $own := dict "matchLabels" (include "awsbatch-operator.selectorLabels" . | fromYaml) -}}
{{- $all := list -}}
{{- range .Values.topologySpreadConstraints -}}
{{- $all = append $all (merge (deepCopy .) (hasKey . "labelSelector" | ternary dict (dict "labelSelector" $own))) -}}
{{- end -}}
{{- toYaml $all -}}
{{- end -}}
