# Sourced by pipeline.sh, the recipes and tests/run.sh: makes sure that there is a Python with the requirements.
# DELT_PYTHON, the active environment or python3 is used if it has them; else a .venv is made in the repository,
# with the exact versions of requirements.lock.
source "$(dirname -- "${BASH_SOURCE[0]}")/python.sh"

make_environment() {
    local base=python3 venv="$DELT_ROOT/.venv"
    [[ "$DELT_ROOT" != *:* ]] || fail "Python makes no .venv below a folder with a colon in its name: move $DELT_ROOT, or set DELT_PYTHON"
    "$base" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "Python 3.11 or newer is needed as python3"
    local packages="$DELT_ROOT/requirements.lock" # the exact versions of Python 3.11 to 3.13
    "$base" -c 'import sys; sys.exit(sys.version_info >= (3, 14))' || packages="$DELT_ROOT/requirements.txt"
    echo "setting up $venv from ${packages##*/} (a few minutes, once)"
    [ -x "$venv/bin/python" ] || "$base" -m venv "$venv" || fail "python3 -m venv failed (Debian: apt install python3-venv)"
    grep -v '^kenlm' "$packages" >"$venv/packages.txt"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$venv/packages.txt" ||
        fail "installing ${packages##*/} failed; the lines above say why, a rerun goes on"
    touch "$venv/complete" # an interrupted installation is not taken for an environment
    # kenlm is compiled: where that fails, all but n-gram scoring works. It is tried this one time only.
    grep '^kenlm' "$packages" >"$venv/kenlm.txt"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$venv/kenlm.txt" >"$venv/kenlm.log" 2>&1 ||
        echo "note: kenlm could not be built, n-gram scoring is off (install a C++ compiler, then $venv/bin/pip install kenlm)"
    DELT_PYTHON="$venv/bin/python"
}

if ! has_requirements "$DELT_PYTHON" "$DELT_ROOT/requirements.txt"; then
    [ -z "${DELT_PYTHON_GIVEN:-}" ] || fail "DELT_PYTHON=$DELT_PYTHON lacks packages of requirements.txt: $DELT_PYTHON -m pip install -r $DELT_ROOT/requirements.txt"
    make_environment
fi

# manifest_value OUT KEY: a number of the manifest, such as the trained_tokens of a model or the rows_out of a selection.
manifest_value() {
    "$DELT_PYTHON" -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$1.manifest.json" "$2"
}
