#!/usr/bin/env bash
# Conversations from end to end: the answers scored by a model, the better half, sorted, posttrained in that order.
#
#   INPUT=chats.jsonl HELDOUT=chats-held.jsonl MODEL=models/mine OUT=results/chat bash docs/recipes/chat.sh
#
# INPUT in any format of docs/data-format.md#instruction-rows. MODEL has a chat template: without one set TEXT=plain.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # called by sh
set -euo pipefail
root="$(readlink -f -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/../..")"
source "$root/data_common/no_words.sh"
source "$root/data_common/setup.sh"
OUT="${OUT:-results/chat}"
TEXT="${TEXT:-template}"   # template: as MODEL's chat template renders a conversation; plain: what the turns say
MAX_LENGTH="${MAX_LENGTH:-1024}"   # tokens of a conversation
TRAIN_CONFIG="${TRAIN_CONFIG:-$root/model_train/config/posttrain.yaml}"
: "${INPUT:?set INPUT to a file of conversations}" "${HELDOUT:?set HELDOUT to other ones}" "${MODEL:?set MODEL}"

reading=(text_format="$TEXT" max_length="$MAX_LENGTH")
[ "$TEXT" = plain ] || reading+=(chat_template="$MODEL")
scored="$OUT/scored.jsonl"
ordered="$OUT/ordered.jsonl"
model="$OUT/model"

bash "$root/data_scoring/entry.sh" "$INPUT" "$scored" perplexity model="$MODEL" metric=nll score_tokens=answer "${reading[@]}"
bash "$root/data_ordering/entry.sh" "$scored" "$ordered" sorting select=top-r select.r=0.5
bash "$root/model_train/entry.sh" "$ordered" "$MODEL" "$model" posttrain "$TRAIN_CONFIG" \
    max_length="$MAX_LENGTH" heldout_data="$HELDOUT"
bash "$root/model_eval/entry.sh" "$model" "$model-heldout.yaml" perplexity data="$HELDOUT" "${reading[@]}"
