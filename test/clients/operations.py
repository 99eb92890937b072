"""Each operation, and each error of the model, once with boto3 and once with the AWS CLI: the reports that the programs
for the other SDKs print."""

import concurrent.futures
import re

import boto3
import botocore.config
import botocore.exceptions
import botocore.session

import kinds
import wire
from harness import REGION, Cli, bare
from kinds import BLUE, KINDS, MESH, NODE, compact

TAGS = [{"key": "team", "value": "blue"}]


def dashed(operation):
    """An operation as the CLI spells it."""
    return botocore.xform_name(operation, "-")


class Boto3:
    """boto3, noting what it calls."""

    def __init__(self, login):
        self.called, self.errors, self.checks = set(), {}, 0
        self.client = self.connect(login)

    def connect(self, login):
        """A client for somewhere, as somebody."""
        client = boto3.session.Session().client(
            "appmesh",
            region_name=REGION,
            endpoint_url=login["endpoint"],
            aws_access_key_id=login["accessKeyId"],
            aws_secret_access_key=login["secretAccessKey"],
            config=botocore.config.Config(retries={"total_max_attempts": 1}, read_timeout=60),
        )
        client.meta.events.register("before-call.app-mesh", lambda model, **_: self.called.add(model.name))
        client.meta.events.register("after-call.app-mesh", wire.check_answer)
        return client

    def model(self):
        """The operations that the client has."""
        return sorted(set(self.client.meta.method_to_api_mapping.values()))

    def call(self, operation, login=None, **parameters):
        """Calls an operation; only of a refusal there is no answer, but its code."""
        client = self.connect(login) if login else self.client
        try:
            return getattr(client, botocore.xform_name(operation))(**parameters)
        except botocore.exceptions.ClientError as refusal:
            code = refusal.response["Error"]["Code"]
            assert type(refusal) is getattr(client.exceptions, code), refusal
            assert refusal.response["Error"]["Message"]
            self.errors[code] = type(refusal).__name__
            return None

    def pages(self, operation, **parameters):
        """Reads a list to its end through boto3's own paginator."""
        pages = self.client.get_paginator(botocore.xform_name(operation)).paginate(**parameters, PaginationConfig={"PageSize": 1})
        return pages.build_full_result()


class AwsCli:
    """The AWS CLI, noting what it calls."""

    def __init__(self, cli):
        self.called, self.errors, self.checks = set(), {}, 0
        self.cli = cli

    def model(self):
        """The operations that the CLI has: it names them when it is given another."""
        names = set(re.findall(r"[a-z-]+", self.cli.call("no-such-operation").stderr))
        return sorted(name for name in wire.model().operation_names if dashed(name) in names)

    def run(self, operation, login, *flags, **parameters):
        """Runs a command, never a second time by itself."""
        env = {"AWS_MAX_ATTEMPTS": "1"}
        if login:
            env.update(AWS_ENDPOINT_URL_APP_MESH=login["endpoint"])
            env.update(AWS_ACCESS_KEY_ID=login["accessKeyId"], AWS_SECRET_ACCESS_KEY=login["secretAccessKey"])
        self.called.add(operation)
        args = [f"--{dashed(k)}={v if isinstance(v, str) else compact(v)}" for k, v in parameters.items()]
        return self.cli.call(dashed(operation), *args, *flags, env=env)

    def call(self, operation, login=None, **parameters):
        """Calls an operation; only of a refusal there is no answer, but its code."""
        done = self.run(operation, login, **parameters)
        if done.code == 0:
            return done.json() or {}
        code = done.error()
        self.errors[code] = code
        return None

    def pages(self, operation, **parameters):
        """Reads a list to its end: the CLI does that by itself, here in pages of one."""
        return self.run(operation, None, "--page-size=1", **parameters).json()


def everything(client, mesh):
    """Calls each operation, and meets the errors that need nothing but a furnished mesh."""
    arn = lifecycle(client, mesh)
    check(client, client.call("TagResource", resourceArn=arn, tags=[{"key": "stage", "value": ""}]) is not None)
    check(client, client.pages("ListTagsForResource", resourceArn=arn)["tags"] == [*TAGS, {"key": "stage", "value": ""}])
    check(client, client.call("UntagResource", resourceArn=arn, tagKeys=["stage"]) is not None)
    check(client, client.call("ListTagsForResource", resourceArn=arn)["tags"] == TAGS)
    refusals(client, mesh, arn)
    deletes(client, mesh)


def check(client, held):
    """Counts a check that must hold."""
    client.checks += 1
    assert held


def names(kind):
    """Names for more objects of a kind, so that there are two at least."""
    return ["x"] if kind.furnished else ["x", "y"]


def lifecycle(client, mesh):
    """Makes a furnished mesh and more objects of each kind in it, and returns the mesh's ARN."""
    made = bare_answer(client.call("CreateMesh", meshName=mesh, spec=MESH.spec, tags=TAGS))
    check(client, made["spec"] == MESH.spec)
    check(client, bare_answer(client.call("DescribeMesh", meshName=mesh)) == made)
    check(client, bare_answer(client.call("UpdateMesh", meshName=mesh, spec=MESH.changed))["metadata"]["version"] == 2)
    check(client, mesh in [ref["meshName"] for ref in client.pages("ListMeshes")["meshes"]])
    for kind, name, spec in kinds.FURNITURE:
        check(client, bare_answer(client.call(f"Create{kind.title}", **kind.at(mesh, name), spec=spec))["spec"] == spec)
    for kind in [k for k in KINDS if k is not MESH]:
        for name in names(kind):
            one = bare_answer(client.call(f"Create{kind.title}", **kind.at(mesh, name), spec=kind.spec, tags=TAGS))
            check(client, one["spec"] == kind.spec)
            check(client, bare_answer(client.call(f"Describe{kind.title}", **kind.at(mesh, name))) == one)
        changed = bare_answer(client.call(f"Update{kind.title}", **kind.at(mesh, name), spec=kind.changed))
        check(client, (changed["spec"], changed["metadata"]["version"]) == (kind.changed, 2))
        operation, member = f"List{kind.title}s", kind.plural[1]
        listed = [ref[kind.name_member] for ref in client.pages(operation, **kind.place(mesh))[member]]
        check(client, listed == sorted([*kind.furnished, *names(kind)]))
    return made["metadata"]["arn"]


def bare_answer(answer):
    """The object in an answer."""
    assert answer is not None, "refused"
    return bare(answer)


def refusals(client, mesh, arn):
    """Meets the errors that need nothing but the furnished mesh."""
    client.call("DescribeVirtualNode", **NODE.at(mesh, "nowhere"))
    client.call("CreateVirtualNode", **NODE.at(mesh, BLUE), spec={})
    client.call("DeleteVirtualNode", **NODE.at(mesh, BLUE))
    bad = {"listeners": [{"portMapping": {"port": 65536, "protocol": "bogus"}}]}
    client.call("UpdateVirtualNode", **NODE.at(mesh, BLUE), spec=bad)
    client.call("TagResource", resourceArn=arn, tags=[{"key": f"k{i}", "value": ""} for i in range(50)])
    met = {"NotFoundException", "ConflictException", "ResourceInUseException", "BadRequestException", "TooManyTagsException"}
    check(client, set(client.errors) == met)


def provoke(client, mesh, provoked):
    """Meets the errors that were prepared."""
    for p in provoked:
        before = set(client.errors)
        for i in range(p["times"]):
            if p["call"] == "create":
                client.call("CreateVirtualNode", p, meshName=p["mesh"], virtualNodeName=f"{mesh}-{i}", spec={})
            else:
                client.call("DescribeVirtualNode", p, meshName=p["mesh"], virtualNodeName="node")
            if set(client.errors) - before:
                break
        check(client, set(client.errors) - before == {p["code"]})


def deletes(client, mesh):
    """Removes everything, what refers to something before what it refers to."""
    order = [kinds.GATEWAY_ROUTE, kinds.VIRTUAL_GATEWAY, kinds.VIRTUAL_SERVICE, kinds.ROUTE, kinds.VIRTUAL_ROUTER, NODE]
    for kind in order:
        for name in [*names(kind), *kind.furnished]:
            check(client, bare_answer(client.call(f"Delete{kind.title}", **kind.at(mesh, name)))["status"] == {"status": "DELETED"})
    check(client, bare_answer(client.call("DeleteMesh", meshName=mesh))["status"] == {"status": "DELETED"})


class Background:
    """A report that is made beside the programs. Two clients make it, one of which waits most of the time."""

    def __init__(self, name, server, settings):
        self.clis = [Cli(server) for _ in range(2)] if name == "cli" else []
        self.clients = [AwsCli(cli) for cli in self.clis] or [Boto3(settings) for _ in range(2)]
        self.pool = concurrent.futures.ThreadPoolExecutor(2)
        mesh = settings["mesh"]
        jobs = [(everything, self.clients[0], mesh), (provoke, self.clients[1], mesh, settings["provoked"])]
        self.jobs = [self.pool.submit(*job) for job in jobs]

    def report(self):
        """What was seen, when it is done."""
        for job in self.jobs:
            job.result(150)
        one, other = self.clients
        return {
            "model": one.model(),
            "called": sorted(one.called),
            "errors": {**one.errors, **other.errors},
            "checks": one.checks + other.checks,
        }

    def close(self):
        """Ends what it started."""
        self.pool.shutdown(wait=True, cancel_futures=True)
        for cli in self.clis:
            cli.close()
