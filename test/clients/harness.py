"""A control plane as a process of its own, and the two clients that talk to it: boto3 and the AWS CLI."""

import configparser
import contextlib
import dataclasses
import json
import os
import pathlib
import re
import secrets
import signal
import subprocess
import sys
import time
import unittest.mock
import urllib.error
import urllib.request

import boto3
import botocore.config
import botocore.exceptions
import pytest

import wire

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("FAIRLEAD_BIN") or str(ROOT / "bin" / "fairlead")

CLI_WORKER = str(pathlib.Path(__file__).with_name("cliworker.py"))

# What the server makes at its first start unless it is told otherwise.
ACCOUNT, REGION = "000000000001", "us-east-1"

# Bounds on waiting. Nothing here is measured: a busy machine may be slow.
START_SECONDS, STOP_SECONDS, CLI_SECONDS = 60, 30, 60


def until(what, seconds, ready):
    """Polls ready() until it returns something true, and returns that."""
    deadline = time.monotonic() + seconds
    while not (result := ready()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds} s for {what}")
        time.sleep(0.02)
    return result


class Server:
    """One control plane on a data directory; its ports are free ones and differ at every start."""

    def __init__(self, directory, account=ACCOUNT, regions=(REGION,), etcd=None, flags=(), errors=""):
        """etcd is the address of an external one; errors is a pattern of what the server may log as an error."""
        self.data = pathlib.Path(directory) / "data"
        self.etcd, self.flags, self.errors = etcd, flags, errors
        self.log_file = pathlib.Path(directory) / "log"
        self.account, self.regions = account, regions
        self.process = None
        self.addresses = {}

    def start(self):
        """Starts the process and returns once it answers that it is ready."""
        if not os.access(BINARY, os.X_OK):
            pytest.fail(f"no control plane to test at {BINARY}: run 'make build', or name one with FAIRLEAD_BIN", pytrace=False)
        command = [BINARY, "server", "--account-id", self.account, "--log-level", "debug", *self._store(), *self.flags]
        command += [arg for name in ("api", "xds", "ops") for arg in (f"--{name}-listen", "127.0.0.1:0")]
        command += [arg for region in self.regions for arg in ("--region", region)]
        with self.log_file.open("ab") as log:
            said_before = log.tell()
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        line = until("the server's addresses", START_SECONDS, lambda: self._listening(said_before))
        self.addresses = dict(re.findall(r"\b(api|xds|ops)=(\S+)", line))
        until("/readyz", START_SECONDS, self._ready)
        return self

    def _store(self):
        """The flags that say where the state is."""
        if self.etcd is None:
            return ["--data-dir", str(self.data)]
        self.data.mkdir(exist_ok=True)
        seal = self.data / "seal.key"
        if not seal.exists():
            seal.touch(0o600)
            seal.write_text(secrets.token_hex(32))
        own = [f"--{flag}={self.data / file}" for flag, file in (("credentials-file", "credentials"), ("audit-file", "audit.log"))]
        return ["--etcd-endpoints", self.etcd, "--seal-key", str(seal), "--peer-listen", "127.0.0.1:0", *own]

    def _alive(self):
        if self.process.poll() is not None:
            tail = "\n".join(self.log().splitlines()[-20:])
            pytest.fail(f"the server ended with {self.process.returncode}; the end of its log:\n{tail}", pytrace=False)

    def _listening(self, offset):
        self._alive()
        with self.log_file.open("rb") as log:
            log.seek(offset)
            found = re.search(rb"msg=listening .*\n", log.read())
        return found and found[0].decode()

    def _ready(self):
        self._alive()
        try:
            with urllib.request.urlopen(f"http://{self.addresses['ops']}/readyz", timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def log(self):
        """All that the server has written."""
        return self.log_file.read_text(errors="replace")

    def kill(self):
        """Ends the server with SIGKILL, in the middle of whatever it does."""
        self.process.kill()
        self.process.wait(STOP_SECONDS)

    def stop(self):
        """Asks the server to end, with SIGTERM, and returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_SECONDS)

    def close(self):
        """Ends the server if it still runs."""
        if self.process is not None and self.process.poll() is None:
            self.kill()

    @property
    def endpoint(self):
        """The REST API's URL."""
        return f"http://{self.addresses['api']}"

    def keys(self):
        """The administrator's access key: its id and its secret."""
        file = configparser.ConfigParser()
        file.read(self.data / "credentials")
        return file["default"]["aws_access_key_id"], file["default"]["aws_secret_access_key"]

    def env(self, region=REGION):
        """The variables that point any AWS client at this server."""
        return {
            "AWS_ENDPOINT_URL_APP_MESH": self.endpoint,
            "AWS_SHARED_CREDENTIALS_FILE": str(self.data / "credentials"),
            # botocore reads the second only, the SDKs for other languages the first or both.
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self, region=REGION, **credentials):
        """A boto3 client, found by the variables alone. It never retries, and every answer it gets is held against the service model."""
        config = botocore.config.Config(retries={"total_max_attempts": 1}, max_pool_connections=32, read_timeout=30, connect_timeout=10)
        with unittest.mock.patch.dict(os.environ, self.env(region)):
            client = boto3.session.Session(**credentials).client("appmesh", config=config)
        client.meta.events.register("after-call.app-mesh", wire.check_answer)
        return client

    @contextlib.contextmanager
    def cli(self):
        """The AWS CLI, pointed here."""
        cli = Cli(self)
        try:
            yield cli
        finally:
            cli.close()


@dataclasses.dataclass
class Result:
    """How a command of the AWS CLI ended."""

    code: int
    stdout: str
    stderr: str

    def json(self):
        """The command's output; the command must have done what it was told."""
        assert self.code == 0, self.stderr
        return json.loads(self.stdout) if self.stdout.strip() else None

    def error(self):
        """The code of the service's error that the command printed."""
        assert self.code != 0, f"done, not refused: {self.stdout}"
        assert self.stdout == ""
        found = re.search(r"An error occurred \((\w+)\) when calling the \w+ operation(?: \(reached max retries: \d+\))?: \S", self.stderr)
        assert found, self.stderr
        return found[1]


class Cli:
    """Runs "aws appmesh ..." against a server."""

    def __init__(self, server):
        self.server = server
        self.worker = None

    def process(self, *args, without=()):
        """Runs a command as its users do, as a process. It takes a second: use call where that does not matter."""
        env = {k: v for k, v in {**os.environ, **self.server.env()}.items() if k not in without}
        done = subprocess.run(
            [sys.executable, "-m", "awscli", "appmesh", *args],
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=CLI_SECONDS,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def call(self, *args, region=REGION, env=None, cwd=".", clock=0):
        """Runs a command in one process for many, with more variables, in a folder, with a clock that is so many seconds ahead."""
        return self.work("appmesh", *args, env={**self.server.env(region), **(env or {})}, cwd=cwd, clock=clock)

    def work(self, *args, env, cwd=".", clock=0):
        """Runs any command in one process for many, with the variables given."""
        if self.worker is None:
            self.worker = subprocess.Popen([sys.executable, CLI_WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8")
        print(json.dumps({"args": args, "env": env, "cwd": str(cwd), "clock": clock}), file=self.worker.stdin, flush=True)
        return Result(**json.loads(self.worker.stdout.readline()))

    def close(self):
        """Ends the process that call uses."""
        if self.worker is not None:
            self.worker.communicate(timeout=CLI_SECONDS)


def bare(answer):
    """The one member of what boto3 returned, without what the client adds: the object itself."""
    (value,) = (v for k, v in answer.items() if k != "ResponseMetadata")
    return value


def refused(call, *args, **kwargs):
    """The code of the error that a call of boto3 ends with."""
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        call(*args, **kwargs)
    return caught.value.response["Error"]["Code"]
