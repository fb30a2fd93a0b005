#!/usr/bin/env bash
# bash data_common/lock.sh [--upgrade]    writes requirements.lock: exact versions for requirements.txt and tests/requirements.txt
# Versions that the file has stay where they fit; --upgrade takes the newest. It needs uv (pip install uv), nothing else does.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # called by sh
set -euo pipefail
case "${*:-}" in "" | --upgrade) ;; *) echo "error: the only option is --upgrade" >&2; exit 2 ;; esac
cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/.."
command -v uv >/dev/null || { echo "error: uv is missing: pip install uv" >&2; exit 2; }
new="$(mktemp)"
trap 'rm -f "$new"' EXIT
[ ! -f requirements.lock ] || cp requirements.lock "$new"
uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url \
    --no-emit-find-links "$@" requirements.txt tests/requirements.txt -o "$new"
{
    echo "# Exact versions for Python 3.11 to 3.13, those of the tests too; made by: bash data_common/lock.sh"
    echo "# Packages of GPUs (CUDA, Triton) are left out: the torch that pip finds brings its own."
    grep -v -E '^(#|nvidia-|cuda-|triton)' "$new"
} >requirements.lock.partial
mv requirements.lock.partial requirements.lock
