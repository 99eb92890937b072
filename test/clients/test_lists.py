"""Pages, tags and names."""

import pytest

from harness import ACCOUNT, REGION, bare, refused
from kinds import GATEWAY, KINDS, MESH, NODE, VIRTUAL_SERVICE, gateway_route, node


def names(refs):
    """The virtual nodes' names."""
    return [ref["virtualNodeName"] for ref in refs]


@pytest.mark.parametrize("size", [1, 2, 3, 8, 9, 10, 100])
def test_every_page_size_shows_the_same(client, mesh, size):
    for name in ("z", "a", "m.1", "m-1", "M", "0", "_"):
        client.create_virtual_node(meshName=mesh, virtualNodeName=name, spec={})
    pages = NODE.pages(client, mesh, size)
    assert [len(p) for p in pages] == [size] * (9 // size) + ([9 % size] if 9 % size else [])
    assert [ref for page in pages for ref in page] == client.list_virtual_nodes(meshName=mesh)["virtualNodes"]


def test_a_page_has_100_unless_told_otherwise(client, mesh):
    for i in range(99):
        client.create_virtual_node(meshName=mesh, virtualNodeName=f"n{i}", spec={})
    first = client.list_virtual_nodes(meshName=mesh)
    assert len(first["virtualNodes"]) == 100
    second = client.list_virtual_nodes(meshName=mesh, nextToken=first["nextToken"])
    assert len(second["virtualNodes"]) == 1
    assert "nextToken" not in second
    assert len({ref["arn"] for ref in first["virtualNodes"] + second["virtualNodes"]}) == 101


def test_objects_come_and_go_between_pages(client, mesh):
    for name in "abcdef":
        client.create_virtual_node(meshName=mesh, virtualNodeName=name, spec={})
    first = client.list_virtual_nodes(meshName=mesh, limit=3)
    assert names(first["virtualNodes"]) == ["a", "b", "blue"]
    client.delete_virtual_node(meshName=mesh, virtualNodeName="blue")
    client.create_virtual_node(meshName=mesh, virtualNodeName="aa", spec={})
    client.create_virtual_node(meshName=mesh, virtualNodeName="cc", spec={})
    second = client.list_virtual_nodes(meshName=mesh, nextToken=first["nextToken"])
    assert names(second["virtualNodes"]) == ["c", "cc", "d", "e", "f", "green"]


def test_token_of_another_list(client, mesh):
    token = client.list_virtual_nodes(meshName=mesh, limit=1)["nextToken"]
    assert refused(client.list_virtual_services, meshName=mesh, nextToken=token) == "BadRequestException"
    assert names(client.list_virtual_nodes(meshName=mesh, nextToken=token)["virtualNodes"]) == ["green"]


@pytest.mark.parametrize("kind", [k for k in KINDS if k is not MESH])
def test_lists_are_empty_not_absent(client, mesh, kind):
    if kind.parent:
        assert kind.list(client, mesh)[kind.plural[1]] == []
    else:
        empty = bare(client.create_mesh(meshName=f"{mesh}-x"))["meshName"]
        assert kind.list(client, empty)[kind.plural[1]] == []


def test_pages_in_the_cli(cli, mesh):
    """The CLI's own way to stop after a page and to go on later."""
    first = cli.call("list-virtual-nodes", "--mesh-name", mesh, "--max-items", "1").json()
    second = cli.call("list-virtual-nodes", "--mesh-name", mesh, "--starting-token", first["NextToken"]).json()
    assert names(first["virtualNodes"] + second["virtualNodes"]) == ["blue", "green"]
    by_hand = cli.call("list-virtual-nodes", "--mesh-name", mesh, "--no-paginate", "--limit", "1").json()
    assert names(by_hand["virtualNodes"]) == ["blue"]
    assert cli.call("list-virtual-nodes", "--mesh-name", mesh, "--no-paginate", "--next-token", by_hand["nextToken"]).json()["virtualNodes"]


def test_tags_in_pages(client, mesh):
    """Tags keep the order in which they were set; one that is set again keeps its place."""
    arn = MESH.arn(mesh, mesh, ACCOUNT, REGION)
    client.tag_resource(resourceArn=arn, tags=[{"key": k, "value": "1"} for k in "zay"])
    client.tag_resource(resourceArn=arn, tags=[{"key": "a", "value": "2"}, {"key": "\u00fc <&> k", "value": "\u2713" * 256}])
    pages = client.get_paginator("list_tags_for_resource").paginate(resourceArn=arn, PaginationConfig={"PageSize": 1})
    shown = [page["tags"] for page in pages]
    assert [len(tags) for tags in shown] == [1] * 4
    assert [(tag["key"], tag["value"]) for (tag,) in shown] == [("z", "1"), ("a", "2"), ("y", "1"), ("\u00fc <&> k", "\u2713" * 256)]


ODD_NAMES = ["a/b c", "a%2Fb", "a+b", "a?b=c&d#e", "\u00fc.\u2713.local", "x/virtualNode/y", "*.example.com:8080", "a//b/", "n" * 255, "%"]


@pytest.mark.parametrize("name", ODD_NAMES, ids=range(len(ODD_NAMES)))
def test_names_of_virtual_services(client, mesh, name):
    """A virtual service may be called nearly anything; the clients encode it in paths and in ARNs."""
    at = VIRTUAL_SERVICE.at(mesh, name)
    made = VIRTUAL_SERVICE.call(client, "create", **at, spec={}, tags=[{"key": "k", "value": "v"}])
    arn = VIRTUAL_SERVICE.arn(mesh, name, ACCOUNT, REGION)
    assert (made["virtualServiceName"], made["metadata"]["arn"]) == (name, arn)
    assert VIRTUAL_SERVICE.call(client, "describe", **at) == made
    assert name in [ref["virtualServiceName"] for page in VIRTUAL_SERVICE.pages(client, mesh, 1) for ref in page]
    assert client.list_tags_for_resource(resourceArn=arn)["tags"] == [{"key": "k", "value": "v"}]
    assert VIRTUAL_SERVICE.call(client, "update", **at, spec=VIRTUAL_SERVICE.changed)["metadata"]["version"] == 2
    client.create_virtual_node(
        meshName=mesh, virtualNodeName="x", spec=node("h", backends=[{"virtualService": {"virtualServiceName": name}}])
    )
    client.create_gateway_route(meshName=mesh, virtualGatewayName=GATEWAY, gatewayRouteName="x", spec=gateway_route(name))
    assert refused(client.delete_virtual_service, **at) == "ResourceInUseException"
    client.delete_gateway_route(meshName=mesh, virtualGatewayName=GATEWAY, gatewayRouteName="x")
    assert VIRTUAL_SERVICE.call(client, "delete", **at)["virtualServiceName"] == name
    assert refused(client.describe_virtual_service, **at) == "NotFoundException"


def test_odd_name_in_the_cli(cli, mesh):
    flags = VIRTUAL_SERVICE.flags(mesh, "a/b c")
    made = cli.call("create-virtual-service", *flags, "--spec", "{}").json()
    assert made["virtualService"]["virtualServiceName"] == "a/b c"
    assert cli.call("describe-virtual-service", *flags).json() == made
    assert cli.call("tag-resource", "--resource-arn", made["virtualService"]["metadata"]["arn"], "--tags", "key=k,value=v").json() is None
    assert cli.call("delete-virtual-service", *flags).json()["virtualService"]["status"] == {"status": "DELETED"}


@pytest.mark.parametrize("kind", [k for k in KINDS if k is not VIRTUAL_SERVICE])
def test_names_of_the_others(client, mesh, kind):
    name = (mesh + "_." + "A" * 255)[:255]
    assert kind.call(client, "create", **kind.at(mesh, name), spec=kind.spec)["metadata"]["arn"] == kind.arn(mesh, name, ACCOUNT, REGION)
    assert kind.call(client, "describe", **kind.at(mesh, name))["spec"] == kind.spec
    assert kind.call(client, "delete", **kind.at(mesh, name))["status"] == {"status": "DELETED"}
    for wrong in (name + "A", "a/b", "a b", "\u00fc"):
        assert refused(kind.call, client, "create", **kind.at(mesh, wrong), spec=kind.spec) == "BadRequestException"
