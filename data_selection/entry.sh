#!/usr/bin/env bash
# bash data_selection/entry.sh IN.jsonl OUT.jsonl METHOD [CONFIG.yaml] [key=value ...] [--help] [--dry-run]
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # called by sh
set -euo pipefail
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/../data_common/python.sh"
run_stage data_selection "$@"
