#!/usr/bin/env bash
# bash model_train/entry.sh IN.jsonl MODEL_IN MODEL_OUT METHOD [CONFIG.yaml] [key=value ...] [--help] [--dry-run]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../common/python.sh"
run_stage model_train "$@"
