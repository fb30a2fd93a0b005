#!/usr/bin/env bash
# KenLM and LQS together: the half of the rows with the highest sum of both ranks, in random order.
#
#   bash docs/recipes/rank-sum.sh
#   INPUT=my.jsonl TARGET=mine.jsonl REFERENCE=good.jsonl HELDOUT=held.jsonl MODEL=models/mine OUT=results/mine bash docs/recipes/rank-sum.sh
#
# KenLM learns from REFERENCE, any text that is known to be good, and finds junk; LQS finds text like TARGET, which the
# model shall be good at. Why both: data_scoring/combine/README.md. Without REFERENCE both learn from TARGET: enough to try
# the chain, but what was measured had a reference of another kind. KenLM ranks by perplexity with 8,192 pieces, as measured: by
# bits per byte (metric=bpb) the same half is worse on general text (benchmarks/efficacy/findings.md, "Perplexity or bits per byte").
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # called by sh
set -euo pipefail
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/setup.sh"
REFERENCE="${REFERENCE:-$TARGET}"
LQS_CONFIG="${LQS_CONFIG:-$root/data_scoring/config/lqs-tiny.yaml}"
PASSES="${PASSES:-2}"   # over the rows that are kept

annotator="$OUT/annotator"
model="$OUT/rank-sum"
kenlm="$model-kenlm.jsonl"      # with the first score,
both="$model-kenlm-lqs.jsonl"   # with the second too,
scored="$model-scored.jsonl"    # and with the sum of their ranks
chosen="$model-chosen.jsonl"

bash "$root/model_train/entry.sh" "$INPUT" "$MODEL" "$annotator" pretrain "$TRAIN_CONFIG" epochs=1
bash "$root/data_scoring/entry.sh" "$INPUT" "$kenlm" kenlm train_data="$REFERENCE" vocab_size=8192 score_field=kenlm
bash "$root/data_scoring/entry.sh" "$kenlm" "$both" lqs "$LQS_CONFIG" annotator_model="$annotator" \
    target_data="$TARGET" score_field=lqs
bash "$root/data_scoring/entry.sh" "$both" "$scored" combine fields=[kenlm,lqs] score_field=rank_sum
bash "$root/data_ordering/entry.sh" "$scored" "$chosen" shuffle select=top-r select.r=0.5 select.score_field=rank_sum
bash "$root/model_train/entry.sh" "$chosen" "$MODEL" "$model" pretrain "$TRAIN_CONFIG" epochs="$PASSES"
bash "$root/model_eval/entry.sh" "$model" "$model-heldout.yaml" perplexity data="$HELDOUT"
