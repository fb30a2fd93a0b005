#!/usr/bin/env bash
# bash model_train/entry.sh IN.jsonl MODEL_IN MODEL_OUT METHOD [CONFIG.yaml] [key=value ...] [--help] [--dry-run]
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # called by sh
set -euo pipefail
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/../data_common/python.sh"
run_stage model_train "$@"
