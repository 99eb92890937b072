"""Each kind's whole life, once in boto3 and once in the AWS CLI."""

import time

import pytest

import kinds
import wire
from harness import ACCOUNT, REGION, bare, refused
from kinds import KINDS, MESH, ROUTE, compact

TAGS = [{"key": "team", "value": "blue"}, {"key": "empty", "value": ""}]


def own_names(kind, mesh):
    """Three names for objects of a kind, in the order of lists. Meshes need names that are unique in the account."""
    return [f"{mesh}-{n}" if kind is MESH else n for n in ("a", "b", "c")]


def expected_ref(kind, data):
    """What a list says of an object."""
    names = {k: v for k, v in data.items() if k.endswith("Name")}
    metadata = {k: v for k, v in data["metadata"].items() if k != "uid"}
    return {**names, **metadata}


def check_new(kind, mesh, name, data, since):
    """Checks the answer to a create call."""
    metadata = data["metadata"]
    assert {k: v for k, v in data.items() if k.endswith("Name")} == ({"meshName": name} if kind is MESH else kind.at(mesh, name))
    assert data["spec"] == kind.spec
    assert data["status"] == {"status": "ACTIVE"}
    assert metadata["arn"] == kind.arn(mesh, name, ACCOUNT, REGION)
    assert wire.UUID.fullmatch(metadata["uid"])
    assert (metadata["version"], metadata["meshOwner"], metadata["resourceOwner"]) == (1, ACCOUNT, ACCOUNT)
    assert metadata["createdAt"] == metadata["lastUpdatedAt"]
    assert since - 1 <= metadata["createdAt"].timestamp() <= time.time() + 1


def check_changed(kind, before, after):
    """Checks the answer to an update call."""
    assert after["spec"] == kind.changed
    assert after["status"] == {"status": "ACTIVE"}
    assert after["metadata"]["lastUpdatedAt"] >= before["metadata"]["lastUpdatedAt"]
    assert after["metadata"] == {**before["metadata"], "version": 2, "lastUpdatedAt": after["metadata"]["lastUpdatedAt"]}


def check_deleted(kind, before, after):
    """Checks the answer to a delete call: a mesh keeps its version, all others count one on."""
    version = before["metadata"]["version"] + (0 if kind is MESH else 1)
    assert after["status"] == {"status": "DELETED"}
    assert after["spec"] == before["spec"]
    assert after["metadata"]["lastUpdatedAt"] >= before["metadata"]["lastUpdatedAt"]
    assert after["metadata"] == {**before["metadata"], "version": version, "lastUpdatedAt": after["metadata"]["lastUpdatedAt"]}


@pytest.mark.parametrize("kind", KINDS)
def test_boto3(client, mesh, kind):
    names, since = own_names(kind, mesh), time.time()
    made = [kind.call(client, "create", **kind.at(mesh, n), spec=kind.spec, tags=TAGS) for n in names]
    for name, data in zip(names, made, strict=True):
        check_new(kind, mesh, name, data, since)
        assert kind.call(client, "describe", **kind.at(mesh, name)) == data
        assert client.list_tags_for_resource(resourceArn=data["metadata"]["arn"])["tags"] == TAGS

    pages = kind.pages(client, mesh, 1)
    assert [len(p) for p in pages] == [1] * len(pages)
    listed = [p[0] for p in pages]
    assert listed == kind.all(client, mesh)
    if kind is MESH:
        listed = [ref for ref in listed if ref["meshName"] in names]
    else:
        assert sorted(ref[kind.name_member] for ref in listed) == sorted([*names, *kind.furnished])
    assert [ref for ref in listed if ref[kind.name_member] in names] == [expected_ref(kind, data) for data in made]

    first, arn = made[0], made[0]["metadata"]["arn"]
    changed = kind.call(client, "update", **kind.at(mesh, names[0]), spec=kind.changed)
    check_changed(kind, first, changed)
    assert kind.call(client, "describe", **kind.at(mesh, names[0])) == changed
    client.tag_resource(resourceArn=arn, tags=[{"key": "new", "value": "1"}, {"key": "team", "value": "green"}])
    client.untag_resource(resourceArn=arn, tagKeys=["empty", "never-set"])
    assert client.list_tags_for_resource(resourceArn=arn)["tags"] == [{"key": "team", "value": "green"}, {"key": "new", "value": "1"}]
    assert kind.call(client, "describe", **kind.at(mesh, names[0])) == changed, "tags are no part of the object"

    for name, data in zip(names, [changed, *made[1:]], strict=True):
        check_deleted(kind, data, kind.call(client, "delete", **kind.at(mesh, name)))
    check_gone(client, mesh, kind, names[0], arn)
    again = kind.call(client, "create", **kind.at(mesh, names[0]), spec=kind.spec)
    check_new(kind, mesh, names[0], again, since)
    assert again["metadata"]["uid"] != first["metadata"]["uid"]
    assert client.list_tags_for_resource(resourceArn=arn)["tags"] == []


def check_gone(client, mesh, kind, name, arn):
    """Checks that nothing is left of a deleted object."""
    for verb, more in {"describe": {}, "delete": {}, "update": {"spec": kind.spec}}.items():
        assert refused(kind.call, client, verb, **kind.at(mesh, name), **more) == "NotFoundException"
    assert refused(client.list_tags_for_resource, resourceArn=arn) == "NotFoundException"
    assert refused(client.tag_resource, resourceArn=arn, tags=TAGS) == "NotFoundException"
    assert refused(client.untag_resource, resourceArn=arn, tagKeys=["team"]) == "NotFoundException"
    assert name not in [ref[kind.name_member] for ref in kind.all(client, mesh)]


@pytest.mark.parametrize("kind", KINDS)
def test_cli(client, cli, mesh, kind):
    aws = cli.process if kind is ROUTE else cli.call
    names = own_names(kind, mesh)
    at, arn = kind.flags(mesh, names[0]), kind.arn(mesh, names[0], ACCOUNT, REGION)
    for other in names[1:]:
        kind.call(client, "create", **kind.at(mesh, other), spec=kind.spec)

    made = aws(f"create-{kind.dashed}", *at, "--spec", compact(kind.spec), "--tags", "key=team,value=blue", "key=empty,value=").json()
    data = made[kind.member]
    assert data["spec"] == kind.spec
    assert data["metadata"]["arn"] == arn
    assert all(isinstance(data["metadata"][t], (int, float)) for t in ("createdAt", "lastUpdatedAt"))
    assert aws(f"describe-{kind.dashed}", *at).json() == made

    listed = aws(f"list-{kind.plural[0].replace('_', '-')}", *kind.flags(mesh), "--page-size", "1").json()[kind.plural[1]]
    assert [ref[kind.name_member] for ref in listed] == [ref[kind.name_member] for ref in kind.all(client, mesh)]
    assert expected_ref(kind, data) in listed

    changed = aws(f"update-{kind.dashed}", *at, "--spec", compact(kind.changed)).json()[kind.member]
    check_changed(kind, data, changed)
    assert aws("tag-resource", "--resource-arn", arn, "--tags", "key=new,value=1", "key=team,value=green").json() is None
    assert aws("untag-resource", "--resource-arn", arn, "--tag-keys", "empty").json() is None
    assert aws("list-tags-for-resource", "--resource-arn", arn, "--page-size", "1").json() == {
        "tags": [{"key": "team", "value": "green"}, {"key": "new", "value": "1"}]
    }

    check_deleted(kind, changed, aws(f"delete-{kind.dashed}", *at).json()[kind.member])
    assert cli.call(f"describe-{kind.dashed}", *at).error() == "NotFoundException"
    assert cli.call("list-tags-for-resource", "--resource-arn", arn).error() == "NotFoundException"


def test_furnished_mesh_comes_apart(client, mesh):
    """All that furnish makes can be deleted again, children first."""
    client.delete_virtual_service(meshName=mesh, virtualServiceName=kinds.SERVICE)
    client.delete_virtual_service(meshName=mesh, virtualServiceName=kinds.OTHER)
    client.delete_virtual_gateway(meshName=mesh, virtualGatewayName=kinds.GATEWAY)
    client.delete_virtual_router(meshName=mesh, virtualRouterName=kinds.ROUTER)
    for name in (kinds.BLUE, kinds.GREEN):
        client.delete_virtual_node(meshName=mesh, virtualNodeName=name)
    assert bare(client.delete_mesh(meshName=mesh))["status"] == {"status": "DELETED"}
    assert refused(client.describe_mesh, meshName=mesh) == "NotFoundException"
    assert refused(client.list_virtual_nodes, meshName=mesh) == "NotFoundException"


def test_three_variables_are_enough(server, cli):
    """What scripts rely on: endpoint, credentials file and region point any AWS client here."""
    assert "meshes" in cli.process("list-meshes", without=["AWS_DEFAULT_REGION", "AWS_EC2_METADATA_DISABLED"]).json()
