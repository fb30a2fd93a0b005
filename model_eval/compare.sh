#!/usr/bin/env bash
# bash model_eval/compare.sh RESULT.yaml RESULT.yaml ... [baseline=NAME] [output=PREFIX] [key=value ...] [--help]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../common/python.sh"
run_stage model_eval.compare "$@"
