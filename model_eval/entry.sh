#!/usr/bin/env bash
# bash model_eval/entry.sh MODEL RESULT.yaml METHOD [CONFIG.yaml] [key=value ...] [--help] [--dry-run]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../common/python.sh"
run_stage model_eval "$@"
