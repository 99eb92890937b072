"""The pages of docs/guide, as scripts: their code blocks, with the examples' address replaced by that of a control plane."""

import contextlib
import dataclasses
import json
import os
import re
import socketserver
import subprocess
import sys
import threading

import sdks
from harness import ROOT

ADDRESS = "http://127.0.0.1:9080"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def pages():
    """The names of all pages."""
    return sorted(path.stem for path in (ROOT / "docs" / "guide").glob("*.md"))


def text(page):
    """A page as it is."""
    return (ROOT / "docs" / "guide" / f"{page}.md").read_text(encoding="utf-8")


def blocks(page, language):
    """The code blocks of a page in one language, in their order."""
    return [code for kind, code in FENCE.findall(text(page)) if kind == language]


def home(server, directory):
    """A place as the pages have it, with the first credentials in ./data, and the environment of somebody who begins."""
    (directory / "data").symlink_to(server.data)
    (directory / "home").mkdir()
    env = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    return {**env, "HOME": str(directory / "home"), "AWS_EC2_METADATA_DISABLED": "true"}


# Stands for "aws" in a script: hands the command on to the process that has the CLI loaded already.
SHIM = """#!{python} -IS
import json, os, socket, sys
line = socket.socket(socket.AF_UNIX)
line.connect({socket!r})
line.sendall(json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]).encode() + b"\\n")
answer = json.loads(line.makefile().read())
sys.stdout.write(answer["stdout"])
sys.stderr.write(answer["stderr"])
sys.exit(answer["code"])
"""


class _Handler(socketserver.StreamRequestHandler):
    def handle(self):
        args, env, cwd = json.loads(self.rfile.readline())
        result = self.server.cli.work(*args, env=env, cwd=cwd)
        self.wfile.write(json.dumps(dataclasses.asdict(result)).encode())


@contextlib.contextmanager
def aws(server, directory):
    """A folder with a program "aws" that does not take a second to start."""
    folder = directory / "bin"
    folder.mkdir()
    (folder / "aws").write_text(SHIM.format(python=sys.executable, socket=str(directory / "aws.sock")))
    (folder / "aws").chmod(0o755)
    with server.cli() as cli, socketserver.UnixStreamServer(str(directory / "aws.sock"), _Handler) as listener:
        listener.cli = cli
        thread = threading.Thread(target=listener.serve_forever)
        thread.start()
        try:
            yield folder
        finally:
            listener.shutdown()
            thread.join()


def shell(page, server, directory, env):
    """Runs the shell blocks of a page as one script, and returns what it printed."""
    script = "\n".join(["set -eu -o pipefail", *blocks(page, "sh")]).replace(ADDRESS, server.endpoint)
    return run(["bash", "-c", script], directory, env)


def run(command, directory, env, seconds=150):
    """Runs a command, which must succeed, and returns what it printed."""
    done = subprocess.run(
        [str(c) for c in command],
        cwd=directory,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def exported(page, server, directory, env):
    """The environment that the shell blocks of a page leave."""
    script = "\n".join(["set -eu", *blocks(page, "sh"), "env -0"]).replace(ADDRESS, server.endpoint)
    return dict(line.split("=", 1) for line in run(["bash", "-c", script], directory, env).split("\0") if line)


def program(language, code, directory):
    """The command that runs one of the pages' programs, and the folder to run it in."""
    if language == "python":
        return [sys.executable, "-c", code], directory
    if language == "js":
        return [sdks.node(), "--input-type=module", "-e", code], sdks.javascript()
    if language == "java":
        source = directory / "Example.java"
        source.write_text(code, encoding="utf-8")
        return ["java", "-XX:TieredStopAtLevel=1", "-cp", sdks.java(), source], directory
    module = sdks.HERE / "gosdk1" if "aws-sdk-go/aws" in code else ROOT
    source = directory / f"{module.name}.go"
    source.write_text(code, encoding="utf-8")
    return [sdks.go(module, str(source), f"guide-{module.name}")], directory
