"""Refusals, as both clients see them."""

import botocore.auth
import botocore.exceptions
import pytest

import kinds
from harness import bare, refused
from kinds import BLUE, GATEWAY, GREEN, KINDS, MESH, OTHER, ROUTER, SERVICE, compact, gateway_route, node, photograph, route


@pytest.fixture
def busy(client, mesh):
    """A mesh in which everything is used by something."""
    client.create_route(meshName=mesh, virtualRouterName=ROUTER, routeName="r", spec=route({BLUE: 1}))
    client.create_gateway_route(meshName=mesh, virtualGatewayName=GATEWAY, gatewayRouteName="g", spec=gateway_route(SERVICE))
    client.update_virtual_service(meshName=mesh, virtualServiceName=OTHER, spec={"provider": {"virtualNode": {"virtualNodeName": GREEN}}})
    return mesh


IN_USE = {
    "mesh": ("delete_mesh", {}),
    "target of a route": ("delete_virtual_node", {"virtualNodeName": BLUE}),
    "node that provides a service": ("delete_virtual_node", {"virtualNodeName": GREEN}),
    "router with routes that provides a service": ("delete_virtual_router", {"virtualRouterName": ROUTER}),
    "service that a gateway route leads to": ("delete_virtual_service", {"virtualServiceName": SERVICE}),
    "gateway with routes": ("delete_virtual_gateway", {"virtualGatewayName": GATEWAY}),
}


@pytest.mark.parametrize("case", IN_USE)
def test_in_use(client, busy, case):
    operation, which = IN_USE[case]
    before = photograph(client, busy)
    assert refused(getattr(client, operation), meshName=busy, **which) == "ResourceInUseException"
    assert photograph(client, busy) == before


def test_in_use_for_one_reason_each(client, busy):
    """A router that has no more routes still provides a service; a service that some node calls is free to go."""
    client.delete_route(meshName=busy, virtualRouterName=ROUTER, routeName="r")
    assert refused(client.delete_virtual_router, meshName=busy, virtualRouterName=ROUTER) == "ResourceInUseException"
    client.update_virtual_service(meshName=busy, virtualServiceName=SERVICE, spec={})
    client.delete_virtual_router(meshName=busy, virtualRouterName=ROUTER)
    client.delete_gateway_route(meshName=busy, virtualGatewayName=GATEWAY, gatewayRouteName="g")
    client.update_virtual_node(
        meshName=busy, virtualNodeName=BLUE, spec=node("b", backends=[{"virtualService": {"virtualServiceName": SERVICE}}])
    )
    client.delete_virtual_service(meshName=busy, virtualServiceName=SERVICE)
    client.delete_virtual_gateway(meshName=busy, virtualGatewayName=GATEWAY)


MISSING = {
    "target of a route": ("route", {"virtualRouterName": ROUTER, "routeName": "x"}, route({"no": 1})),
    "second target of a route": ("route", {"virtualRouterName": ROUTER, "routeName": "x"}, route({BLUE: 1, "no": 1})),
    "router of a service": ("virtual_service", {"virtualServiceName": "x"}, {"provider": {"virtualRouter": {"virtualRouterName": "no"}}}),
    "node of a service": ("virtual_service", {"virtualServiceName": "x"}, {"provider": {"virtualNode": {"virtualNodeName": "no"}}}),
    "service of a gateway route": ("gateway_route", {"virtualGatewayName": GATEWAY, "gatewayRouteName": "x"}, gateway_route("no")),
    "router of a route": ("route", {"virtualRouterName": "no", "routeName": "x"}, route({BLUE: 1})),
    "gateway of a gateway route": ("gateway_route", {"virtualGatewayName": "no", "gatewayRouteName": "x"}, gateway_route(SERVICE)),
}


@pytest.mark.parametrize("case", MISSING)
def test_reference_to_nothing(client, mesh, case):
    kind, which, spec = MISSING[case]
    before = photograph(client, mesh)
    assert refused(getattr(client, f"create_{kind}"), meshName=mesh, spec=spec, **which) == "NotFoundException"
    assert photograph(client, mesh) == before


def test_update_to_nothing(client, busy):
    before = photograph(client, busy)
    where = {"meshName": busy, "virtualRouterName": ROUTER, "routeName": "r"}
    assert refused(client.update_route, **where, spec=route({"no": 1})) == "NotFoundException"
    assert photograph(client, busy) == before


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_there(client, mesh, kind):
    """Objects that never were, and objects of every kind in a mesh, a router or a gateway that never was."""
    nowhere = kinds.unique("no")
    for where in [kind.at(mesh, nowhere), *([] if kind is MESH else [kind.at(nowhere, "x")])]:
        assert refused(kind.call, client, "describe", **where) == "NotFoundException"
        assert refused(kind.call, client, "update", **where, spec=kind.spec) == "NotFoundException"
        assert refused(kind.call, client, "delete", **where) == "NotFoundException"
    assert refused(client.list_tags_for_resource, resourceArn=kind.arn(mesh, nowhere, "000000000001", "us-east-1")) == "NotFoundException"
    if kind is not MESH:
        assert refused(kind.call, client, "create", **kind.at(nowhere, "x"), spec=kind.spec) == "NotFoundException"
        assert refused(kind.list, client, nowhere) == "NotFoundException"


@pytest.mark.parametrize("kind", KINDS)
def test_name_is_taken(client, mesh, kind):
    name = f"{mesh}-x" if kind is MESH else "x"
    made = kind.call(client, "create", **kind.at(mesh, name), spec=kind.spec)
    assert refused(kind.call, client, "create", **kind.at(mesh, name), spec=kind.changed) == "ConflictException"
    assert refused(kind.call, client, "create", **kind.at(mesh, name), spec=kind.spec) == "ConflictException"
    assert kind.call(client, "describe", **kind.at(mesh, name)) == made


def test_bad_request_names_the_field(client, mesh):
    """The clients check some of a request themselves; this is what they leave to the server."""
    before = photograph(client, mesh)
    with pytest.raises(client.exceptions.BadRequestException) as caught:
        client.create_virtual_node(
            meshName=mesh,
            virtualNodeName="x",
            spec={
                "listeners": [{"portMapping": {"port": 65536, "protocol": "http"}}, {"portMapping": {"port": 1, "protocol": "bogus"}}],
                "serviceDiscovery": {"dns": {"hostname": "h"}},
            },
        )
    message = caught.value.response["Error"]["Message"]
    assert "spec.listeners[0].portMapping.port" in message
    assert "spec.listeners[1].portMapping.protocol" in message
    for allowed in ("65535", "http2", "grpc", "tcp"):
        assert allowed in message
    for limit in (101, 100000):
        assert refused(client.list_virtual_nodes, meshName=mesh, limit=limit) == "BadRequestException"
    assert refused(client.list_virtual_nodes, meshName=mesh, nextToken="made up") == "BadRequestException"
    assert refused(client.describe_mesh, meshName=mesh, meshOwner="12345678901x") == "BadRequestException"
    assert refused(client.describe_virtual_node, meshName=mesh, virtualNodeName="n" * 256) == "BadRequestException"
    assert refused(client.create_virtual_node, meshName=mesh, virtualNodeName="x", spec={}, clientToken="t" * 37) == "BadRequestException"
    assert refused(client.tag_resource, resourceArn="arn:aws:s3:::bucket", tags=[]) == "BadRequestException"
    assert photograph(client, mesh) == before


def test_too_many_tags(client, mesh):
    arn = bare(client.describe_mesh(meshName=mesh))["metadata"]["arn"]
    client.tag_resource(resourceArn=arn, tags=[{"key": f"k{i}", "value": ""} for i in range(49)])
    before = client.list_tags_for_resource(resourceArn=arn)["tags"]
    assert (
        refused(client.tag_resource, resourceArn=arn, tags=[{"key": "k50", "value": ""}, {"key": "k51", "value": ""}])
        == "TooManyTagsException"
    )
    assert client.list_tags_for_resource(resourceArn=arn)["tags"] == before, "all or nothing"
    client.tag_resource(resourceArn=arn, tags=[{"key": "k50", "value": ""}, {"key": "k0", "value": "new"}])
    assert len(client.list_tags_for_resource(resourceArn=arn)["tags"]) == 50


def test_body_over_a_mebibyte(client, mesh):
    before = photograph(client, mesh)
    spec = node("h", backends=[{"virtualService": {"virtualServiceName": "s" * 200}}] * 5000)
    assert refused(client.create_virtual_node, meshName=mesh, virtualNodeName="x", spec=spec) == "RequestEntityTooLargeException"
    assert photograph(client, mesh) == before


def test_other_accounts_mesh(client, mesh):
    """A mesh of an account that shares nothing with the caller."""
    assert refused(client.describe_mesh, meshName=mesh, meshOwner="999999999999") == "ForbiddenException"
    assert bare(client.describe_mesh(meshName=mesh, meshOwner="000000000001"))["meshName"] == mesh


# How the clients sign wrongly: (key id, secret) from the right ones, a clock's error in seconds, and the answer.
SIGNERS = {
    "wrong secret": (lambda key, secret: (key, secret[:-1] + ("a" if secret[-1] != "a" else "b")), 0, "InvalidSignatureException"),
    "unknown key": (lambda key, secret: ("FLAK" + "Q" * (len(key) - 4), secret), 0, "UnrecognizedClientException"),
    "slow clock": (lambda key, secret: (key, secret), -3600, "InvalidSignatureException"),
    "fast clock": (lambda key, secret: (key, secret), 3600, "InvalidSignatureException"),
}


@pytest.mark.parametrize("case", SIGNERS)
def test_signature(server, client, cli, mesh, monkeypatch, case):
    credentials, clock, code = SIGNERS[case]
    key, secret = credentials(*server.keys())
    other = server.client(aws_access_key_id=key, aws_secret_access_key=secret)
    before = photograph(client, mesh)
    with monkeypatch.context() as patch:
        set_clock(patch, clock)
        assert refused(other.create_virtual_node, meshName=mesh, virtualNodeName="x", spec={}) == code
        assert refused(other.list_meshes) == code
    env = {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}
    assert cli.call("delete-virtual-node", "--mesh-name", mesh, "--virtual-node-name", BLUE, env=env, clock=clock).error() == code
    assert photograph(client, mesh) == before


@pytest.mark.parametrize("clock", [-120, 120])
def test_clock_is_a_little_off(client, mesh, monkeypatch, clock):
    set_clock(monkeypatch, clock)
    assert bare(client.describe_mesh(meshName=mesh))["meshName"] == mesh


def set_clock(patch, seconds):
    """Makes boto3's clock so many seconds fast."""
    right = botocore.auth.get_current_datetime
    patch.setattr(botocore.auth, "get_current_datetime", lambda *args, **kwargs: right(*args, **kwargs) + kinds.seconds(seconds))


def test_region_that_is_not_served(server):
    assert refused(server.client(region="eu-west-1").list_meshes) == "InvalidSignatureException"


def test_cli_errors(client, cli, busy):
    """The codes of the model in the AWS CLI; those of the signature are above, NotFoundException is in test_lifecycle.py."""
    node_flags = kinds.NODE.flags(busy, BLUE)
    too_high = compact({"listeners": [{"portMapping": {"port": 65536, "protocol": "http"}}]})
    before = photograph(client, busy)
    assert cli.process("delete-virtual-node", *node_flags).error() == "ResourceInUseException"
    assert cli.call("create-virtual-node", *node_flags, "--spec", "{}").error() == "ConflictException"
    result = cli.call("update-virtual-node", *node_flags, "--spec", too_high)
    assert result.error() == "BadRequestException"
    assert "spec.listeners[0].portMapping.port" in result.stderr
    assert cli.call("describe-virtual-node", *node_flags, "--mesh-owner", "999999999999").error() == "ForbiddenException"
    assert photograph(client, busy) == before
