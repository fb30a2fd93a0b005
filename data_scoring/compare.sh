#!/usr/bin/env bash
# bash data_scoring/compare.sh A.jsonl B.jsonl [RESULT.html] [key=value ...] [--help]
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # called by sh
set -euo pipefail
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/../data_common/python.sh"
run_stage data_scoring.compare "$@"
