"""Instances that are registered in AWS's own Cloud Map, for which moto's server stands in, reach the proxies of meshes here, and leave them."""

import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import unittest.mock
import urllib.error
import urllib.request

import boto3
import botocore.config
import botocore.exceptions
import pytest

import cloudmap
import harness
import kinds
import provoke
import wire
from harness import ACCOUNT, REGION, ROOT, until

AGENT = os.environ.get("FAIRLEAD_AGENT_BIN") or str(ROOT / "bin" / "fairlead-agent")
ENVOY = os.environ.get("ENVOY_PATH") or str(ROOT / ".tools" / "envoy" / "envoy")

ROLE = "arn:aws:iam::111122223333:role/fairlead"

# Bounds on waiting. The poller asks every second, and all instances at least each sixth time.
SECONDS = 60


class Cloud:
    """AWS's Cloud Map and STS."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "test" / "clients" / "standin.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
        )
        self.port = 0
        self.start()

    def _do(self, command):
        print(command, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline().strip()
        assert answer, "the stand-in for AWS has ended"
        return answer

    def start(self):
        """Listens, always at the same address."""
        self.port = int(self._do(f"start {self.port}"))

    def stop(self):
        """Stops listening, and keeps what was registered."""
        assert self._do("stop") == "stopped"

    def close(self):
        self.process.communicate(timeout=harness.STOP_SECONDS)

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    def env(self):
        """The variables of a server that may ask for everything, and may assume roles."""
        return {
            "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL_STS": self.endpoint,
        }

    def client(self, service="servicediscovery", role=None):
        keys = {"aws_access_key_id": "AKIAIOSFODNN7EXAMPLE", "aws_secret_access_key": "any"}
        if role:
            made = self.client("sts").assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
            keys = {
                "aws_access_key_id": made["AccessKeyId"],
                "aws_secret_access_key": made["SecretAccessKey"],
                "aws_session_token": made["SessionToken"],
            }
        config = botocore.config.Config(inject_host_prefix=False)
        return boto3.session.Session(**keys).client(service, endpoint_url=self.endpoint, region_name=REGION, config=config)


class Service:
    """A service of a namespace of its own, in AWS."""

    def __init__(self, client):
        self.client = client
        self.namespace = kinds.unique("ns") + ".local"
        client.create_http_namespace(Name=self.namespace)
        (id_,) = (n["Id"] for n in client.list_namespaces()["Namespaces"] if n["Name"] == self.namespace)
        made = client.create_service(Name="cart", NamespaceId=id_, HealthCheckCustomConfig={"FailureThreshold": 1})
        self.id = made["Service"]["Id"]

    def register(self, *instances, **attributes):
        """Registers instances, named after the last part of their addresses."""
        for i in instances:
            where = {"AWS_INSTANCE_IPV4": f"10.0.0.{i}", "AWS_INSTANCE_PORT": "8080"}
            self.client.register_instance(ServiceId=self.id, InstanceId=f"i-{i}", Attributes={**where, **attributes})

    def deregister(self, *instances):
        for i in instances:
            self.client.deregister_instance(ServiceId=self.id, InstanceId=f"i-{i}")

    def health(self, instance, status):
        self.client.update_instance_custom_health_status(ServiceId=self.id, InstanceId=f"i-{instance}", Status=status)

    def delete(self):
        self.client.delete_service(Id=self.id)


class Mesh:
    """A mesh in which the node front calls the node cart, which Cloud Map discovers; and a proxy of front."""

    def __init__(self, server, service, keys=None):
        self.server, self.service, self.keys = server, service, keys or server.keys()
        self.name = kinds.unique("mesh")
        self.api = server.client(aws_access_key_id=self.keys[0], aws_secret_access_key=self.keys[1])
        self.api.create_mesh(meshName=self.name)
        self._node("cart", serviceDiscovery={"awsCloudMap": {"namespaceName": service.namespace, "serviceName": "cart"}})
        self.api.create_virtual_service(
            meshName=self.name, virtualServiceName="cart.local", spec={"provider": {"virtualNode": {"virtualNodeName": "cart"}}}
        )
        self._node("front", backends=[{"virtualService": {"virtualServiceName": "cart.local"}}])

    def _node(self, name, **spec):
        spec = {"listeners": [{"portMapping": {"port": 8080, "protocol": "http"}}], **spec}
        spec.setdefault("serviceDiscovery", {"dns": {"hostname": f"{name}.local"}})
        self.api.create_virtual_node(meshName=self.name, virtualNodeName=name, spec=spec)

    @contextlib.contextmanager
    def proxy(self):
        """An Envoy of front under fairlead-agent; what is given is its admin interface's address."""
        address = free_address()
        env = {
            **os.environ,
            "APPMESH_RESOURCE_ARN": f"mesh/{self.name}/virtualNode/front",
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": self.keys[0],
            "AWS_SECRET_ACCESS_KEY": self.keys[1],
            "FAIRLEAD_XDS_ENDPOINT": self.server.addresses["xds"],
            "FAIRLEAD_XDS_PLAINTEXT": "1",
            "FAIRLEAD_BIND_ADDRESS": address,
            "ENVOY_PATH": ENVOY,
            "ENVOY_CONCURRENCY": "1",
        }
        agent = subprocess.Popen([AGENT, "run"], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield Proxy(self, agent, f"http://{address}:9901")
        finally:
            agent.send_signal(signal.SIGINT)
            agent.wait(harness.STOP_SECONDS)

    def discovered(self):
        """What DiscoverInstances here says of the service: its instances, those that are unhealthy marked; or an error's code."""
        sd, _ = cloudmap.client(self.server, aws_access_key_id=self.keys[0], aws_secret_access_key=self.keys[1])
        try:
            found = sd.discover_instances(NamespaceName=self.service.namespace, ServiceName="cart", HealthStatus="ALL")
        except botocore.exceptions.ClientError as refused:
            return refused.response["Error"]["Code"]
        return sorted(i["InstanceId"] + ("!" if i["HealthStatus"] == "UNHEALTHY" else "") for i in found["Instances"])

    def configuration(self):
        """What the proxies of front are sent, as Fairlead tells it."""
        answer = wire.send(self.server, "GET", f"/v1/meshes/{self.name}/configuration?resource=virtualNode%2Ffront", None)
        assert answer.status == 200, answer.body
        return json.loads(answer.body)["configuration"]


class Proxy:
    """A running Envoy."""

    def __init__(self, mesh, agent, admin):
        self.mesh, self.agent, self.admin = mesh, agent, admin

    def hosts(self):
        """The last parts of the addresses that Envoy has for the node cart; None before it knows the node."""
        assert self.agent.poll() is None, "the agent has ended"
        try:
            with urllib.request.urlopen(self.admin + "/clusters?format=json", timeout=5) as answer:
                clusters = json.load(answer)["cluster_statuses"]
        except (urllib.error.URLError, OSError):
            return None
        for one in clusters:
            if one["name"] == f"cds_egress_{self.mesh.name}_cart_http_8080":
                sockets = [h["address"]["socket_address"] for h in one.get("host_statuses", [])]
                assert all(s["port_value"] == 8080 for s in sockets)
                return sorted(int(s["address"].rpartition(".")[2]) for s in sockets)
        return None

    def comes_to(self, *hosts):
        """Waits until Envoy has these hosts, and no others."""
        until(f"the hosts {hosts} of {self.mesh.name}", SECONDS, lambda: self.hosts() == sorted(hosts))


def free_address():
    """A loopback address of which nobody uses the admin interface's port."""
    while True:
        address = f"127.{random.randint(100, 199)}.{random.randint(0, 255)}.{random.randint(1, 254)}"
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind((address, 9901))
            return address


@pytest.fixture(scope="module")
def cloud():
    if not os.access(ENVOY, os.X_OK):
        pytest.skip(f"no Envoy at {ENVOY}: tools/fetch.py envoy, or ENVOY_PATH")
    cloud = Cloud()
    yield cloud
    cloud.close()


def flags(cloud, *accounts):
    return ["--cloud-map", ",".join(accounts), "--cloud-map-endpoint", cloud.endpoint, "--cloud-map-interval", "1s"]


def start(server, cloud):
    """Starts a server with the variables of AWS."""
    with unittest.mock.patch.dict(os.environ, cloud.env()):
        return server.start()


@pytest.fixture(scope="module")
def own(servers, cloud):
    """A control plane that asks one Cloud Map."""
    server = start(servers(flags=flags(cloud, ACCOUNT)), cloud)
    yield server
    server.close()


def figures(server, name):
    """The values of a metric, by its labels."""
    with urllib.request.urlopen(f"http://{server.addresses['ops']}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    return {labels: float(value) for labels, value in re.findall(rf"^{name}{{(.*)}} (\S+)$", text, re.MULTILINE)}


def test_instances_come_and_go(own, cloud):
    service = Service(cloud.client())
    service.register(1, 2, AVAILABILITY_ZONE="us-east-1a", version="v1")
    mesh = Mesh(own, service)
    assert mesh.discovered() == "NamespaceNotFound", "nobody needs it yet, so nobody asks"
    with mesh.proxy() as proxy:
        proxy.comes_to(1, 2)
        assert mesh.discovered() == ["i-1", "i-2"]
        sd, _ = cloudmap.client(own)
        (one,) = sd.discover_instances(NamespaceName=service.namespace, ServiceName="cart", QueryParameters={"AWS_INSTANCE_IPV4": "10.0.0.2"})["Instances"]
        assert one["Attributes"] == {
            "AWS_INSTANCE_IPV4": "10.0.0.2",
            "AWS_INSTANCE_PORT": "8080",
            "AVAILABILITY_ZONE": "us-east-1a",
            "version": "v1",
        }
        told = mesh.configuration()
        assert "10.0.0.1" in json.dumps(told["resources"])
        assert not told["problems"]
        service.register(3)
        proxy.comes_to(1, 2, 3)
        service.deregister(1)
        proxy.comes_to(2, 3)
        # The revision does not change with health.
        service.health(2, "UNHEALTHY")
        proxy.comes_to(3)
        assert mesh.discovered() == ["i-2!", "i-3"]
        service.health(2, "HEALTHY")
        proxy.comes_to(2, 3)
        asked = figures(own, "fairlead_cloud_map_requests_total")
        looks = asked[f'account="{ACCOUNT}",operation="DiscoverInstancesRevision"']
        assert looks > asked[f'account="{ACCOUNT}",operation="DiscoverInstances"'] > 0
        assert figures(own, "fairlead_cloud_map_services") == {f'account="{ACCOUNT}"': 1}
    until("nobody to need it any more", SECONDS, lambda: figures(own, "fairlead_cloud_map_services") == {f'account="{ACCOUNT}"': 0})
    assert "level=WARN msg=AWS" not in own.log()
    assert cloud.env()["AWS_SECRET_ACCESS_KEY"] not in re.findall(r"\S+", own.log())


def test_all_instances_go(own, cloud):
    """That is believed when it is said a second time. A service that is deleted does not exist here any more either."""
    service = Service(cloud.client())
    service.register(1, 2)
    mesh = Mesh(own, service)
    with mesh.proxy() as proxy:
        proxy.comes_to(1, 2)
        service.deregister(1, 2)
        proxy.comes_to()
        said = [line for line in own.log().splitlines() if "it is asked once more" in line and service.namespace in line]
        assert len(said) == 1
        assert mesh.discovered() == []
        assert not mesh.configuration()["problems"]
        service.register(4)
        proxy.comes_to(4)
        service.delete()
        proxy.comes_to()
        assert mesh.discovered() == "NamespaceNotFound"
        (problem,) = mesh.configuration()["problems"]
        assert service.namespace in problem["message"]


def test_two_accounts(servers, cloud):
    """The second by a role, with which alone its instances are seen. Both have a service of the same name."""
    server = servers().start()
    number, keys = provoke.account(server, kinds.unique("second"))
    server.stop()
    server.flags = flags(cloud, ACCOUNT, f"{number}={ROLE}")
    start(server, cloud)
    first, second = Service(cloud.client()), Service(cloud.client(role=ROLE))
    first.register(1)
    second.register(2)
    with Mesh(server, first).proxy() as one, Mesh(server, second, keys).proxy() as two:
        one.comes_to(1)
        two.comes_to(2)
        # Each asks its own account only.
        hidden = Mesh(server, second)
        with hidden.proxy() as three:
            three.comes_to()
            until("the problem", SECONDS, lambda: hidden.configuration()["problems"])
            assert hidden.discovered() == "NamespaceNotFound"
        first.register(3)
        one.comes_to(1, 3)
        assert two.hosts() == [2]
    server.close()


def test_cloud_map_away(servers, cloud):
    """The last answer holds, also over a restart, until there is another; without --cloud-map it does not count."""
    server = start(servers(flags=flags(cloud, ACCOUNT)), cloud)
    service = Service(cloud.client())
    service.register(1, 2)
    mesh = Mesh(server, service)
    failures = f'account="{ACCOUNT}",in="asking"'
    with mesh.proxy() as proxy:
        proxy.comes_to(1, 2)
        cloud.stop()
        try:
            until("three failures", SECONDS, lambda: figures(server, "fairlead_cloud_map_failures_total")[failures] >= 3)
            assert proxy.hosts() == [1, 2]
            assert server.log().count("AWS Cloud Map cannot be asked") == 1
            server.kill()
            start(server, cloud)
            with mesh.proxy() as later:
                later.comes_to(1, 2)
                until("a failure", SECONDS, lambda: figures(server, "fairlead_cloud_map_failures_total")[failures] >= 1)
                assert later.hosts() == [1, 2]
                assert figures(server, "fairlead_cloud_map_oldest_answer_seconds")[f'account="{ACCOUNT}"'] > 0
        finally:
            cloud.start()
        service.deregister(1)
        service.register(3)
        with mesh.proxy() as later:
            later.comes_to(2, 3)
            until("a line that says so", SECONDS, lambda: "AWS Cloud Map answers again" in server.log())
    assert server.stop() == 0
    server.flags = []
    start(server, cloud)
    assert mesh.discovered() == "NamespaceNotFound"
    server.flags = flags(cloud, ACCOUNT)
    assert server.stop() == 0
    start(server, cloud)
    assert mesh.discovered() == ["i-2", "i-3"]
    server.close()
