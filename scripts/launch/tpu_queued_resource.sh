#!/usr/bin/env bash
# Runs spjax on a Cloud TPU slice: asks for it as a queued resource, waits, installs, runs a command
# on every host of the slice, and gives it back.
#
#   PROJECT=my-project ZONE=us-west4-a ACCELERATOR=v5litepod-16 FILESTORE=10.0.0.2:/share \
#     scripts/launch/tpu_queued_resource.sh train --gin_file=... --gin.MODEL_DIR=/shared/run
#
# FILESTORE=ADDRESS:/SHARE is a folder that all hosts share and that outlives the slice; it is
# mounted at /shared. What is committed in the clone is installed, and no other change or new file.
# The slice is a spot one, which may be taken away: run the same command again, and the run goes on
# from its last checkpoint. KEEP=1 leaves the slice running.
set -euo pipefail

: "${PROJECT:?is the Google Cloud project}"
: "${ZONE:?is the zone of the TPUs}"
: "${FILESTORE:?is the NFS file system, ADDRESS:/SHARE}"
ACCELERATOR="${ACCELERATOR:-v5litepod-16}"
RUNTIME="${RUNTIME:-v2-alpha-tpuv5-lite}"
NAME="${NAME:-spjax}"
clone="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
where=(--project="$PROJECT" --zone="$ZONE")

if [ $# -eq 0 ]; then
  echo "usage: $0 COMMAND OF SPJAX, for example: train --gin_file=..." >&2
  exit 2
fi

changes="$(git -C "$clone" status --short)"
if [ -n "$changes" ]; then
  printf 'note: these are not committed and stay behind:\n%s\n' "$changes" >&2
fi
sources="$(mktemp -d)/spjax.tar.gz"
git -C "$clone" archive --format=tar.gz --output="$sources" HEAD

state() {
  gcloud compute tpus queued-resources describe "$NAME" "${where[@]}" --format='value(state.state)'
}

give_back() {
  [ -n "${KEEP:-}" ] ||
    gcloud compute tpus queued-resources delete "$NAME" "${where[@]}" --force --quiet
}

on_all() {
  gcloud compute tpus tpu-vm ssh "$NAME" "${where[@]}" --worker=all --command="$1"
}

if ! state >/dev/null 2>&1; then
  gcloud compute tpus queued-resources create "$NAME" "${where[@]}" --node-id="$NAME" \
    --accelerator-type="$ACCELERATOR" --runtime-version="$RUNTIME" --spot
fi
trap give_back EXIT
until [ "$(state)" = ACTIVE ]; do
  case "$(state)" in
    FAILED | SUSPENDED)
      echo "The queued resource $NAME is $(state)." >&2
      exit 1
      ;;
  esac
  sleep 30
done

gcloud compute tpus tpu-vm scp "$sources" "$NAME": "${where[@]}" --worker=all
on_all "sudo apt-get update -q && sudo apt-get install -qy nfs-common python3-venv &&
  sudo mkdir -p /shared && (mountpoint -q /shared || sudo mount $FILESTORE /shared) &&
  mkdir -p spjax && tar -xzf spjax.tar.gz -C spjax && python3 -m venv venv &&
  venv/bin/pip install -q './spjax[tpu,tfds,hub,gcs]'"
on_all "venv/bin/spjax $(printf '%q ' "$@")"
