#!/usr/bin/env bash
# DELT on real data (arXiv 2506.21545): the Common Crawl part of the RedPajama sample, Learnability-Quality Scores towards
# LIMA by a 160M Mistral, all rows in folding order, a 160M Mistral trained from scratch, eight benchmarks.
#
#   bash docs/recipes/delt-160m.sh               a GPU of 24 GB or more, some 30 GB of disk, HF_TOKEN for LIMA (gated)
#   bash docs/recipes/delt-160m.sh --dry-run     check the keys of every call, print them
#   NPROC=4 bash docs/recipes/delt-160m.sh       on four GPUs
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # called by sh
set -euo pipefail
root="$(readlink -f -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/../..")"
source "$root/data_common/setup.sh"
OUT="${OUT:-results/delt-160m}"
R="${R:-1.0}"             # share of the rows that is kept; 1.0 = all: the order alone
FOLDS="${FOLDS:-3}"
PASSES="${PASSES:-1}"     # of DELT over its rows; conventional training sees as many tokens
options=("$@")            # --dry-run, or none
checks=("${options[@]/%--dry-run/--dry-run=keys}")  # the files of one stage come from the one before

fetch() { env -u NPROC "$DELT_PYTHON" "$root/utils.py" "$@" "${options[@]}"; }
one() { env -u NPROC bash "$root/$1/entry.sh" "${@:2}" "${checks[@]}"; }    # selection and ordering: one process
all() { bash "$root/$1/entry.sh" "${@:2}" "${checks[@]}"; }

source="$OUT/redpajama-cc.jsonl"
scored="${source%.jsonl}_scored-lqs.jsonl"
ordered="${scored%.jsonl}_selected-r${R}_ordered-folding-l${FOLDS}.jsonl"
shuffled="${source%.jsonl}_ordered-shuffle.jsonl"
annotator="$OUT/mistral-160m"

fetch --content dataset --id togethercomputer/RedPajama-Data-1T-Sample --save-dir "$source"
fetch --content dataset --id GAIR/lima --save-dir "$OUT/lima.jsonl"
fetch --content model --id Data-Selection/BSL-160M --save-dir "$annotator" --allow-pickle  # it has no other weights
all data_scoring "$source" "$scored" lqs "$root/data_scoring/config/lqs.yaml" \
    annotator_model="$annotator" target_data="$OUT/lima.jsonl" target_field=conversations
one data_ordering "$scored" "$ordered" folding folding_layer="$FOLDS" select=top-r select.r="$R"
one data_ordering "$source" "$shuffled" shuffle
budget=epochs="$PASSES"
for arm in delt conventional; do
    if [ "$arm" = delt ]; then data="$ordered"; else data="$shuffled"; fi
    all model_train "$data" "$annotator" "$OUT/model-$arm" pretrain "$root/model_train/config/train.yaml" \
        from_scratch=true "$budget"
    if [ -e "$OUT/model-delt.manifest.json" ]; then budget=max_tokens="$(trained_tokens "$OUT/model-delt")"; fi
    all model_eval "$OUT/model-$arm" "$OUT/$arm.yaml" lm_evaluation_harness "$root/model_eval/config/general.yaml"
done
