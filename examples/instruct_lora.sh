#!/usr/bin/env bash
# An adapter (LoRA) for a chat model: a few megabytes beside a model that stays as it is.
#
#   examples/instruct_lora.sh MODEL CHATS OUT [more options of `weldlm finetune`]
#   examples/instruct_lora.sh smollm2/ chats.jsonl out      # weldlm convert makes such a folder
#
# CHATS has {"prompt": ..., "response": ...} or {"messages": [...]} in each line.
set -euo pipefail
model=$1 chats=$2 out=$3
shift 3

weldlm finetune --task instruct --model "$model" --data "$chats" --out "$out" --lora-rank 8 "$@"
ls "$out/adapter"
prompt="the film is"
echo "without: $(weldlm generate --model "$model" --prompt "$prompt" --max-tokens 8)"
echo "with:    $(weldlm generate --model "$model" --adapter "$out/adapter" --prompt "$prompt" --max-tokens 8)"
