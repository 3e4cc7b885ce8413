#!/usr/bin/env bash
# An OpenAI-compatible server on this machine, one answer from it, and its end.
#
#   examples/serve.sh MODEL [PORT]
set -euo pipefail
model=$1 port=${2:-8000}

weldlm serve --model "$model" --port "$port" &
server=$!
trap 'kill "$server"; wait "$server" || true' EXIT
python3 - "$port" <<'PYTHON'
import json
import sys
import time
from urllib.error import URLError
from urllib.request import Request, urlopen

address = f"http://127.0.0.1:{sys.argv[1]}/v1"
for _ in range(600):
    try:
        (model,) = json.load(urlopen(f"{address}/models"))["data"]
        break
    except (ConnectionError, URLError):
        time.sleep(0.1)
body = {"model": model["id"], "prompt": "Once upon a time", "max_tokens": 8}
request = Request(
    f"{address}/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
)
print(json.load(urlopen(request))["choices"][0]["text"])
PYTHON
