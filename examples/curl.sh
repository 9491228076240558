#!/usr/bin/env bash
# The Open Inference Protocol by hand. Usage: curl.sh [URL]
set -euo pipefail
url=${1:-http://127.0.0.1:8000}
ask() { curl --silent --show-error --fail-with-body "$@" && echo; }

echo "# Is it there, and what does it serve?"
ask "$url/v2/health/ready"
ask -X POST "$url/v2/repository/index"

echo "# What does the model take, and what does it give?"
ask "$url/v2/models/digits"

echo "# One image of 8 x 8 pixels, 0 to 1, as JSON: a one. The greatest of ten scores is the digit."
pixels=0,0,0,0.7,0.8,0,0,0
image=$pixels
for _ in 2 3 4 5 6 7 8; do image+=,$pixels; done
ask "$url/v2/models/digits/infer" -d '{
  "id": "by hand",
  "inputs": [{"name": "pixels", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": ['"$image"']}]
}'

echo "# The same as raw bytes of pixels 0 to 255 behind a JSON head; its length goes into a header. Answered by the best class."
head='{"inputs": [{"name": "pixels", "shape": [1, 8, 8, 1], "datatype": "UINT8", "parameters": {"binary_data_size": 64}}],
  "outputs": [{"name": "logits", "parameters": {"classification": 1}}]}'
for _ in 1 2 3 4 5 6 7 8; do printf '\0\0\0\262\314\0\0\0'; done |
  { printf '%s' "$head"; cat; } |
  ask "$url/v2/models/digits/infer" -H "Inference-Header-Content-Length: ${#head}" --data-binary @-

echo "# A request that cannot be served says why."
curl --silent "$url/v2/models/digits/infer" -d '{"inputs": []}' && echo

echo "# What was done so far, and where the time went (nanoseconds)"
ask "$url/v2/models/digits/stats"
