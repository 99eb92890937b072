"""What the tests have in common: a clean environment, one control plane for most of them, clients."""

import os
import re
import tempfile

import pytest

pytest.register_assert_rewrite("etcd", "guide", "harness", "kinds", "operations", "provoke", "recorded", "sdks", "wire")

import harness  # noqa: E402
import kinds  # noqa: E402
import provoke  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def clean_environment(tmp_path_factory):
    """Takes out of the environment what would lead the clients elsewhere."""
    disturbing = re.compile(r"(AWS|BOTO|FAIRLEAD)_.*|.*_CA_BUNDLE|(HTTP|HTTPS|ALL)_PROXY", re.IGNORECASE)
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if disturbing.fullmatch(n)]:
            patch.delenv(name)
        patch.setenv("HOME", str(home))
        patch.setenv("AWS_CONFIG_FILE", str(home / "config"))
        yield


@pytest.fixture(scope="session")
def servers(clean_environment):
    """Makes control planes, not started yet. In the end it ends them, and checks what they logged."""
    with tempfile.TemporaryDirectory(prefix="fairlead-clients-") as directory:
        made = []

        def make(**how):
            made.append(harness.Server(tempfile.mkdtemp(dir=directory), **how))
            return made[-1]

        yield make
        for server in made:
            server.close()
        for server in made:
            log = server.log()
            failed = [line for line in log.splitlines() if "level=ERROR" in line or line.startswith(("panic:", "fatal error:"))]
            failed = [line for line in failed if not server.errors or not re.search(server.errors, line)]
            assert not failed, "the server's log speaks of errors"
            assert server.keys()[1] not in log, "the secret access key is in the server's log"


@pytest.fixture(scope="session")
def server(servers):
    """The control plane that most tests share."""
    return servers().start()


@pytest.fixture(scope="session")
def client(server):
    """boto3, as the administrator."""
    return server.client()


@pytest.fixture(scope="session")
def cli(server):
    """The AWS CLI, as the administrator."""
    with server.cli() as cli:
        yield cli


@pytest.fixture
def mesh(client):
    """The name of a furnished mesh that no other test uses."""
    return kinds.furnish(client, kinds.unique())


def pytest_make_parametrize_id(val):
    """Lets tests be named after their kinds."""
    return str(val) if isinstance(val, kinds.Kind) else None


@pytest.fixture(scope="session")
def provoked(servers, server, tmp_path_factory):
    """Calls that end with the errors that no caller can bring about alone, as settings for a client."""
    yield from provoke.everything(servers, server, tmp_path_factory.mktemp)
