"""What was answered stays, however the control plane ends."""

import concurrent.futures
import json
import signal
import threading

import botocore.exceptions
import pytest

from kinds import GATEWAY, GATEWAY_ROUTE, MESH, NODE, ROUTE, ROUTER, SERVICE, furnish, node, photograph, unique

CREATES, THREADS = 500, 8
KILLED_AFTER = (100, 250)  # answers, in the first and in the second run


class Creates:
    """Creates of virtual nodes by several threads, each with a client token of its own."""

    def __init__(self, mesh):
        self.mesh = mesh
        self.answered = {}  # by name: the object in the answer
        self.sent = set()
        self.lock = threading.Lock()

    def create(self, client, name):
        """Creates one and notes the answer."""
        self.sent.add(name)
        made = client.create_virtual_node(meshName=self.mesh, virtualNodeName=name, spec=node(f"{name}.local"), clientToken=f"token-{name}")
        with self.lock:
            self.answered[name] = made["virtualNode"]

    def run(self, client, enough=None):
        """Creates what is not answered yet, until that is done or the server does not answer; calls enough() after each."""
        todo = iter([n for n in (f"n{i:03}" for i in range(CREATES)) if n not in self.answered])

        def work():
            while True:
                with self.lock:
                    name = next(todo, None)
                if name is None:
                    return
                try:
                    self.create(client, name)
                except (botocore.exceptions.BotoCoreError, json.JSONDecodeError):
                    return  # no answer, or half of one: the server is gone. A refusal is a ClientError, which is neither
                if enough is not None:
                    enough(len(self.answered))

        with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
            for thread in [pool.submit(work) for _ in range(THREADS)]:
                thread.result()


def test_killed_during_creates(servers):
    server = servers().start()
    creates = Creates(unique())
    server.client().create_mesh(meshName=creates.mesh)
    credentials = (server.data / "credentials").read_bytes()
    seen = {}
    for many in KILLED_AFTER:
        creates.run(server.client(), lambda n, many=many: n >= many and server.process.kill())
        assert server.process.wait(30) == -signal.SIGKILL
        answered = dict(creates.answered)
        assert 0 < many <= len(answered) < CREATES, "the server was to be killed half-way"

        server.start()
        assert (server.data / "credentials").read_bytes() == credentials
        client = server.client()
        pages = NODE.pages(client, creates.mesh, 7)
        listed = {ref["virtualNodeName"]: ref for page in pages for ref in page}
        assert len(listed) == sum(len(page) for page in pages)
        assert answered.keys() - listed.keys() == set(), "answered, and lost"
        assert listed.keys() - creates.sent == set()
        for name, made in answered.items():
            assert NODE.call(client, "describe", meshName=creates.mesh, virtualNodeName=name) == made
        # What was written but not answered is there whole, and stays as it is when its creator tries again.
        seen.update({n: NODE.call(client, "describe", meshName=creates.mesh, virtualNodeName=n) for n in listed})

    creates.run(server.client())
    assert len(creates.answered) == CREATES
    assert {n: creates.answered[n] for n in seen} == seen
    assert len(NODE.all(server.client(), creates.mesh)) == CREATES
    assert server.stop() == 0


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_all_is_there_after_a_restart(servers, end):
    server = servers().start()
    client, mesh = server.client(), unique()
    furnish(client, mesh)
    client.create_route(
        meshName=mesh,
        virtualRouterName=ROUTER,
        routeName="r",
        spec=ROUTE.spec,
        tags=[{"key": "z", "value": "1"}, {"key": "a", "value": ""}],
    )
    client.create_gateway_route(meshName=mesh, virtualGatewayName=GATEWAY, gatewayRouteName="g", spec=GATEWAY_ROUTE.spec)
    client.update_route(meshName=mesh, virtualRouterName=ROUTER, routeName="r", spec=ROUTE.changed, clientToken="update")
    client.tag_resource(resourceArn=MESH.arn(mesh, mesh, "000000000001", "us-east-1"), tags=[{"key": "k", "value": "v"}])
    client.create_virtual_node(meshName=mesh, virtualNodeName="gone", spec={})
    client.delete_virtual_node(meshName=mesh, virtualNodeName="gone")
    before, credentials = photograph(client, mesh), server.keys()
    token = client.list_virtual_nodes(meshName=mesh, limit=1)["nextToken"]

    if end == "stop":
        assert server.stop() == 0
    else:
        server.kill()
    client = server.start().client()

    assert server.keys() == credentials
    assert photograph(client, mesh) == before
    assert [ref["virtualNodeName"] for ref in client.list_virtual_nodes(meshName=mesh, nextToken=token)["virtualNodes"]] == ["green"]
    again = client.update_route(meshName=mesh, virtualRouterName=ROUTER, routeName="r", spec=ROUTE.changed, clientToken="update")["route"]
    assert again["metadata"]["version"] == 2, "client tokens are remembered"
    with pytest.raises(client.exceptions.ResourceInUseException):
        client.delete_virtual_service(meshName=mesh, virtualServiceName=SERVICE)
    assert ROUTE.call(client, "delete", **ROUTE.at(mesh, "r"))["metadata"]["version"] == 3
