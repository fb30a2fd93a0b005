#!/usr/bin/env bash
# bash tests/run.sh [pytest arguments]    runs the tests; sets itself up first where need be
#   bash tests/run.sh tests/data_ordering -k folding
#   bash tests/run.sh -m slow              the checks that take minutes
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # called by sh
set -euo pipefail
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/../data_common/setup.sh"
if ! has_requirements "$DELT_PYTHON" "$DELT_ROOT/tests/requirements.txt"; then
    "$DELT_PYTHON" -m pip install --quiet --disable-pip-version-check -r "$DELT_ROOT/tests/requirements.txt" \
        -c "$DELT_ROOT/requirements.lock"
fi
cd "$DELT_ROOT"
export OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false # tiny models: threads only spin
exec "$DELT_PYTHON" -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder "$@"
