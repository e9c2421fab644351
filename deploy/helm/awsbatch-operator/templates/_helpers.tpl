{{- define "awsbatch-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- /* Name of the namespaced objects: only the release name if it contains the chart name. */ -}}
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

{{- /* Labels and annotations of an object. Arguments: the root, its additional labels, its annotations. */ -}}
{{- define "awsbatch-operator.metadata" -}}
{{- $root := index . 0 -}}
labels:
  {{- $own := include "awsbatch-operator.labels" $root | fromYaml }}
  {{- toYaml (merge $own (index . 1) $root.Values.commonLabels) | nindent 2 }}
{{- with merge dict (index . 2) $root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* What the schema cannot say in a sentence. */ -}}
{{- define "awsbatch-operator.validate" -}}
{{- if hasKey .Values "replicaCount" -}}
{{- fail "replicaCount is not a value of this chart: set replicas, such as --set replicas=2" -}}
{{- end -}}
{{- if and (eq .Values.accessPolicy.mode "required") (not .Values.clusterName) -}}
{{- fail "accessPolicy.mode=required needs clusterName: set a name that no other of your clusters has, such as --set clusterName=prod-eu-1. It is part of the ExternalId in the trust policies of the roles that BatchAccessPolicies name, so keep it" -}}
{{- end -}}
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

{{- /* Rules for BatchJobs, BatchTerminations and Events: for a ClusterRole, or a Role in each namespace. */ -}}
{{- define "awsbatch-operator.rules" -}}
# Watch, resync list, and a get of one object after a conflict.
- apiGroups: [awsbatch.dev]
  resources: [batchjobs]
  verbs: [get, list, watch]
- apiGroups: [awsbatch.dev]
  resources: [batchterminations]
  verbs: [list, watch]
- apiGroups: [awsbatch.dev]
  resources: [batchjobs/status, batchterminations/status]
  verbs: [patch]
# Create an Event, or count up an existing one, of this process (patch) or an earlier one (get).
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, get, patch]
{{- end -}}

{{- /* Rules for cluster-scoped objects: always for a ClusterRole. Without access policies there are none. */ -}}
{{- define "awsbatch-operator.clusterRules" -}}
# Policies, and the labels of the namespaces that they select.
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

{{- /* Whether the operator can write its finalizer. It needs a ClusterRole, and the policy that limits it, which is one more
cluster-scoped object: an installation without cluster-scoped objects gets neither, unless it wants onDelete. */ -}}
{{- define "awsbatch-operator.finalizers" -}}
{{- $clusterScoped := or (not .Values.watchNamespaces) (ne .Values.accessPolicy.mode "disabled") .Values.onDelete.enabled -}}
{{- if and .Values.rbac.create .Values.rbac.finalizers $clusterScoped -}}true{{- end -}}
{{- end -}}

{{- /* Rules for the finalizer: always for a ClusterRole, since the Role of a namespace that is being deleted is gone before
the objects that the finalizer holds. */ -}}
{{- define "awsbatch-operator.finalizerRules" -}}
# The finalizer awsbatch.dev/terminate-on-delete; also where onDelete is disabled, to release objects whose manifest has it.
# The ValidatingAdmissionPolicy {{ include "awsbatch-operator.finalizerPolicy" . }} denies every other change.
- apiGroups: [awsbatch.dev]
  resources: [batchjobs]
  verbs: [patch]
{{- if .Values.onDelete.enabled }}
# Whether the CRD itself is being deleted, which terminates no job.
- apiGroups: [apiextensions.k8s.io]
  resources: [customresourcedefinitions]
  resourceNames: [batchjobs.awsbatch.dev]
  verbs: [get]
{{- end }}
{{- end -}}

{{- define "awsbatch-operator.finalizerPolicy" -}}
{{- printf "%s-finalizers-only" (include "awsbatch-operator.clusterRole" .) -}}
{{- end -}}

{{- define "awsbatch-operator.uninstallHook" -}}
{{- printf "%s-release-finalizers" (include "awsbatch-operator.fullname" . | trunc 44 | trimSuffix "-") -}}
{{- end -}}

{{- /* Name of the operator's ClusterRole; with watchNamespaces it contains the namespace, since names can repeat. */ -}}
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

{{- /* Metadata of the pods of the Deployment and of the uninstall hook. */ -}}
{{- define "awsbatch-operator.podMetadata" -}}
labels:
  {{- $own := dict "app.kubernetes.io/version" .Chart.AppVersion }}
  {{- $own = merge $own (include "awsbatch-operator.selectorLabels" . | fromYaml) }}
  {{- toYaml (merge $own .Values.podLabels .Values.commonLabels) | nindent 2 }}
annotations:
  {{- $default := dict "kubectl.kubernetes.io/default-container" "operator" }}
  {{- toYaml (merge dict .Values.podAnnotations $default .Values.commonAnnotations) | nindent 2 }}
{{- end -}}

{{- /* What the pods of the Deployment and of the uninstall hook have in common. */ -}}
{{- define "awsbatch-operator.podSpec" -}}
serviceAccountName: {{ include "awsbatch-operator.serviceAccount" . }}
automountServiceAccountToken: true
# The variables of Services in the namespace are not settings of the operator.
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.extraVolumes }}
volumes:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* What their containers have in common. */ -}}
{{- define "awsbatch-operator.container" -}}
image: {{ include "awsbatch-operator.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- with .Values.extraEnv }}
env:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.securityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.extraVolumeMounts }}
volumeMounts:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* topologySpreadConstraints, with the Deployment's selector where there is no other. */ -}}
{{- define "awsbatch-operator.spread" -}}
{{- $own := dict "matchLabels" (include "awsbatch-operator.selectorLabels" . | fromYaml) -}}
{{- $all := list -}}
{{- range .Values.topologySpreadConstraints -}}
{{- $all = append $all (merge (deepCopy .) (hasKey . "labelSelector" | ternary dict (dict "labelSelector" $own))) -}}
{{- end -}}
{{- toYaml $all -}}
{{- end -}}
