"""AWS's Kubernetes controller: its calls, with the SDK that it links, found by name and trusted by certificate as its page says."""

import json

import guide
import kinds
import provoke
import sdks
from harness import ACCOUNT, REGION


def test_controller(servers, tmp_path, monkeypatch):
    sdks.need("the program openssl: apt-get install openssl", "openssl")
    guide.run(["bash", "-euc", *guide.blocks("kubernetes-controller", "sh")], tmp_path, {**sdks.BUILD_ENV, "HOME": str(tmp_path)})
    server = servers().start()
    (policy,) = guide.blocks("kubernetes-controller", "json")
    key, secret = provoke.user(server, {"appmesh": json.loads(policy)})
    server.stop()
    server.flags = [f"--api-tls-cert={tmp_path / 'tls.crt'}", f"--api-tls-key={tmp_path / 'tls.key'}"]
    server.start()
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    settings = {"endpoint": server.addresses["api"], "region": REGION, "account": ACCOUNT, "mesh": kinds.unique("k8s")}
    program = sdks.Program("gosdk1", "controller", settings, tmp_path)
    try:
        report = program.report()
    finally:
        program.close()
    # All but an update of a virtual service and its like, which nothing asked for; of the lists only that of the routes, and no tags.
    always = {f"{verb}{kind.title}" for kind in kinds.KINDS for verb in ("Describe", "Create", "Delete")}
    updated = {"UpdateVirtualNode", "UpdateVirtualRouter", "UpdateRoute"}
    assert set(report["called"]) == always | updated | {"ListRoutes"}
