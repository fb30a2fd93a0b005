#!/usr/bin/env bash
# KenLM + top-r + folding: the half of the rows with the fewest bits per byte, in three curricula.
#
#   bash docs/recipes/kenlm-top-r-folding.sh
#   INPUT=my.jsonl TARGET=good.jsonl HELDOUT=held.jsonl MODEL=models/mine OUT=results/mine bash docs/recipes/kenlm-top-r-folding.sh
#
# Few bits per byte are text like TARGET: ascending order begins with it.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # called by sh
set -euo pipefail
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/setup.sh"
PASSES="${PASSES:-2}"   # over the rows that are kept

scored="$OUT/scored-kenlm.jsonl"
selected="${scored%.jsonl}_selected-r0.5.jsonl"
ordered="${selected%.jsonl}_ordered-folding-l3.jsonl"
model="$OUT/kenlm-top-r-folding"

bash "$root/data_scoring/entry.sh" "$INPUT" "$scored" kenlm train_data="$TARGET" vocab_size=4000 metric=bpb
bash "$root/data_selection/entry.sh" "$scored" "$selected" top-r r=0.5
bash "$root/data_ordering/entry.sh" "$selected" "$ordered" folding folding_layer=3 ascending=true
bash "$root/model_train/entry.sh" "$ordered" "$MODEL" "$model" pretrain "$TRAIN_CONFIG" epochs="$PASSES"
bash "$root/model_eval/entry.sh" "$model" "$model-heldout.yaml" perplexity data="$HELDOUT"
