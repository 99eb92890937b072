"""An etcd as a process of its own, for a control plane that keeps its state there."""

import base64
import json
import pathlib
import random
import socket
import subprocess
import urllib.request

import pytest

import sdks
from harness import ROOT, START_SECONDS, STOP_SECONDS, until


class Etcd:
    """One etcd, of the version that Fairlead embeds, on free ports."""

    def __init__(self, directory):
        directory = pathlib.Path(directory)
        self.log_file = directory / "etcd.log"
        # A loopback address of its own: no other process takes the port meanwhile. etcd's HTTP gateway has to know it beforehand.
        host = ".".join(["127", *(str(random.randrange(1, 255)) for _ in range(3))])
        with socket.create_server((host, 0)) as free:
            self.address = f"{host}:{free.getsockname()[1]}"
        url = f"http://{self.address}"
        command = [str(sdks.go(ROOT, "go.etcd.io/etcd/server/v3", "etcd")), "--data-dir", str(directory / "etcd"), "--unsafe-no-fsync"]
        command += ["--listen-client-urls", url, "--advertise-client-urls", url, "--listen-peer-urls", f"http://{host}:0"]
        command += ["--heartbeat-interval", "50", "--election-timeout", "250", "--log-outputs", str(self.log_file)]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            until("etcd", START_SECONDS, self._serving)
        except BaseException:
            self.stop()
            raise

    def _serving(self):
        log = self.log_file.read_text(errors="replace") if self.log_file.exists() else ""
        if self.process.poll() is not None:
            pytest.fail(f"etcd ended with {self.process.returncode}; the end of its log:\n{log[-2000:]}", pytrace=False)
        return '"msg":"ready to serve client requests"' in log and self.keys("ready/") == []

    def _post(self, path, **body):
        """Calls the HTTP gateway. Bytes go there in base64."""
        encoded = {k: base64.b64encode(v.encode()).decode() if isinstance(v, str) else v for k, v in body.items()}
        request = urllib.request.Request(f"http://{self.address}/v3/kv/{path}", json.dumps(encoded).encode())
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def put(self, key, value):
        """Writes a value behind the control plane's back."""
        self._post("put", key=key, value=value)

    def keys(self, prefix):
        """The keys below a prefix."""
        found = self._post("range", key=prefix, range_end=prefix[:-1] + chr(ord(prefix[-1]) + 1), keys_only=True)
        return [base64.b64decode(kv["key"]).decode() for kv in found.get("kvs", [])]

    def stop(self):
        """Ends it."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(STOP_SECONDS)
