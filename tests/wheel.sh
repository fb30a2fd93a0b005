#!/usr/bin/env bash
# bash tests/wheel.sh [pytest arguments]    installs a wheel into an empty environment, with all that it needs, and tests it
# `bash tests/run.sh -m slow tests/test_wheel.py` is quicker: it takes what the wheel needs from the environment of the tests.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # called by sh
set -euo pipefail
tests="$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cp -r "$tests/.." "$folder/source" # building leaves files in its folder
rm -rf "$folder/source/.venv" "$folder/source/build"
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip wheel --quiet --disable-pip-version-check --no-deps -w "$folder" "$folder/source"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$folder"/delt-*.whl
DELT_INSTALLED="$folder/venv/bin" bash "$tests/run.sh" -n 1 -m slow "$tests/test_wheel.py" "$@"
