#!/usr/bin/env bash
# bash model_eval/compare.sh RESULT.yaml RESULT.yaml ... [baseline=NAME] [output=PREFIX] [key=value ...] [--help]
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # called by sh
set -euo pipefail
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/../data_common/python.sh"
run_stage model_eval.compare "$@"
