#!/bin/sh
# Waits until the job of a BatchJob has ended, and exits by its outcome. For a pipeline whose image has kubectl:
#   ./wait.sh train-42 3600              # in the namespace of the current context, for an hour; by default a day
#
# Exit code: 0 the job succeeded, 1 it failed, 2 it was terminated, 3 no such object or job, or no policy admits it, 4
# it has not ended in time. The user needs get, list and watch on batchjobs.awsbatch.dev. Explained in docs/guide.md.
set -eu
end=$(($(date +%s) + ${2:-86400}))

while :; do
  # A failure of kubectl is printed, and leaves the phase empty: the API server can be back a moment later.
  phase=$(kubectl get batchjob "$1" -o jsonpath='{.status.phase}') || true
  case $phase in
    Succeeded) exit 0 ;;
    Failed) exit 1 ;;
    Terminated) exit 2 ;;
    Missing | Denied) exit 3 ;;
  esac
  left=$((end - $(date +%s)))
  if [ "$left" -le 0 ]; then
    echo "the job of batchjob/$1 has not ended; its phase is ${phase:-unknown}" >&2
    exit 4
  fi
  # A job that is unknown or not allowed never meets the condition, so the phase is read once a minute.
  error=$(kubectl wait "batchjob/$1" --for=condition=Finished --timeout="$((left < 60 ? left : 60))s" 2>&1) ||
    case $error in
      *"timed out waiting"*) ;;
      *NotFound*) echo "$error" >&2; exit 3 ;;
      *) echo "$error" >&2; sleep 1 ;;
    esac
done
