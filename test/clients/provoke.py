"""Control planes in a state in which they refuse: one without its etcd, one with a damaged document, callers without a right or a quota."""

import json

import kinds
import wire
from etcd import Etcd
from harness import ACCOUNT, REGION

NODE = "node"


def login(server, keys=None):
    """Where a client is pointed at, and who it is."""
    key, secret = keys or server.keys()
    return {"endpoint": server.endpoint, "accessKeyId": key, "secretAccessKey": secret}


def manage(server, path, body):
    """Calls Fairlead's own API, as the administrator."""
    answer = wire.send(server, "PUT", "/v1/" + path, body)
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


def account(server, name):
    """A new account with a furnished mesh: its id, and its administrator's key."""
    made = manage(server, "accounts", {"accountName": name})
    keys = made["credentials"]["accessKeyId"], made["credentials"]["secretAccessKey"]
    furnish(server, *keys)
    return made["account"]["accountId"], keys


def furnish(server, key=None, secret=None):
    """Makes a mesh with one node."""
    client = server.client(aws_access_key_id=key, aws_secret_access_key=secret)
    client.create_mesh(meshName="m")
    client.create_virtual_node(meshName="m", virtualNodeName=NODE, spec={})


def unavailable(servers, directory):
    """A control plane whose etcd is gone."""
    etcd = Etcd(directory)
    try:
        server = servers(etcd=etcd.address).start()
        furnish(server)
    finally:
        etcd.stop()
    return {**login(server), "code": "ServiceUnavailableException", "call": "describe", "mesh": "m", "times": 1}


def damaged(servers, etcd):
    """A control plane with a document that nobody can read."""
    server = servers(etcd=etcd.address, errors="reading a stored object|an object that cannot be read").start()
    furnish(server)
    key = f"fairlead/object/{ACCOUNT}/{REGION}/in/m/virtualNode/{NODE}"
    assert key in etcd.keys("fairlead/object/")
    etcd.put(key, '{"format": 1, "spec": ')
    return {**login(server), "code": "InternalServerErrorException", "call": "describe", "mesh": "m", "times": 1}


def user(server, policies):
    """A new user's key."""
    name = kinds.unique("user")
    manage(server, "users", {"userName": name, "policies": policies})
    made = manage(server, f"users/{name}/accessKeys", {})
    return made["accessKey"]["accessKeyId"], made["secretAccessKey"]


def denied(server):
    """A user who may do nothing."""
    return {**login(server, user(server, {})), "code": "ForbiddenException", "call": "describe", "mesh": "m", "times": 1}


def limited(server):
    """An account that may have no more virtual nodes than it has."""
    number, keys = account(server, kinds.unique("limited"))
    manage(server, f"quotas/virtual-nodes?accountId={number}", {"value": 1})
    return {**login(server, keys), "code": "LimitExceededException", "call": "create", "mesh": "m", "times": 1}


def throttled(server):
    """An account that may write once a second."""
    number, keys = account(server, kinds.unique("throttled"))
    manage(server, f"quotas/write-rate?accountId={number}", {"value": 1})
    return {**login(server, keys), "code": "TooManyRequestsException", "call": "create", "mesh": "m", "times": 50}


def everything(servers, server, directory):
    """All of these: a generator that ends what it started when it is closed."""
    etcd = Etcd(directory("damaged"))
    try:
        yield [
            unavailable(servers, directory("unavailable")),
            damaged(servers, etcd),
            denied(server),
            limited(server),
            throttled(server),
        ]
    finally:
        etcd.stop()
