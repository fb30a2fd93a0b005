#!/usr/bin/env bash
# KenLM + folding: all rows in three curricula of every third row each, from few to many bits per byte.
#
#   bash docs/recipes/kenlm-folding.sh
#   INPUT=my.jsonl TARGET=good.jsonl HELDOUT=held.jsonl MODEL=models/mine OUT=results/mine bash docs/recipes/kenlm-folding.sh
#
# Few bits per byte are text like TARGET: ascending order begins with it, and ends with junk where there is any: leave that
# out before, as kenlm-top-r-folding.sh does (benchmarks/efficacy/findings.md, "Others", shows what it costs).
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # called by sh
set -euo pipefail
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/setup.sh"
PASSES="${PASSES:-1}"

scored="$OUT/scored-kenlm.jsonl"
ordered="${scored%.jsonl}_ordered-folding-l3.jsonl"
model="$OUT/kenlm-folding"

bash "$root/data_scoring/entry.sh" "$INPUT" "$scored" kenlm train_data="$TARGET" vocab_size=4000 metric=bpb
bash "$root/data_ordering/entry.sh" "$scored" "$ordered" folding folding_layer=3 ascending=true
bash "$root/model_train/entry.sh" "$ordered" "$MODEL" "$model" pretrain "$TRAIN_CONFIG" epochs="$PASSES"
bash "$root/model_eval/entry.sh" "$model" "$model-heldout.yaml" perplexity data="$HELDOUT"
