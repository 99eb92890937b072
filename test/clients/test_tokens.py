"""Client tokens: a request that is sent twice is done once. And callers who do the same at the same time."""

import concurrent.futures
import threading

import botocore.exceptions
import pytest

from harness import refused
from kinds import BLUE, KINDS, MESH, NODE, node

CALLERS = 8


@pytest.mark.parametrize("kind", KINDS)
def test_repeated(client, mesh, kind):
    name = f"{mesh}-x" if kind is MESH else "x"
    at, tags = kind.at(mesh, name), [{"key": "k", "value": "v"}]
    made = kind.call(client, "create", **at, spec=kind.spec, tags=tags, clientToken="create-1")
    assert kind.call(client, "create", **at, spec=kind.spec, tags=tags, clientToken="create-1") == made
    for other in ({"spec": kind.changed, "tags": tags}, {"spec": kind.spec}):
        assert refused(kind.call, client, "create", **at, **other, clientToken="create-1") == "ConflictException"
    assert kind.call(client, "describe", **at) == made

    changed = kind.call(client, "update", **at, spec=kind.changed, clientToken="update-1")
    assert changed["metadata"]["version"] == 2
    assert kind.call(client, "update", **at, spec=kind.changed, clientToken="update-1") == changed
    assert refused(kind.call, client, "update", **at, spec=kind.spec, clientToken="update-1") == "ConflictException"
    assert kind.call(client, "describe", **at) == changed
    assert kind.call(client, "update", **at, spec=kind.spec, clientToken="update-2")["metadata"]["version"] == 3


def test_token_in_capitals(client, mesh):
    """As the Go SDK v1 makes them."""
    at = {"meshName": mesh, "virtualNodeName": "x", "spec": {}, "clientToken": "0A1B2C3D-4E5F-6071-8293-A4B5C6D7E8F9"}
    assert client.create_virtual_node(**at)["virtualNode"] == client.create_virtual_node(**at)["virtualNode"]


def test_cli(cli, mesh):
    at = [*NODE.flags(mesh, "x"), "--client-token", "500"]
    made = cli.call("create-virtual-node", *at, "--spec", "{}").json()
    assert cli.call("create-virtual-node", *at, "--spec", "{}").json() == made
    assert cli.call("create-virtual-node", *at, "--spec", '{"listeners":[]}').error() == "ConflictException"


def at_once(action):
    """Runs action(number) in several threads that start together, and returns what each returned or was refused with."""
    start = threading.Barrier(CALLERS)

    def run(number):
        start.wait()
        try:
            return action(number)
        except botocore.exceptions.ClientError as error:
            return error.response["Error"]["Code"]

    with concurrent.futures.ThreadPoolExecutor(CALLERS) as pool:
        return list(pool.map(run, range(CALLERS)))


def test_one_of_many_gets_the_name(client, mesh):
    at = {"meshName": mesh, "virtualNodeName": "x"}
    made = at_once(lambda n: client.create_virtual_node(**at, spec=node(f"h{n}"), clientToken=f"t{n}")["virtualNode"])
    winners = [m for m in made if isinstance(m, dict)]
    assert len(winners) == 1
    assert made.count("ConflictException") == CALLERS - 1
    assert client.describe_virtual_node(**at)["virtualNode"] == winners[0]


def test_one_request_of_many_connections(client, mesh):
    made = at_once(lambda _: client.create_virtual_node(meshName=mesh, virtualNodeName="x", spec={}, clientToken="same")["virtualNode"])
    assert made == [made[0]] * CALLERS
    assert made[0]["metadata"]["version"] == 1


def test_no_update_is_lost(client, mesh):
    at = {"meshName": mesh, "virtualNodeName": BLUE}
    changed = at_once(lambda n: client.update_virtual_node(**at, spec=node(f"h{n}"))["virtualNode"])
    by_version = {c["metadata"]["version"]: c for c in changed}
    assert sorted(by_version) == list(range(2, CALLERS + 2))
    assert client.describe_virtual_node(**at)["virtualNode"] == by_version[CALLERS + 1]


def test_reference_and_removal_exclude_each_other(client, mesh):
    """However it ends, no service is left with a node that is gone."""
    for name in ("a", "b", "c", "d"):
        client.create_virtual_node(meshName=mesh, virtualNodeName=name, spec={})

    def race(number):
        name = "abcd"[number // 2]
        if number % 2:
            return client.delete_virtual_node(meshName=mesh, virtualNodeName=name)["virtualNode"]["virtualNodeName"]
        spec = {"provider": {"virtualNode": {"virtualNodeName": name}}}
        return client.create_virtual_service(meshName=mesh, virtualServiceName=f"{name}.local", spec=spec)["virtualService"][
            "virtualServiceName"
        ]

    ended = at_once(race)
    for name, service, removed in zip("abcd", ended[::2], ended[1::2], strict=True):
        assert (service, removed) in [(f"{name}.local", "ResourceInUseException"), ("NotFoundException", name)]
