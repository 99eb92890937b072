"""Builds the small programs that use the SDKs of other languages, and runs them.

All that is fetched and built is below .tools, pinned by the lock file or the build file beside each program.
"""

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest

from harness import ROOT

HERE = pathlib.Path(__file__).parent
TOOLS = ROOT / ".tools"

# Compilers and package managers are run as the user has set them up, before the tests' own environment is laid over it.
BUILD_ENV = dict(os.environ)

BUILD_SECONDS, RUN_SECONDS = 600, 150

GO, JAVA, JAVASCRIPT = (
    "Go",
    "a JDK (17 or newer) and Maven: apt-get install default-jdk-headless maven",
    "Node.js 20 or newer, and npm: apt-get install nodejs npm",
)


def need(what, *commands):
    """Skips the test unless all commands are there."""
    missing = [c for c in commands if not shutil.which(c, path=BUILD_ENV.get("PATH"))]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not found; this test needs {what}")


def build(command, folder, **env):
    """Runs a step of a build."""
    done = subprocess.run(
        [str(c) for c in command],
        cwd=folder,
        env={**BUILD_ENV, **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        timeout=BUILD_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        pytest.fail(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout[-4000:]}", pytrace=False)
    return done.stdout


@contextlib.contextmanager
def locked():
    """Lets two runs of the tests wait for each other while they build."""
    TOOLS.mkdir(exist_ok=True)
    with (TOOLS / "sdks.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def once(name, sources, make):
    """Calls make(folder) for .tools/name, unless it was made from the same sources before."""
    digest = hashlib.sha256()
    for source in sources:
        digest.update(f"{source.name} {source.stat().st_size}\n".encode() + source.read_bytes())
    folder, stamp = TOOLS / name, TOOLS / name / "STAMP"
    with locked():
        if not stamp.exists() or stamp.read_text() != digest.hexdigest():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            make(folder)
            stamp.write_text(digest.hexdigest())
    return folder


@functools.cache
def go(module, package, name):
    """Builds a Go program of a module to .tools/sdks/name and returns its path. Go's own cache makes that quick."""
    compiler = BUILD_ENV.get("GO", "go")
    need(GO, compiler)
    target = TOOLS / "sdks" / name
    settings = {"CGO_ENABLED": "0", "GOFLAGS": BUILD_ENV.get("GOFLAGS") or "-trimpath"}
    with locked():
        build([compiler, "build", "-o", target, package], module, **settings)
    return target


@functools.cache
def node():
    """The Node.js to use."""
    need(JAVASCRIPT, "node", "npm")
    version = build(["node", "--version"], HERE).strip()
    if int(re.match(r"v(\d+)", version)[1]) < 20:
        pytest.skip(f"this Node.js is {version}; this test needs {JAVASCRIPT}")
    return "node"


@functools.cache
def javascript():
    """A folder with the SDK for JavaScript, from which modules find it."""
    node()
    source = HERE / "javascript"

    def make(folder):
        for name in ("package.json", "package-lock.json"):
            shutil.copy(source / name, folder)
        build(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--cache", TOOLS / "npm"], folder)

    return once("javascript", [source / "package.json", source / "package-lock.json"], make)


@functools.cache
def java():
    """The class path of the SDK for Java and the program beside this file."""
    need(JAVA, "java", "javac", "mvn")
    source = HERE / "java"

    def make(folder):
        command = ["mvn", "--batch-mode", "--quiet", "--strict-checksums", f"-Dmaven.repo.local={TOOLS / 'maven'}", f"-Dout={folder}"]
        build([*command, "--file", source / "pom.xml", "compile", "dependency:copy-dependencies"], source)

    folder = once("java", [source / "pom.xml", *sorted(source.rglob("*.java"))], make)
    return f"{folder / 'classes'}:{folder / 'lib'}/*"


def command(name):
    """The command line of a program without its arguments."""
    if name == "gosdk1":
        return [go(HERE / "gosdk1", ".", "gosdk1")]
    if name == "gosdk2":
        return [go(ROOT, "./test/clients/gosdk2", "gosdk2")]
    if name == "java":
        # A short run: the quick compiler alone, and one thread to clear up.
        return ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-cp", java(), "fairlead.Main"]
    folder = javascript()
    for module in (HERE / "javascript").glob("*.mjs"):
        shutil.copy(module, folder)
    return [node(), str(folder / "main.mjs")]


class Program:
    """A program that runs."""

    def __init__(self, name, verb, settings, directory):
        self.line = [str(c) for c in command(name)]
        file = pathlib.Path(directory) / f"{name}-{verb}.json"
        file.write_text(json.dumps(settings))
        self.process = subprocess.Popen(
            [*self.line, verb, str(file)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
        )

    def report(self):
        """What the program printed, when it is done."""
        out, err = self.process.communicate(timeout=RUN_SECONDS)
        if self.process.returncode != 0:
            pytest.fail(f"{self.line[0]} ended with {self.process.returncode}:\n{err[-8000:]}", pytrace=False)
        return json.loads(out)

    def close(self):
        """Ends the program if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
