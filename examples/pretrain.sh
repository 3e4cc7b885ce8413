#!/usr/bin/env bash
# A small GPT, BERT and T5, each trained from nothing on one text, and what each can do then.
#
#   examples/pretrain.sh CORPUS OUT [more options of `weldlm train`, such as --minutes 5]
set -euo pipefail
corpus=$1 out=$2
shift 2
[ $# -gt 0 ] || set -- --minutes 2

for family in gpt2 bert t5; do
  weldlm train --data "$corpus" --out "$out/$family" --model "$family-tiny" "$@"
done

weldlm generate --model "$out/gpt2/model" --prompt "The " --max-tokens 20
weldlm evaluate "$out/gpt2/model" --text "$corpus"
echo "The [MASK] is here." > "$out/masked.txt"
weldlm fill-mask --model "$out/bert/model" -i "$out/masked.txt" -o -
weldlm generate --model "$out/t5/model" --prompt "What is hidden here?" --max-tokens 20
weldlm info "$out/t5/model"
