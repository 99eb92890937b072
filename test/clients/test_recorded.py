"""AWS's recorded answers: the same commands, typed word for word, get the same answers here.

All 34 commands are run in the AWS CLI, in an order in which they can follow each other, with what
the recordings do not show done in between. The answers are compared whole. Where they differ on
purpose, DIFFERENCES says how and why.
"""

import re

import pytest

import recorded
import wire
from kinds import node

ACCOUNT = "123456789012"  # the account of the recordings
EAST, WEST = "us-east-1", "us-west-2"
RECORDINGS = recorded.load()


def number(value):
    """A time as it is on the wire."""
    return isinstance(value, float) and value > 1.7e9


# (commands, where in the answer, what is right for (recorded, here), why). None stands for what is absent.
DIFFERENCES = [
    (
        ".*",
        r"(\w+\.metadata|\w+\[\d+\])\.(meshOwner|resourceOwner)",
        lambda then, now: (then, now) == (None, ACCOUNT),
        "recorded before meshes could be shared; the model requires them",
    ),
    (
        "list-.*",
        r"\w+\[\d+\]\.(createdAt|lastUpdatedAt)",
        lambda then, now: then is None and number(now),
        "recorded before lists had them; the model requires them",
    ),
    ("list-.*", r"\w+\[\d+\]\.version", lambda then, now: then is None and now in (1, 2), "likewise"),
    (
        ".*",
        r"\w+\.metadata\.(createdAt|lastUpdatedAt)",
        lambda then, now: number(now) and (isinstance(then, float) or "T" in then),
        "another time; the gateway's was written by version 2 of the CLI, which turns the number into text",
    ),
    (".*", r"\w+\.metadata\.uid", lambda then, now: then.endswith("EXAMPLE") and wire.UUID.fullmatch(now), "a real one"),
    (
        "(create|describe)-mesh.*",
        r"mesh\.spec\.egressFilter",
        lambda then, now: (then, now) == (None, {"type": "DROP_ALL"}),
        "recorded in 2019; since then App Mesh writes the default into the spec",
    ),
    (
        "create-route 1",
        r"route\.spec\.grpcRoute\.match\.metadata\[0\]\.name",
        lambda then, now: (then, now) == ("mymetadata", "myMetadata"),
        "recorded in 2019; later App Mesh left names as they were sent",
    ),
    (
        "(describe|delete)-virtual-node",
        r"virtualNode\.spec\.backends",
        lambda then, now: (then, now) == ([], None),
        "what was not sent stays absent: clients take both for the same, and one rule is simpler",
    ),
    (
        "create-virtual-service 1",
        r"virtualService\.metadata\.version",
        lambda then, now: (then, now) == (2, 1),
        "the recording is of an object that had been updated once",
    ),
    ("update-virtual-service", r"virtualService\.metadata\.version", lambda then, now: (then, now) == (3, 2), "the same object, later"),
    (
        "delete-virtual-router",
        r"virtualRouter\.spec\.listeners\[0\]\.portMapping\.port",
        lambda then, now: (then, now) == (80, 8080),
        "another router: the recorded update had set this one to 8080",
    ),
    (
        "list-routes",
        r"routes\[0\]\.arn",
        lambda then, now: now == then + "-weighted",
        "the recording was cut: its ARN and its name do not agree",
    ),
]


class Scenario:
    """Runs the recordings, and between them what they take for granted."""

    def __init__(self, server, cli, folder):
        self.cli, self.folder = cli, folder
        self.results = {}
        self.east, self.west = server.client(region=EAST), server.client(region=WEST)

    def type(self, *ids):
        """Types the commands of recordings."""
        for one in ids:
            recording = RECORDINGS[one]
            for name, content in recording.files.items():
                (self.folder / name).write_text(content)
            self.results[one] = self.cli.call(*recording.args, region=recording.region, cwd=self.folder)

    def east_side(self):
        """The mesh app1, from its creation to its end."""
        east, in_app1 = self.east, {"meshName": "app1"}
        self.type("create-mesh 1", "list-meshes", "describe-mesh", "create-mesh 2")
        self.type("create-virtual-node 1", "describe-virtual-node")
        spec = RECORDINGS["delete-virtual-node"].output["virtualNode"]["spec"]
        east.create_virtual_node(**in_app1, virtualNodeName="vnServiceBv2", spec={k: v for k, v in spec.items() if k != "backends"})
        self.type("list-virtual-nodes", "create-virtual-router", "describe-virtual-router", "list-virtual-routers")
        spec = RECORDINGS["describe-route"].output["route"]["spec"]
        east.create_route(**in_app1, virtualRouterName="vrServiceB", routeName="toVnServiceB-weighted", spec=spec)
        self.type("describe-route", "list-routes", "create-virtual-node 2")
        self.type("create-virtual-service 1", "create-virtual-service 2", "describe-virtual-service", "list-virtual-services")
        self.type("tag-resource")
        arn = RECORDINGS["create-mesh 1"].output["mesh"]["metadata"]["arn"]
        east.tag_resource(resourceArn=arn, tags=[{"key": f"key{i}", "value": f"value{i}"} for i in (2, 3)])
        self.type("list-tags-for-resource", "untag-resource", "update-mesh", "update-route", "update-virtual-node", "update-virtual-router")
        east.create_virtual_router(**in_app1, virtualRouterName="vrServiceA", spec=RECORDINGS["create-virtual-router"].request["spec"])
        self.type("update-virtual-service")
        east.update_virtual_service(**in_app1, virtualServiceName="serviceB.svc.cluster.local", spec={})
        self.type("delete-virtual-service", "delete-route", "delete-virtual-router", "delete-virtual-node")
        east.delete_virtual_service(**in_app1, virtualServiceName="serviceA.svc.cluster.local")
        east.delete_virtual_router(**in_app1, virtualRouterName="vrServiceA")
        for name in ("vnServiceA", "vnServiceBv1"):
            east.delete_virtual_node(**in_app1, virtualNodeName=name)
        self.type("delete-mesh")

    def west_side(self):
        """Single commands, in a region of their own."""
        self.west.create_mesh(meshName="apps")
        for protocol in ("grpc", "http2", "tcp"):
            listeners = [{"portMapping": {"port": 80, "protocol": protocol}}]
            self.west.create_virtual_router(meshName="apps", virtualRouterName=f"serviceB{protocol}", spec={"listeners": listeners})
            for version in ("", "v2"):
                name = f"serviceB{version}{protocol}"
                self.west.create_virtual_node(meshName="apps", virtualNodeName=name, spec={**node("serviceB"), "listeners": listeners})
        self.type("create-route 1", "create-route 2", "create-route 3")
        self.west.create_mesh(meshName="meshName")
        self.type("create-virtual-gateway")


@pytest.fixture(scope="module")
def results(servers, tmp_path_factory):
    """What each command did."""
    server = servers(account=ACCOUNT, regions=(EAST, WEST)).start()
    with server.cli() as cli:
        scenario = Scenario(server, cli, tmp_path_factory.mktemp("recorded"))
        scenario.east_side()
        scenario.west_side()
    return scenario.results


def differences(then, now, path=""):
    """Where two answers differ: (path, recorded, here), with None for what one of them lacks."""
    if isinstance(then, dict) and isinstance(now, dict):
        for name in sorted(then.keys() | now.keys()):
            yield from differences(then.get(name), now.get(name), f"{path}.{name}" if path else name)
    elif isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        for i, pair in enumerate(zip(then, now, strict=True)):
            yield from differences(*pair, f"{path}[{i}]")
    elif type(then) is not type(now) or then != now:
        yield path, then, now


def reason(command, path, then, now):
    """The index of the entry of DIFFERENCES that allows a difference, or None."""
    for i, (commands, where, right, _) in enumerate(DIFFERENCES):
        if re.fullmatch(commands, command) and re.fullmatch(where, path) and right(then, now):
            return i
    return None


@pytest.mark.parametrize("command", RECORDINGS)
def test_answer(results, command):
    then, now = RECORDINGS[command].output, results[command].json()
    assert [d for d in differences(then, now) if reason(command, *d) is None] == []
    if then and "metadata" in next(iter(then.values())):
        new = next(iter(now.values()))["metadata"]
        assert new["createdAt"] <= new["lastUpdatedAt"]
        assert new["createdAt"] == new["lastUpdatedAt"] or new["version"] > 1


def test_there_are_34():
    assert len(RECORDINGS) == 34
    assert all(r.output is not None for r in RECORDINGS.values() if r.id not in ("tag-resource", "untag-resource"))
    assert all(set(re.findall(r"file://(\S+)", " ".join(r.args))) == set(r.files) for r in RECORDINGS.values())


def test_differences_are_real(results):
    """An entry of DIFFERENCES that nothing needs any more must go."""
    used = {reason(c, *d) for c, r in RECORDINGS.items() for d in differences(r.output, results[c].json())}
    assert [DIFFERENCES[i] for i in range(len(DIFFERENCES)) if i not in used] == []
