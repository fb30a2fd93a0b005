# Sourced by every script: chooses the Python (exported as DELT_PYTHON) and makes the repository importable.
# Order: DELT_PYTHON if set, the active environment if it has the requirements, .venv of the repository, python3.
DELT_ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

# Whether the Python $1 has all that the requirements file $2 asks for, kenlm aside (looked up, not imported).
has_requirements() {
    "$1" - "$2" 2>/dev/null <<'PYTHON'
import sys
from importlib.metadata import version
from packaging.requirements import Requirement
assert sys.version_info >= (3, 11)
for line in open(sys.argv[1], encoding="utf-8"):
    text = line.split("#")[0].strip()
    if text and not text.startswith("kenlm"):
        requirement = Requirement(text)
        assert requirement.specifier.contains(version(requirement.name), prereleases=True)
PYTHON
}

DELT_PYTHON_GIVEN="${DELT_PYTHON:-}"
if [ -z "$DELT_PYTHON_GIVEN" ]; then
    DELT_PYTHON=python3
    active="${VIRTUAL_ENV:-${CONDA_PREFIX:-}}"
    if [ -n "$active" ] && has_requirements "$active/bin/python" "$DELT_ROOT/requirements.txt"; then
        DELT_PYTHON="$active/bin/python"
    elif [ -e "$DELT_ROOT/.venv/complete" ]; then
        DELT_PYTHON="$DELT_ROOT/.venv/bin/python"
    fi
fi
export DELT_PYTHON
# The repository first, and never the working folder: a user's own utils.py must not shadow ours.
export PYTHONPATH="$DELT_ROOT${PYTHONPATH:+:$PYTHONPATH}" PYTHONSAFEPATH=1

# Become the Python of a stage: run_stage STAGE [words of the call ...]
run_stage() {
    if [ "$DELT_PYTHON" = python3 ] && ! python3 -c 'import msgspec, numpy, tqdm, xxhash, yaml' 2>/dev/null; then
        echo "error: python3 lacks packages of requirements.txt: install them, or run bash $DELT_ROOT/pipeline.sh once, which makes a .venv" >&2
        exit 2
    fi
    exec "$DELT_PYTHON" -m "$1.entry" "${@:2}"
}
