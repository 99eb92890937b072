#!/usr/bin/env python3
"""Runs "go test" with the given arguments and shows what a person needs of it.

One line for each package, all that a failed test printed, why tests were skipped,
and last of all the line "N passed, N failed, N skipped". Ends as go test ends.
"""

import collections
import json
import os
import re
import subprocess
import sys


def reason(lines):
    """What a skipped test gave as its reason: its last line that is not go test's own."""
    own = [s.strip() for s in lines if not s.lstrip().startswith("--- ")]
    return re.sub(r"^\S+\.go:\d+: ", "", own[-1]) if own else "no reason given"


def main(argv):
    output = collections.defaultdict(list)  # what each test that has not ended has printed; None: its package
    counts, skips, bad = collections.Counter(), collections.Counter(), set()
    go = subprocess.Popen([os.environ.get("GO", "go"), "test", "-json", *argv], stdout=subprocess.PIPE, text=True)
    for line in go.stdout:
        try:
            e = json.loads(line)
        except ValueError:
            show(line)
            continue
        action, package, test = e["Action"], e.get("Package"), e.get("Test")
        if action == "build-output":
            show(e["Output"])
        elif action == "output" and test is None and re.match(r"(ok  |FAIL)\t", e["Output"]):
            output[package, "closing line"].append(e["Output"])
        elif action == "output" and not e["Output"].startswith("=== "):
            output[package, test].append(e["Output"])
        elif action in ("pass", "fail", "skip") and test is not None:
            counts[action] += 1
            lines = output.pop((package, test), [])
            if action == "fail":
                bad.add(package)
                show("".join(lines))
            elif action == "skip":
                skips[f"{test.split('/')[0]}: {reason(lines)}"] += 1
        elif action in ("pass", "fail"):  # a whole package
            closing = "".join(output.pop((package, "closing line"), []))
            if action == "fail":
                # What was printed outside the tests, or in some that never ended: a crash, a race, a time-out.
                show("".join("".join(output[k]) for k in output if k[0] == package and output[k] != ["FAIL\n"]))
                counts["fail"] += package not in bad  # it did not build, or fell before a test did
            show(closing)
            for key in [k for k in output if k[0] == package]:
                del output[key]
    code = go.wait()
    for what, n in sorted(skips.items()):
        show(f"skipped {what}" + (f" ({n} times)" if n > 1 else "") + "\n")
    show(f"{counts['pass']} passed, {counts['fail']} failed, {counts['skip']} skipped\n")
    return code


def show(text):
    print(text, end="", flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
