#!/usr/bin/env bash
# bash data_ordering/entry.sh IN.jsonl OUT.jsonl METHOD [CONFIG.yaml] [key=value ...] [--help] [--dry-run]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../common/python.sh"
run_stage data_ordering "$@"
