#!/usr/bin/env bash
# One model, fine-tuned for sentiment, for names (NER) or for questions: the task says what rows are.
#
#   examples/finetune.sh TASK MODEL ROWS OUT [more options of `weldlm finetune`]
#   examples/finetune.sh sentiment MiniLM/ reviews.tsv out
#   examples/finetune.sh tokens MiniLM/ names.conll out
#   examples/finetune.sh qa MiniLM/ squad.json out
set -euo pipefail
task=$1 model=$2 rows=$3 out=$4
shift 4

weldlm finetune --task "$task" --model "$model" --data "$rows" --out "$out" "$@"
weldlm evaluate "$out" --rows "$rows" --on-error skip
weldlm predict "$out" -i "$rows" -o "$out/answers.jsonl"
head -n 3 "$out/answers.jsonl"
