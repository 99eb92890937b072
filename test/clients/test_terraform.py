"""Terraform's way of working: the calls of its AWS provider, made with the SDK that it is built on."""

import kinds
import sdks
import wire
from harness import ACCOUNT, REGION


def test_terraform(server, tmp_path):
    """A mesh with every kind is created, refreshed, imported, changed, replaced and destroyed, and no plan in between finds a difference."""
    key, secret = server.keys()
    settings = {"endpoint": server.endpoint, "accessKeyId": key, "secretAccessKey": secret, "region": REGION, "account": ACCOUNT}
    program = sdks.Program("gosdk2", "terraform", {**settings, "mesh": kinds.unique("tf")}, tmp_path)
    try:
        report = program.report()
    finally:
        program.close()
    # The provider lists no objects: it knows them from its state.
    lists = {name for name in wire.model().operation_names if name.startswith("List")} - {"ListTagsForResource"}
    assert report["called"] == sorted(set(wire.model().operation_names) - lists)
    assert report["checks"] > 300
