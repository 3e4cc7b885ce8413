#!/usr/bin/env bash
# A classifier, a student with half its layers, and a test of what that cost.
#
#   examples/distill.sh MODEL ROWS OUT [more options of `weldlm distill`]
set -euo pipefail
model=$1 rows=$2 out=$3
shift 3

weldlm finetune --task classify --model "$model" --data "$rows" --out "$out/teacher" "$@"
weldlm distill --teacher "$out/teacher" --data "$rows" --out "$out/student" --hidden-weight 1 "$@"
weldlm evaluate "$out/student" --against "$out/teacher" --rows "$rows"
weldlm cost "$out/student/model" --no-measure
