#!/usr/bin/env bash
# KenLM + sorting: all rows in one curriculum, from few to many bits per byte.
#
#   bash docs/recipes/kenlm-sorting.sh
#   INPUT=my.jsonl TARGET=good.jsonl HELDOUT=held.jsonl MODEL=models/mine OUT=results/mine bash docs/recipes/kenlm-sorting.sh
#
# Few bits per byte are text like TARGET: ascending order begins with it, and ends with junk where there is any: leave that
# out before, as kenlm-top-r-folding.sh does (benchmarks/efficacy/findings.md, "Others", shows what it costs).
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # called by sh
set -euo pipefail
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/setup.sh"
PASSES="${PASSES:-1}"

scored="$OUT/scored-kenlm.jsonl"
ordered="${scored%.jsonl}_ordered-sorting.jsonl"
model="$OUT/kenlm-sorting"

bash "$root/data_scoring/entry.sh" "$INPUT" "$scored" kenlm train_data="$TARGET" vocab_size=4000 metric=bpb
bash "$root/data_ordering/entry.sh" "$scored" "$ordered" sorting ascending=true
bash "$root/model_train/entry.sh" "$ordered" "$MODEL" "$model" pretrain "$TRAIN_CONFIG" epochs="$PASSES"
bash "$root/model_eval/entry.sh" "$model" "$model-heldout.yaml" perplexity data="$HELDOUT"
