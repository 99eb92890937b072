"""The Cloud Map API with boto3 and the AWS CLI, unchanged: each operation, each error as the client's own type, pages, repeated requests."""

import json
import os
import re
import time
import unittest.mock

import boto3
import botocore.exceptions
import pytest

import cloudmap
import kinds
import provoke
import wire
from etcd import Etcd
from harness import ACCOUNT, REGION, until


@pytest.fixture(scope="module")
def own(servers):
    """A control plane for this file alone."""
    return servers().start()


@pytest.fixture
def sd(own):
    """boto3, as the administrator."""
    return cloudmap.client(own)[0]


def namespace(sd, name=None):
    """A new HTTP namespace's id."""
    operation = sd.create_http_namespace(Name=name or kinds.unique("ns"))["OperationId"]
    return sd.get_operation(OperationId=operation)["Operation"]["Targets"]["NAMESPACE"]


def service(sd, **how):
    """A new service in a new namespace: the namespace's name, and the service's id."""
    name = kinds.unique("ns")
    made = sd.create_service(Name="cart", NamespaceId=namespace(sd, name), **how)
    return name, made["Service"]["Id"]


CUSTOM = {"HealthCheckCustomConfig": {"FailureThreshold": 1}}
DNS = {"DnsRecords": [{"Type": "A", "TTL": 10}]}


def test_every_operation(own):
    sd, called = cloudmap.client(own)
    name = kinds.unique("ns")
    http = namespace(sd, name)
    private = sd.create_private_dns_namespace(Name=f"{name}.local", Vpc="vpc-1", Properties={"DnsProperties": {"SOA": {"TTL": 60}}})
    private = sd.get_operation(OperationId=private["OperationId"])["Operation"]
    assert (private["Status"], private["Type"], private["OwnerAccount"]) == ("SUCCESS", "CREATE_NAMESPACE", ACCOUNT)
    assert abs(private["CreateDate"].timestamp() - time.time()) < 600
    assert private["CreateDate"] == private["UpdateDate"]
    private = private["Targets"]["NAMESPACE"]
    with pytest.raises(sd.exceptions.InvalidInput):
        sd.create_public_dns_namespace(Name="example.com")
    with pytest.raises(sd.exceptions.InvalidInput):
        sd.update_public_dns_namespace(Id=private, Namespace={"Description": "x"})
    found = sd.get_namespace(Id=private)["Namespace"]
    assert found["Properties"] == {"DnsProperties": {"SOA": {"TTL": 60}}, "HttpProperties": {"HttpName": f"{name}.local"}}
    assert found["Arn"] == f"arn:aws:servicediscovery:{REGION}:{ACCOUNT}:namespace/{private}"
    sd.update_http_namespace(Id=http, Namespace={"Description": "new"})
    sd.update_private_dns_namespace(Id=private, Namespace={"Properties": {"DnsProperties": {"SOA": {"TTL": 30}}}})
    for kind, want in (("HTTP", [http]), ("DNS_PRIVATE", [private])):
        filters = [{"Name": "TYPE", "Values": [kind]}, {"Name": "NAME", "Values": [name], "Condition": "BEGINS_WITH"}]
        assert [n["Id"] for n in sd.list_namespaces(Filters=filters)["Namespaces"]] == want
    dns = sd.create_service(Name="dns", NamespaceId=private, DnsConfig=DNS)["Service"]
    assert (dns["Type"], dns["DnsConfig"]) == ("DNS_HTTP", {"RoutingPolicy": "MULTIVALUE", **DNS})
    cart = sd.create_service(Name="cart", NamespaceId=http, Description="d", Tags=[{"Key": "a", "Value": "b"}], **CUSTOM)["Service"]
    sd.update_service(Id=cart["Id"], Service={"Description": "e"})
    assert sd.get_service(Id=cart["Arn"])["Service"] == {**cart, "Description": "e"}
    assert [s["Id"] for s in sd.list_services(Filters=[{"Name": "NAMESPACE_ID", "Values": [http]}])["Services"]] == [cart["Id"]]
    sd.update_service_attributes(ServiceId=cart["Id"], Attributes={"k": "v", "l": "w"})
    sd.delete_service_attributes(ServiceId=cart["Id"], Attributes=["k"])
    assert sd.get_service_attributes(ServiceId=cart["Id"])["ServiceAttributes"]["Attributes"] == {"l": "w"}
    attributes = {"AWS_INSTANCE_IPV4": "10.0.0.1", "AWS_INSTANCE_PORT": "80", "colour": "blue"}
    before = sd.discover_instances_revision(NamespaceName=name, ServiceName="cart")["InstancesRevision"]
    sd.register_instance(ServiceId=cart["Id"], InstanceId="i", Attributes=attributes)
    assert sd.discover_instances_revision(NamespaceName=name, ServiceName="cart")["InstancesRevision"] > before
    assert sd.get_instance(ServiceId=cart["Id"], InstanceId="i")["Instance"]["Attributes"] == attributes
    listed = sd.list_instances(ServiceId=cart["Id"])
    assert listed["Instances"] == [{"Id": "i", "Attributes": attributes, "CreatedByAccount": ACCOUNT}]
    sd.update_instance_custom_health_status(ServiceId=cart["Id"], InstanceId="i", Status="UNHEALTHY")
    assert sd.get_instances_health_status(ServiceId=cart["Id"])["Status"] == {"i": "UNHEALTHY"}
    assert sd.discover_instances(NamespaceName=name, ServiceName="cart", HealthStatus="HEALTHY")["Instances"] == []
    (one,) = sd.discover_instances(NamespaceName=name, ServiceName="cart", QueryParameters={"colour": "blue"})["Instances"]
    assert one == {"InstanceId": "i", "NamespaceName": name, "ServiceName": "cart", "HealthStatus": "UNHEALTHY", "Attributes": attributes}
    sd.tag_resource(ResourceARN=cart["Arn"], Tags=[{"Key": "c", "Value": "d"}])
    sd.untag_resource(ResourceARN=cart["Arn"], TagKeys=["a"])
    assert sd.list_tags_for_resource(ResourceARN=cart["Arn"])["Tags"] == [{"Key": "c", "Value": "d"}]
    operation = sd.deregister_instance(ServiceId=cart["Id"], InstanceId="i")["OperationId"]
    assert sd.get_operation(OperationId=operation)["Operation"]["Targets"] == {"INSTANCE": "i", "SERVICE": cart["Id"]}
    filters = [{"Name": "SERVICE_ID", "Values": [cart["Id"]]}]
    assert len(sd.list_operations(Filters=filters)["Operations"]) == 3
    for made in (cart, dns):
        sd.delete_service(Id=made["Id"])
    for made in (http, private):
        sd.delete_namespace(Id=made)
    assert called == set(sd.meta.service_model.operation_names)


def test_every_error(own):
    sd, _ = cloudmap.client(own)
    name, plain = service(sd)
    _, custom = service(sd, **CUSTOM)
    sd.register_instance(ServiceId=plain, InstanceId="i", Attributes={}, CreatorRequestId="token")
    arn = sd.get_service(Id=plain)["Service"]["Arn"]
    inside = sd.get_service(Id=plain)["Service"]["NamespaceId"]
    number, keys = provoke.account(own, kinds.unique("throttled"))
    provoke.manage(own, f"quotas/read-rate?accountId={number}", {"value": 1})
    slow, _ = cloudmap.client(own, aws_access_key_id=keys[0], aws_secret_access_key=keys[1])
    many = [{"Key": str(i), "Value": ""} for i in range(51)]

    def exhaust():
        with pytest.raises(slow.exceptions.NamespaceNotFound):
            slow.discover_instances(NamespaceName="none", ServiceName="none")
        for _ in range(200):
            try:
                slow.discover_instances(NamespaceName="none", ServiceName="none")
            except slow.exceptions.NamespaceNotFound:
                pass

    def full():
        for i in range(1001):
            sd.register_instance(ServiceId=custom, InstanceId=str(i), Attributes={})

    met = {}
    for code, call, members in (
        ("InvalidInput", lambda: sd.create_http_namespace(Name="arn:x"), {}),
        ("NamespaceAlreadyExists", lambda: sd.create_http_namespace(Name=name), {"NamespaceId": inside}),
        ("NamespaceNotFound", lambda: sd.get_namespace(Id="ns-none"), {}),
        ("ServiceNotFound", lambda: sd.get_service(Id="srv-none"), {}),
        ("ServiceAlreadyExists", lambda: sd.create_service(Name="cart", NamespaceId=inside), {"ServiceId": plain, "ServiceArn": arn}),
        ("InstanceNotFound", lambda: sd.get_instance(ServiceId=plain, InstanceId="none"), {}),
        ("OperationNotFound", lambda: sd.get_operation(OperationId="none"), {}),
        ("ResourceInUse", lambda: sd.delete_service(Id=plain), {}),
        ("ResourceInUse", lambda: sd.delete_namespace(Id=inside), {}),
        ("DuplicateRequest", lambda: sd.register_instance(ServiceId=plain, InstanceId="j", Attributes={}, CreatorRequestId="token"), None),
        (
            "CustomHealthNotFound",
            lambda: sd.update_instance_custom_health_status(ServiceId=plain, InstanceId="i", Status="HEALTHY"),
            {},
        ),
        ("ResourceNotFoundException", lambda: sd.list_tags_for_resource(ResourceARN=arn + "x"), {}),
        ("TooManyTagsException", lambda: sd.tag_resource(ResourceARN=arn, Tags=many), {"ResourceName": arn}),
        (
            "ServiceAttributesLimitExceededException",
            lambda: [sd.update_service_attributes(ServiceId=plain, Attributes={f"{n}{i}": "" for i in range(30)}) for n in "ab"],
            {},
        ),
        ("RequestLimitExceeded", exhaust, {}),
        ("ResourceLimitExceeded", full, {}),
    ):
        with pytest.raises(botocore.exceptions.ClientError) as caught:
            call()
        answer = caught.value.response
        assert answer["Error"]["Code"] == code, answer
        assert type(caught.value).__name__ == code, "not the client's own type"
        assert answer["Error"]["Message"]
        if members is None:
            assert answer["DuplicateOperationId"]
        else:
            assert {k: answer[k] for k in members} == members
        met[code] = True
    assert set(met) == {shape.name for shape in sd.meta.service_model.error_shapes}


def test_refused_callers(own):
    _, id_ = service(cloudmap.client(own)[0])
    key, secret = provoke.user(own, {})
    nobody, _ = cloudmap.client(own, aws_access_key_id=key, aws_secret_access_key=secret)
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        nobody.get_service(Id=id_)
    assert caught.value.response["Error"]["Code"] == "AccessDeniedException"
    assert "servicediscovery:GetService" in caught.value.response["Error"]["Message"]
    arn = f"arn:aws:servicediscovery:{REGION}:{ACCOUNT}:service/{id_}"
    rule = {"Effect": "Allow", "Action": ["servicediscovery:RegisterInstance", "servicediscovery:DiscoverInstances"], "Resource": arn}
    key, secret = provoke.user(own, {"one": {"Version": "2012-10-17", "Statement": rule}})
    somebody, _ = cloudmap.client(own, aws_access_key_id=key, aws_secret_access_key=secret)
    somebody.register_instance(ServiceId=id_, InstanceId="i", Attributes={})
    with pytest.raises(botocore.exceptions.ClientError):
        somebody.deregister_instance(ServiceId=id_, InstanceId="i")
    wrong, _ = cloudmap.client(own, aws_access_key_id=key, aws_secret_access_key="x" * 40)
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        wrong.list_namespaces()
    assert caught.value.response["Error"]["Code"] == "InvalidSignatureException"
    # A signature for App Mesh is none for Cloud Map, and the other way round.
    header = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "Route53AutoNaming_v20170314.ListNamespaces"}
    answer = wire.send(own, "POST", "/", b"{}", headers=header)
    assert (answer.status, answer.code) == (403, "InvalidSignatureException")
    with unittest.mock.patch.dict(os.environ, {**own.env(), "AWS_ENDPOINT_URL_APP_MESH": own.endpoint}):
        other = boto3.session.Session().client("appmesh")
    other.meta.events.register("choose-signer.appmesh", lambda signing_name, **_: None)
    other._request_signer._signing_name = "servicediscovery"  # noqa: SLF001
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        other.list_meshes()
    assert caught.value.response["Error"]["Code"] == "InvalidSignatureException"


def audited(file):
    """The audit's records, once those are there that the test below brings about."""
    records = [json.loads(line) for line in file.read_text().splitlines() if line.endswith("}")]
    return records if any((r["requestParameters"] or {}).get("Id") == "srv-audited" for r in records) else None


def test_audit(own):
    sd, _ = cloudmap.client(own)
    name, id_ = service(sd)
    sd.register_instance(ServiceId=id_, InstanceId="audited", Attributes={"a": "b"})
    with pytest.raises(sd.exceptions.ServiceNotFound):
        sd.get_service(Id="srv-audited")
    file = own.data / "audit" / "audit.log"
    records = until("the records", 30, lambda: audited(file))
    (made,) = (r for r in records if r["eventName"] == "RegisterInstance" and (r["requestParameters"] or {}).get("InstanceId") == "audited")
    assert made["eventSource"] == "servicediscovery.amazonaws.com"
    assert made["readOnly"] is False
    assert made["responseElements"].keys() == {"OperationId"}
    assert made["resources"][0]["ARN"].endswith(f":service/{id_}")
    (refused,) = (r for r in records if (r["requestParameters"] or {}).get("Id") == "srv-audited")
    assert (refused["errorCode"], refused["readOnly"]) == ("ServiceNotFound", True)
    assert name


def test_pages(sd):
    made = [namespace(sd) for _ in range(5)]
    _, id_ = service(sd)
    for i in range(5):
        sd.register_instance(ServiceId=id_, InstanceId=f"i{i}", Attributes={})

    def ids(operation, key, **how):
        pages = sd.get_paginator(operation).paginate(PaginationConfig={"PageSize": 2}, **how)
        return [item["Id"] for item in pages.build_full_result()[key]]

    assert set(ids("list_namespaces", "Namespaces")) >= set(made)
    assert id_ in ids("list_services", "Services")
    assert ids("list_instances", "Instances", ServiceId=id_) == [f"i{i}" for i in range(5)]
    assert len(ids("list_operations", "Operations", Filters=[{"Name": "SERVICE_ID", "Values": [id_]}])) == 5
    with pytest.raises(sd.exceptions.InvalidInput):
        sd.list_services(NextToken="made-up")


def test_repeated_requests(sd):
    name = kinds.unique("ns")
    first = sd.create_http_namespace(Name=name, CreatorRequestId=name)["OperationId"]
    assert sd.create_http_namespace(Name=name, CreatorRequestId=name)["OperationId"] == first
    id_ = sd.get_operation(OperationId=first)["Operation"]["Targets"]["NAMESPACE"]
    made = sd.create_service(Name="a", NamespaceId=id_, CreatorRequestId="once")["Service"]
    assert sd.create_service(Name="a", NamespaceId=id_, CreatorRequestId="once")["Service"] == made
    register = {"ServiceId": made["Id"], "InstanceId": "i", "Attributes": {"FAIRLEAD_LEASE_SECONDS": "60"}}
    operations = {sd.register_instance(**register)["OperationId"] for _ in range(3)}
    assert len(operations) == 1


def test_restart(servers):
    """What was registered is there after the server was killed, leases too."""
    server = servers().start()
    sd, _ = cloudmap.client(server)
    name, id_ = service(sd, **CUSTOM)
    for lease in ("10", "3600"):
        sd.register_instance(ServiceId=id_, InstanceId=lease, Attributes={"FAIRLEAD_LEASE_SECONDS": lease})
    sd.register_instance(ServiceId=id_, InstanceId="for-ever", Attributes={})
    server.kill()
    server.start()
    sd, _ = cloudmap.client(server)

    def there():
        return sorted(i["InstanceId"] for i in sd.discover_instances(NamespaceName=name, ServiceName="cart")["Instances"])

    assert there() == ["10", "3600", "for-ever"]
    until("the end of the lease", 90, lambda: there() == ["3600", "for-ever"])
    assert "its lease is over" in server.log()
    sd.register_instance(ServiceId=id_, InstanceId="10", Attributes={"FAIRLEAD_LEASE_SECONDS": "10"})
    assert there() == ["10", "3600", "for-ever"]


def test_servers_away(servers, tmp_path):
    """The leases end while no server is there: nobody is taken out for that, but who does not come back within a lease."""
    etcd = Etcd(tmp_path)
    try:
        server = servers(etcd=etcd.address).start()
        sd, _ = cloudmap.client(server)
        name, id_ = service(sd)
        lease = {"FAIRLEAD_LEASE_SECONDS": "10"}
        for instance in ("back", "gone"):
            sd.register_instance(ServiceId=id_, InstanceId=instance, Attributes=lease)
        beats = f"fairlead/record/registry/own/{ACCOUNT}/{REGION}/beat/"
        assert len(etcd.keys(beats)) == 2
        server.kill()
        until("the end of the leases", 120, lambda: not etcd.keys(beats))
        server.start()
        sd, _ = cloudmap.client(server)

        def there():
            return sorted(i["InstanceId"] for i in sd.discover_instances(NamespaceName=name, ServiceName="cart")["Instances"])

        def renewed():
            sd.register_instance(ServiceId=id_, InstanceId="back", Attributes=lease)
            return there() == ["back"]

        assert there() == ["back", "gone"]
        until("the end of who does not come back", 120, renewed)
    finally:
        etcd.stop()


def test_cli(own):
    """The AWS CLI: what people type, and each operation's command."""
    name = kinds.unique("ns")
    with own.cli() as cli:

        def aws(command, *args):
            return cli.work("servicediscovery", command, *args, env=cloudmap.env(own))

        operation = aws("create-http-namespace", "--name", name).json()["OperationId"]
        id_ = aws("get-operation", "--operation-id", operation).json()["Operation"]["Targets"]["NAMESPACE"]
        made = aws("create-service", "--name", "cart", "--namespace-id", id_, "--health-check-custom-config", "FailureThreshold=1").json()["Service"]
        inside = ("--service-id", made["Id"])
        one = (*inside, "--instance-id", "i")
        by_name = ("--namespace-name", name, "--service-name", "cart")
        aws("register-instance", *one, "--attributes", "AWS_INSTANCE_IPV4=10.0.0.1,AWS_INSTANCE_PORT=80").json()
        found = aws("discover-instances", *by_name, "--query-parameters", "AWS_INSTANCE_PORT=80", "--health-status", "HEALTHY").json()
        assert [i["InstanceId"] for i in found["Instances"]] == ["i"]
        assert aws("discover-instances-revision", *by_name).json()["InstancesRevision"] == found["InstancesRevision"]
        assert aws("get-instance", *one).json()["Instance"]["Id"] == "i"
        assert [i["Id"] for i in aws("list-instances", *inside).json()["Instances"]] == ["i"]
        aws("update-instance-custom-health-status", *one, "--status", "UNHEALTHY").json()
        assert aws("get-instances-health-status", *inside).json()["Status"] == {"i": "UNHEALTHY"}
        assert aws("delete-service", "--id", made["Id"]).error() == "ResourceInUse"
        aws("tag-resource", "--resource-arn", made["Arn"], "--tags", "Key=a,Value=b").json()
        assert aws("list-tags-for-resource", "--resource-arn", made["Arn"]).json()["Tags"] == [{"Key": "a", "Value": "b"}]
        aws("untag-resource", "--resource-arn", made["Arn"], "--tag-keys", "a").json()
        assert made["Id"] in [s["Id"] for s in aws("list-services", "--filters", f"Name=NAMESPACE_ID,Values={id_}").json()["Services"]]
        assert [n["Name"] for n in aws("list-namespaces", "--filters", f"Name=NAME,Values={name}").json()["Namespaces"]] == [name]
        assert aws("list-operations").json()["Operations"]
        assert aws("get-service", "--id", made["Id"]).json()["Service"]["InstanceCount"] == 1
        aws("deregister-instance", *one).json()
        assert aws("get-instance", *one).error() == "InstanceNotFound"
        aws("delete-service", "--id", made["Id"]).json()
        aws("delete-namespace", "--id", id_).json()
        missing = aws("get-namespace", "--id", id_)
        assert missing.error() == "NamespaceNotFound"
        assert re.search(rf"there is no namespace with the id {id_}", missing.stderr)
