#!/usr/bin/env python3
"""bps as foreign clients see it: tritonclient and curl against a real server, results held against onnxruntime.

    python3 -m pip install -r tests/clients/requirements.txt
    python3 tests/clients/check.py --bps target/release/bps

Starts `bps serve` on free ports with the digits model, checks, stops it. The last line is `N passed, N failed`; the exit
status is 1 if anything failed.
"""

import argparse
import pathlib
import sys
import tempfile
import traceback

sys.dont_write_bytecode = True  # a check leaves nothing behind in the tree

import curl_checks
import serving
import triton_checks

DIGITS = pathlib.Path(__file__).resolve().parents[2] / "models" / "digits"


class Tally:
    """Counts what passed and says what did not."""

    def __init__(self):
        self.passed = 0
        self.failed = 0

    def check(self, name, is_so, detail=""):
        if is_so:
            self.passed += 1
        else:
            self.failed += 1
            print(f"FAILED {name}: {detail}", flush=True)

    def run(self, check, *arguments):
        """Runs a function of checks; an exception is one failure."""
        try:
            check(self, *arguments)
        except Exception:
            self.failed += 1
            print(f"FAILED {check.__name__}\n{traceback.format_exc()}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bps", type=pathlib.Path, required=True, help="the program to check")
    parser.add_argument("--policy", default="batching", help="the policy it starts with [batching]")
    options = parser.parse_args()
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="bps-check-") as folder:
        folder = pathlib.Path(folder)
        more = ["--policy", options.policy, "--model-control", "explicit"]
        with serving.Server(options.bps, DIGITS, folder / "open", more) as server:
            for check in triton_checks.ALL:
                tally.run(check, server)
            tally.run(curl_checks.endpoints, server)
            tally.run(curl_checks.admin, server)
            tally.run(serving.stops_by_signal, server)
        with serving.Server(options.bps, DIGITS, folder / "locked", [], token=serving.TOKEN) as server:
            tally.run(triton_checks.token, server)
            tally.run(curl_checks.locked, server)
    print(f"{tally.passed} passed, {tally.failed} failed")
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
