# Sourced by every script: chooses the Python (exported as DELT_PYTHON) and makes the repository importable.
# Order: DELT_PYTHON if set, the active environment if it has the requirements, .venv of the repository, python3.
# The real path of this file, not `cd`: that looks through CDPATH, and beside a link to a script there is no repository.
DELT_ROOT="$(readlink -f -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/..")"

fail() {
    echo "error: $1" >&2
    exit 2
}

# Whether the Python $1 has all that the requirements file $2 asks for, kenlm aside (looked up, not imported).
has_requirements() {
    PYTHONSAFEPATH=1 "$1" - "$2" 2>/dev/null <<'PYTHON'
import sys
assert sys.version_info >= (3, 11)
from importlib.metadata import version
from packaging.requirements import Requirement
for line in open(sys.argv[1], encoding="utf-8"):
    text = line.split("#")[0].strip()
    if text and not text.startswith("kenlm"):
        requirement = Requirement(text)
        assert requirement.specifier.contains(version(requirement.name), prereleases=True)
PYTHON
}

DELT_PYTHON_GIVEN="${DELT_PYTHON:-}"
if [ -n "$DELT_PYTHON_GIVEN" ]; then
    command -v "$DELT_PYTHON" >/dev/null || fail "DELT_PYTHON=$DELT_PYTHON is no program: unset it, or set it to a Python with the packages of requirements.txt"
else
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
delt_path="$DELT_ROOT"
if [[ "$DELT_ROOT" == *:* ]]; then # where PYTHONPATH would be cut: the folder as this process, Python later, has it open
    exec {delt_folder}<"$DELT_ROOT"
    delt_path="/proc/$BASHPID/fd/$delt_folder"
fi
while [[ ":${PYTHONPATH:-}:" == *::* ]]; do # an empty entry is the working folder
    PYTHONPATH=":${PYTHONPATH:-}:" PYTHONPATH="${PYTHONPATH//::/:}" PYTHONPATH="${PYTHONPATH#:}" PYTHONPATH="${PYTHONPATH%:}"
    [ -n "$PYTHONPATH" ] || break
done
export PYTHONPATH="$delt_path${PYTHONPATH:+:$PYTHONPATH}" PYTHONSAFEPATH=1

# What the Python $1 lacks to start a stage is printed; nothing where it lacks nothing.
lacking() {
    "$1" -c '
import sys
from importlib.util import find_spec
names = ("msgspec", "numpy", "tqdm", "xxhash", "yaml")
lacks = ["Python 3.11 (it is %d.%d)" % sys.version_info[:2]] if sys.version_info < (3, 11) else []
print(", ".join(lacks + [name for name in names if find_spec(name) is None]))' </dev/null || echo "Python 3.11"
}

# Become the Python of a stage: run_stage STAGE [words of the call ...]
run_stage() {
    local lacks=""
    case "$DELT_PYTHON" in python3 | "$DELT_PYTHON_GIVEN") lacks="$(lacking "$DELT_PYTHON")" ;; esac
    if [ -n "$lacks" ]; then
        local cure="$DELT_PYTHON -m pip install -r $DELT_ROOT/requirements.txt"
        [ -n "$DELT_PYTHON_GIVEN" ] || cure="run bash $DELT_ROOT/pipeline.sh once, which makes a .venv, or $cure"
        fail "${DELT_PYTHON_GIVEN:+DELT_PYTHON=}$DELT_PYTHON lacks $lacks: $cure"
    fi
    exec "$DELT_PYTHON" -m "$1.entry" "${@:2}"
}
