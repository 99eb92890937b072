"""What docs/guide tells people to type is typed here."""

import json
import re
import sys

import pytest
import yaml

import cloudmap
import guide
from harness import BINARY, ROOT


def test_aws_cli(servers, tmp_path):
    server = servers().start()
    env = guide.home(server, tmp_path)
    with guide.aws(server, tmp_path) as folder:
        printed = guide.shell("aws-cli", server, tmp_path, {**env, "PATH": f"{folder}:{env['PATH']}"})
    # The answers to the update and the two lists; after them come those to the deletes.
    assert re.search(r"^2\nblue\tgreen\n\{\n    \"tags\"", printed, re.MULTILINE), printed
    assert printed.count('"DELETED"') == 6
    profile = guide.run([sys.executable, "-m", "awscli", "--profile", "fairlead", "appmesh", "list-meshes"], tmp_path, env)
    assert json.loads(profile) == {"meshes": []}


def test_cloud_map(servers, tmp_path):
    server = servers().start()
    env = guide.home(server, tmp_path)
    with guide.aws(server, tmp_path) as folder:
        printed = guide.shell("cloud-map", server, tmp_path, {**env, "PATH": f"{folder}:{env['PATH']}"})
    assert printed == "10.0.0.2\ncart-2\tcart-3\n"
    (code,) = guide.blocks("cloud-map", "python")
    client, _ = cloudmap.client(server)
    client.create_http_namespace(Name="left")
    env = {**env, "AWS_SHARED_CREDENTIALS_FILE": str(server.data / "credentials")}
    assert guide.run([sys.executable, "-c", code.replace(guide.ADDRESS, server.endpoint)], tmp_path, env) == "left 0\n"


@pytest.fixture(scope="module")
def fresh(servers):
    """A control plane for the programs alone."""
    return servers().start()


PROGRAMS = [(language, i) for language, count in (("python", 1), ("go", 2), ("java", 1), ("js", 1)) for i in range(count)]


@pytest.mark.parametrize(("language", "i"), PROGRAMS)
def test_sdks(fresh, tmp_path, language, i):
    code = guide.blocks("sdks", language)
    assert len(code) == sum(one == language for one, _ in PROGRAMS)
    command, folder = guide.program(language, code[i].replace(guide.ADDRESS, fresh.endpoint), tmp_path)
    env = guide.exported("sdks", fresh, tmp_path, guide.home(fresh, tmp_path))
    # The second run, and every other program, finds the mesh that the first has made.
    for _ in range(2):
        assert guide.run(command, folder, env) == "shop arn:aws:appmesh:us-east-1:000000000001:mesh/shop\n"


@pytest.mark.parametrize("page", guide.pages())
def test_form(page):
    """Documents in the pages can be read, links lead somewhere, and the server has the flags that it is started with."""
    for block in guide.blocks(page, "yaml"):
        assert list(yaml.safe_load_all(block))
    for block in guide.blocks(page, "json"):
        assert json.loads(block)
    for link in re.findall(r"\]\(([^)#:]+)\)", guide.text(page)):
        assert (ROOT / "docs" / "guide" / link).exists(), link
    known = guide.run([BINARY, "server", "--help"], ROOT, {})
    for command in re.findall(r"\bfairlead server((?:[^\n`]|\\\n)*)", guide.text(page)):
        for flag in re.findall(r"--[a-z][a-z-]+", command):
            assert f"{flag} " in known, f"{flag} is no flag of fairlead server"
