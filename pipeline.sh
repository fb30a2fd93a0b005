#!/usr/bin/env bash
# The whole chain, score -> select -> order -> train -> evaluate, against conventional training and against a random half of
# the rows, all on equal tokens.
#
#   bash pipeline.sh                                  embedded real text, no download, about five minutes on two cores
#   DRY_RUN=1 bash pipeline.sh                        print the commands, do nothing
#   INPUT=my.jsonl TARGET=good.jsonl HELDOUT=held.jsonl TASKS= OUT=results/mine bash pipeline.sh
#
# A rerun skips every stage whose output is complete for the same input, method and configuration. After a change of the
# knobs choose another OUT, or RESUME=never, which replaces the models that are there.
# Copy this script for your own chains: each step is one call of a stage.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # called by sh
set -euo pipefail

root="$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")"
source "$root/data_common/no_words.sh"

# What to run on: JSONL files with a `text` field, and an untrained or trained model (folder or hub id).
stdlib="$root/data/python-stdlib"
OUT="${OUT:-results/embedded}"
INPUT="${INPUT:-$stdlib/corpus.jsonl}"
TARGET="${TARGET:-$stdlib/target.jsonl}"
HELDOUT="${HELDOUT:-$stdlib/heldout.jsonl}"
TASKS="${TASKS-$stdlib/task}"       # lm-eval task names or a folder of task files; empty = none
MODEL="${MODEL:-$OUT/models/tiny}"  # the default is made from INPUT: 0.4M parameters

# How: methods, their configurations, and how file names tell them. Another method wants its own _CONFIG, _KEYS and _TAG:
#   SCORING=kenlm SCORING_CONFIG=data_scoring/config/kenlm.yaml SCORING_KEYS=train_data=good.jsonl OUT=results/kenlm bash pipeline.sh
SCORING="${SCORING:-lqs}" SCORING_CONFIG="${SCORING_CONFIG:-$root/data_scoring/config/lqs-tiny.yaml}"
SCORING_KEYS="${SCORING_KEYS-}"
SELECTION="${SELECTION:-top-r}" SELECTION_CONFIG="${SELECTION_CONFIG:-$root/data_selection/config/top-r.yaml}"
SELECTION_KEYS="${SELECTION_KEYS-r=0.5}" SELECTION_TAG="${SELECTION_TAG:-r0.5}"
ORDERING="${ORDERING:-folding}" ORDERING_CONFIG="${ORDERING_CONFIG:-$root/data_ordering/config/folding.yaml}"
ORDERING_KEYS="${ORDERING_KEYS-folding_layer=3}" ORDERING_TAG="${ORDERING_TAG:-folding-l3}"
TRAIN_CONFIG="${TRAIN_CONFIG:-$root/model_train/config/train-tiny.yaml}"
ANNOTATOR_TOKENS="${ANNOTATOR_TOKENS:-200000}" # a short pretraining of the model that scores
PASSES="${PASSES:-2}"                          # of DELT over its ordered rows; conventional training sees as many tokens
RESUME="${RESUME:-auto}"                       # never replaces models that other knobs have made
LIMIT="${LIMIT:-null}"                         # items per task; null = all

if [ -n "${DRY_RUN:-}" ]; then DELT_PYTHON="${DELT_PYTHON:-python3}"; else source "$root/data_common/setup.sh"; fi
run() {
    echo "+ $*"
    if [ -z "${DRY_RUN:-}" ]; then "$@"; fi
}

# --- Embedded data and model, where the defaults are used ------------------------------------------------------
if [[ "$INPUT $TARGET $HELDOUT $TASKS" == *"$stdlib"* ]]; then
    run "$DELT_PYTHON" "$root/utils.py" --content dataset --id python-stdlib --save-dir "$stdlib"
fi
if [ "$MODEL" = "$OUT/models/tiny" ]; then
    run "$DELT_PYTHON" "$root/utils.py" --content model --id tiny --save-dir "$MODEL" --data "$INPUT"
fi

# --- Annotator: the small trained model whose further training LQS simulates ----------------------------------
name="$(basename "$INPUT" .jsonl)"
annotator="$OUT/models/annotator"
run bash "$root/model_train/entry.sh" "$INPUT" "$MODEL" "$annotator" pretrain "$TRAIN_CONFIG" \
    max_tokens="$ANNOTATOR_TOKENS" resume="$RESUME"

# --- Score, select, order --------------------------------------------------------------------------------------
scored="$OUT/data/${name}_scored-$SCORING.jsonl"
selected="${scored%.jsonl}_selected-$SELECTION_TAG.jsonl"
ordered="${selected%.jsonl}_ordered-$ORDERING_TAG.jsonl"
shuffled="$OUT/data/${name}_ordered-shuffle.jsonl"
random="$OUT/data/${name}_random-$SELECTION_TAG.jsonl"
influence_keys=()
case "$SCORING" in lqs | pds) influence_keys=(annotator_model="$annotator" target_data="$TARGET") ;; esac
# shellcheck disable=SC2086 # the keys are words
run bash "$root/data_scoring/entry.sh" "$INPUT" "$scored" "$SCORING" "$SCORING_CONFIG" "${influence_keys[@]}" $SCORING_KEYS
# shellcheck disable=SC2086
run bash "$root/data_selection/entry.sh" "$scored" "$selected" "$SELECTION" "$SELECTION_CONFIG" $SELECTION_KEYS
# shellcheck disable=SC2086
run bash "$root/data_ordering/entry.sh" "$selected" "$ordered" "$ORDERING" "$ORDERING_CONFIG" $ORDERING_KEYS
run bash "$root/data_ordering/entry.sh" "$INPUT" "$shuffled" shuffle
# As many rows, drawn at random: what the score is worth beside reading fewer rows more often.
if [ -z "${DRY_RUN:-}" ]; then kept="$(manifest_value "$selected" rows_out)"; fi
run bash "$root/data_ordering/entry.sh" "$scored" "$random" shuffle select=random select.r=null \
    select.k="${kept:-AS_MANY_AS_SELECTED}"

# --- Train all arms on the same number of tokens: whole passes end where the order ends ----------------------------
train() { run bash "$root/model_train/entry.sh" "$1" "$MODEL" "$2" pretrain "$TRAIN_CONFIG" "$3" resume="$RESUME"; }
train "$ordered" "$OUT/models/DELT" epochs="$PASSES"
if [ -z "${DRY_RUN:-}" ]; then tokens="$(manifest_value "$OUT/models/DELT" trained_tokens)"; fi
train "$shuffled" "$OUT/models/conventional" max_tokens="${tokens:-AS_MANY_AS_DELT}"
train "$random" "$OUT/models/random-half" max_tokens="${tokens:-AS_MANY_AS_DELT}"

# --- Evaluate all ----------------------------------------------------------------------------------------------------
report=()
for arm in conventional random-half DELT; do
    model="$OUT/models/$arm"
    run bash "$root/model_eval/entry.sh" "$model" "$OUT/$arm-heldout.yaml" perplexity data="$HELDOUT"
    report+=("$arm=$OUT/$arm-heldout.yaml")
    if [ -n "$TASKS" ]; then
        run bash "$root/model_eval/entry.sh" "$model" "$OUT/$arm-tasks.yaml" lm_evaluation_harness \
            "$root/model_eval/config/tiny.yaml" tasks="$TASKS" limit="$LIMIT"
        report+=("$arm=$OUT/$arm-tasks.yaml")
    fi
done

# --- The comparison ------------------------------------------------------------------------------------------------
run "$DELT_PYTHON" -m model_eval.report "$OUT/report.md" "${report[@]}" --stages \
    annotator="$annotator" score="$scored" select="$selected" order="$ordered" \
    "train conventional=$OUT/models/conventional" "train random-half=$OUT/models/random-half" "train DELT=$OUT/models/DELT" \
    "evaluate conventional=$OUT/conventional-heldout.yaml" "evaluate random-half=$OUT/random-half-heldout.yaml" \
    "evaluate DELT=$OUT/DELT-heldout.yaml"
