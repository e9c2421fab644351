#!/usr/bin/env bash
# The main job on the cluster of KUBECONFIG, whose operator works with the sandbox's Batch: a patch ends a running job.
# $1: a URL of that Batch, as this machine reaches it.
set -euo pipefail
reason="INC-4711: runaway cost"

job=$(curl --fail --silent --show-error --json '{"name": "runaway", "status": "RUNNING"}' "$1/_sandbox/seed" | jq --raw-output .result)
kubectl create --filename - <<EOF
apiVersion: awsbatch.dev/v1alpha1
kind: BatchJob
metadata: {name: runaway, namespace: default}
spec: {jobId: $job}
EOF
wait=(kubectl wait batchjob/runaway --namespace default --timeout=60s)
"${wait[@]}" --for=jsonpath='{.status.phase}'=Running
kubectl patch batchjob runaway --namespace default --type=merge --patch "{\"spec\":{\"terminate\":{\"reason\":\"$reason\"}}}"
"${wait[@]}" --for=condition=Finished
"${wait[@]}" --for=jsonpath='{.status.phase}'=Terminated
"${wait[@]}" --for=jsonpath='{.status.statusReason}'="$reason"
"${wait[@]}" --for=condition=Ready
kubectl get batchjob runaway --namespace default --output wide
kubectl delete batchjob runaway --namespace default
