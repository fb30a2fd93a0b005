#!/usr/bin/env bash
# LQS, the better half last: all rows in two halves by their score, each of them in random order.
#
#   bash docs/recipes/last-half.sh
#   INPUT=my.jsonl TARGET=mine.jsonl HELDOUT=held.jsonl MODEL=models/mine OUT=results/mine bash docs/recipes/last-half.sh
#
# The simplest order that ends with what is like TARGET. Why: benchmarks/efficacy/findings.md, "Ideas beyond the paper".
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # called by sh
set -euo pipefail
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/setup.sh"
LQS_CONFIG="${LQS_CONFIG:-$root/data_scoring/config/lqs-tiny.yaml}"
PASSES="${PASSES:-1}"

annotator="$OUT/annotator"
model="$OUT/last-half"
scored="$model-scored.jsonl"
ordered="$model-ordered.jsonl"

bash "$root/model_train/entry.sh" "$INPUT" "$MODEL" "$annotator" pretrain "$TRAIN_CONFIG" epochs=1
bash "$root/data_scoring/entry.sh" "$INPUT" "$scored" lqs "$LQS_CONFIG" annotator_model="$annotator" target_data="$TARGET"
bash "$root/data_ordering/entry.sh" "$scored" "$ordered" segment x_pct=0 y_pct=50 back_is_high=true
bash "$root/model_train/entry.sh" "$ordered" "$MODEL" "$model" pretrain "$TRAIN_CONFIG" epochs="$PASSES"
bash "$root/model_eval/entry.sh" "$model" "$model-heldout.yaml" perplexity data="$HELDOUT"
