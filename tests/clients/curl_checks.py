"""Every endpoint with curl: which status, and which words."""

import json
import subprocess

from serving import ADMIN_TOKEN, TOKEN

ONE_ROW = json.dumps({"inputs": [{"name": "pixels", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": [0.5] * 64}]})
MODEL = "/v2/models/digits"

# Method, path, more arguments of curl, status, words that the body holds.
CLIENT = [
    ("GET", "/v2", [], 200, '"name":"bps"'),
    ("GET", "/v2/health/live", [], 200, '"live":true'),
    ("GET", "/v2/health/ready", [], 200, '"ready":true'),
    ("GET", MODEL, [], 200, '"shape":[-1,1,8,8]'),
    ("GET", f"{MODEL}/versions/1", [], 200, '"versions":["1"]'),
    ("GET", f"{MODEL}/ready", [], 200, '"ready":true'),
    ("GET", f"{MODEL}/versions/1/ready", [], 200, '"ready":true'),
    ("GET", f"{MODEL}/config", [], 200, '"TYPE_FP32"'),
    ("GET", f"{MODEL}/stats", [], 200, '"model_stats"'),
    ("GET", "/v2/models/stats", [], 200, '"model_stats"'),
    ("GET", "/metrics", [], 200, "nv_inference_request_success"),
    ("POST", "/v2/repository/index", [], 200, '"state":"READY"'),
    ("POST", "/v2/repository/index", ["-d", '{"ready":true}'], 200, '"digits"'),
    ("POST", f"{MODEL}/infer", ["-d", ONE_ROW], 200, '"logits"'),
    ("POST", f"{MODEL}/versions/1/infer", ["-d", ONE_ROW], 200, '"logits"'),
    ("POST", f"{MODEL}/infer", ["-d", ONE_ROW, "--http2-prior-knowledge"], 200, '"logits"'),
    ("POST", "/v2/repository/models/digits/unload", [], 200, ""),
    ("GET", f"{MODEL}/ready", [], None, "error"),
    ("POST", "/v2/repository/models/digits/load", [], 200, ""),
    ("GET", f"{MODEL}/ready", [], 200, '"ready":true'),
    ("GET", "/", [], 404, "no such endpoint"),
    ("GET", "/v1/status", [], 404, "no such endpoint"),
    ("GET", "/v2/models/none", [], 404, "none"),
    ("GET", f"{MODEL}/versions/9", [], 404, "9"),
    ("DELETE", MODEL, [], 405, "not allowed"),
    ("GET", f"{MODEL}/infer", [], 405, "not allowed"),
    ("POST", f"{MODEL}/infer", ["-d", "{"], 400, "line 1 column 1"),
    ("POST", f"{MODEL}/infer", ["-d", "{}"], 400, "inputs"),
    ("POST", f"{MODEL}/infer", ["-d", ONE_ROW, "-H", "Content-Encoding: br"], 415, "gzip"),
    ("POST", f"{MODEL}/infer", ["-d", ONE_ROW, "-H", "Content-Encoding: gzip"], 400, "cannot be read"),
    ("POST", f"{MODEL}/infer", ["-d", ONE_ROW, "-H", "Inference-Header-Content-Length: 99999"], 400, "99999"),
    ("GET", "/v2/trace/setting", [], 501, "not supported"),
]

BEARER = ["-H", f"Authorization: Bearer {ADMIN_TOKEN}"]

ADMIN = [
    ("GET", "/v1/status", BEARER, 200, '"policy"'),
    ("GET", "/v1/devices", BEARER, 200, '"cpu"'),
    ("GET", "/v1/ledger", BEARER, 200, '"holds":true'),
    ("GET", "/v1/receipts?last=3", BEARER, 200, '"digits"'),
    ("GET", "/v1/policies", BEARER, 200, '"local-only"'),
    ("POST", "/v1/policies?name=junk", [*BEARER, "-d", "no component"], 422, '"stage"'),
    ("POST", "/v1/policy/swap", [*BEARER, "-d", '{"policy":"local-only"}'], 200, '"local-only"'),
    ("POST", "/v1/policy/rollback", BEARER, 200, '"generation"'),
    ("POST", "/v1/policy/swap", [*BEARER, "-d", '{"policy":"nobody"}'], 404, "nobody"),
    ("POST", "/v1/policy/swap", [*BEARER, "-d", "{"], 400, "malformed JSON"),
    ("GET", "/v1/receipts?last=x", BEARER, 400, "invalid digit"),
    ("GET", "/v1/nothing", BEARER, 404, "no such endpoint"),
    ("PUT", "/v1/status", BEARER, 405, "not allowed"),
    ("GET", "/v1/status", [], 401, "token"),
    ("GET", "/v1/status", ["-H", "Authorization: Bearer wrong-token"], 401, "token"),
    ("GET", "/v1/status", [*BEARER, "-H", "Host: attacker.example"], 403, "Host"),
    ("GET", "/v1/status", [*BEARER, "-H", "Origin: http://attacker.example"], 403, "Origin"),
    ("POST", f"{MODEL}/infer", [*BEARER, "-d", ONE_ROW], 404, "no such endpoint"),
]

CLIENT_BEARER = ["-H", f"Authorization: Bearer {TOKEN}"]

# Without --model-control explicit, and with a token.
LOCKED = [
    ("GET", "/v2/health/ready", [], 200, '"ready":true'),
    ("GET", "/v2", [], 401, "token"),
    ("GET", "/metrics", [], 401, "token"),
    ("GET", "/v2", CLIENT_BEARER, 200, '"name":"bps"'),
    ("POST", f"{MODEL}/infer", [*CLIENT_BEARER, "-d", ONE_ROW], 200, '"logits"'),
    ("POST", "/v2/repository/models/digits/unload", CLIENT_BEARER, 403, "--model-control explicit"),
    ("POST", "/v2/repository/models/digits/load", CLIENT_BEARER, 403, "--model-control explicit"),
]


def curl(url, method, arguments):
    """Status and body of one call."""
    command = ["curl", "-sS", "--max-time", "60", "-X", method, "-w", "\n%{http_code}", *arguments, url]
    done = subprocess.run(command, capture_output=True, check=False)
    body, _, status = done.stdout.decode(errors="replace").rpartition("\n")
    if done.returncode != 0:
        return 0, done.stderr.decode(errors="replace")
    return int(status), body


def table(tally, base, rows):
    for method, path, arguments, expected, words in rows:
        status, body = curl(base + path, method, arguments)
        name = f"curl {method} {path} {' '.join(arguments)[:60]}"
        right = status == expected if expected else status in (404, 503)
        tally.check(name, right and words in body, f"{status}, not {expected} with {words!r}: {body[:300]}")
        if status >= 400:
            try:
                tally.check(f"{name}: an error in JSON", isinstance(json.loads(body)["error"], str))
            except (ValueError, KeyError):
                tally.check(f"{name}: an error in JSON", False, body[:300])


def endpoints(tally, server):
    table(tally, server.url, CLIENT)


def admin(tally, server):
    table(tally, server.admin_url, ADMIN)
    oversize = server.folder / "oversize"
    with open(oversize, "wb") as file:
        file.truncate((64 << 20) + 1)
    status, body = curl(f"{server.url}{MODEL}/infer", "POST", ["--data-binary", f"@{oversize}"])
    tally.check("a body over 64 MiB", status == 413 and '"error"' in body, (status, body))
    status, body = curl(f"{server.admin_url}/v1/policies", "POST", [*BEARER, "--data-binary", f"@{oversize}"])
    tally.check("an upload over 16 MiB", status == 413 and '"error"' in body, (status, body))


def locked(tally, server):
    table(tally, server.url, LOCKED)
