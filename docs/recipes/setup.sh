# Sourced by the recipes: what they run on, by default the embedded data and model (no download), and where results go.
root="$(readlink -f -- "$(dirname -- "${BASH_SOURCE[0]}")/../..")"
source "$root/data_common/no_words.sh"
source "$root/data_common/setup.sh"
stdlib="$root/data/python-stdlib"
OUT="${OUT:-results/recipes}"
INPUT="${INPUT:-$stdlib/corpus.jsonl}"     # rows to train on
TARGET="${TARGET:-$stdlib/target.jsonl}"   # text that the model shall be good at; KenLM learns from it
HELDOUT="${HELDOUT:-$stdlib/heldout.jsonl}"
MODEL="${MODEL:-$OUT/tiny}"                # the default is made from INPUT: 0.4M parameters
TRAIN_CONFIG="${TRAIN_CONFIG:-$root/model_train/config/train-tiny.yaml}"

if [[ "$INPUT $TARGET $HELDOUT" == *"$stdlib"* ]]; then
    "$DELT_PYTHON" "$root/utils.py" --content dataset --id python-stdlib --save-dir "$stdlib"
fi
if [ "$MODEL" = "$OUT/tiny" ]; then
    "$DELT_PYTHON" "$root/utils.py" --content model --id tiny --save-dir "$MODEL" --data "$INPUT"
fi
