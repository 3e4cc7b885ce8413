#!/usr/bin/env bash
# What a model looks at, where it decides, and whether it prefers stereotypes.
#
#   examples/understand.sh MODEL TEXT OUT [SET]      # SET such as crows_pairs_anonymized.csv
set -euo pipefail
model=$1 text=$2 out=$3
mkdir -p "$out"

weldlm inspect "$model" --text "$text" -o "$out/page.html" -o "$out/values.json"
weldlm bias "$model" ${4:+--data "$4"} -o "$out/bias.json"
echo "open $out/page.html in a browser"
