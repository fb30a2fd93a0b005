#!/usr/bin/env bash
# bash model_eval/entry.sh MODEL RESULT.yaml METHOD [CONFIG.yaml] [key=value ...] [--help] [--dry-run]
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # called by sh
set -euo pipefail
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/../data_common/python.sh"
run_stage model_eval "$@"
