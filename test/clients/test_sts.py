"""AWS's clients without a key: they fetch credentials of a role themselves, with a token of OpenID Connect, from the STS API
that Fairlead serves beside App Mesh's. All that they are told is in the variables that Kubernetes on AWS sets for a pod, and where the two APIs are."""

import base64
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import time
import unittest.mock

import boto3
import botocore.config
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

import kinds
import provoke
import sdks
from harness import ACCOUNT, CLI_SECONDS, REGION, Result, refused

ISSUER = "https://kubernetes.default.svc.cluster.local"
SUBJECT, AUDIENCE = "system:serviceaccount:shop:cart", "fairlead"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/"


def encoded(raw):
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class Issuer:
    """An issuer of tokens, whose keys are handed to the server."""

    def __init__(self):
        self.key = ec.generate_private_key(ec.SECP256R1())

    def keys(self):
        public = self.key.public_key().public_numbers()
        x, y = (encoded(n.to_bytes(32, "big")) for n in (public.x, public.y))
        return {"keys": [{"kty": "EC", "crv": "P-256", "kid": "1", "use": "sig", "alg": "ES256", "x": x, "y": y}]}

    def token(self, **change):
        now = int(time.time())
        claims = {"iss": ISSUER, "sub": SUBJECT, "aud": [AUDIENCE], "iat": now, "exp": now + 3600, **change}
        text = ".".join(encoded(json.dumps(part).encode()) for part in ({"alg": "ES256", "kid": "1"}, claims))
        r, s = utils.decode_dss_signature(self.key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        return text + "." + encoded(r.to_bytes(32, "big") + s.to_bytes(32, "big"))


@dataclasses.dataclass
class Workload:
    """A process that has a token, and nothing else that proves who it is."""

    server: object
    issuer: Issuer
    mesh: str
    folder: pathlib.Path

    def env(self, role="reader", token=None):
        """Its variables."""
        file = self.folder / "token"
        file.write_text(token or self.issuer.token())
        return {
            "AWS_ENDPOINT_URL_APP_MESH": self.server.endpoint,
            "AWS_ENDPOINT_URL_STS": self.server.endpoint,
            "AWS_ROLE_ARN": ROLE + role,
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(file),
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            # Not those of whoever runs the tests.
            "AWS_SHARED_CREDENTIALS_FILE": str(self.folder / "none"),
        }

    def cli(self, *args, **env):
        """Runs a command of the AWS CLI."""
        done = subprocess.run(
            [sys.executable, "-m", "awscli", *args],
            env={**os.environ, **self.env(**env)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=CLI_SECONDS,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def client(self, service, **env):
        """A client of boto3 that is told nothing but by variables."""
        with unittest.mock.patch.dict(os.environ, self.env(**env)):
            return boto3.session.Session().client(service, config=botocore.config.Config(retries={"total_max_attempts": 1}))


@pytest.fixture(scope="module")
def workload(server, tmp_path_factory):
    issuer = Issuer()
    provoke.manage(server, "identityProviders", {"providerName": "cluster", "oidc": {"issuer": ISSUER, "audiences": [AUDIENCE], "keySet": issuer.keys()}})
    name = ISSUER.removeprefix("https://")
    trust = {
        "Effect": "Allow",
        "Principal": {"Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/{name}"},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {"StringEquals": {f"{name}:sub": SUBJECT, f"{name}:aud": AUDIENCE}},
    }
    allow = {"Effect": "Allow", "Action": ["appmesh:Describe*", "appmesh:List*"], "Resource": "*"}
    document = {"Version": "2012-10-17"}
    policies = {"read": {**document, "Statement": [allow]}}
    provoke.manage(server, "roles", {"roleName": "reader", "trustPolicy": {**document, "Statement": [trust]}, "policies": policies})
    mesh = kinds.furnish(server.client(), kinds.unique())
    return Workload(server, issuer, mesh, tmp_path_factory.mktemp("workload"))


def names(client):
    """The names of all meshes."""
    return [m["meshName"] for page in client.get_paginator("list_meshes").paginate() for m in page["meshes"]]


def test_cli(workload):
    described = workload.cli("appmesh", "describe-mesh", "--mesh-name", workload.mesh).json()
    assert described["mesh"]["meshName"] == workload.mesh
    who = workload.cli("sts", "get-caller-identity").json()
    assert who["Account"] == ACCOUNT
    assert who["Arn"].startswith(f"arn:aws:sts::{ACCOUNT}:assumed-role/reader/")
    # The role decides what may be done.
    assert workload.cli("appmesh", "delete-mesh", "--mesh-name", workload.mesh).error() == "ForbiddenException"


def test_one_variable_for_both(workload):
    env = workload.env()
    for name in ("AWS_ENDPOINT_URL_APP_MESH", "AWS_ENDPOINT_URL_STS"):
        del env[name]
    with unittest.mock.patch.dict(os.environ, {**env, "AWS_ENDPOINT_URL": workload.server.endpoint}):
        client = boto3.session.Session().client("appmesh")
        assert client.describe_mesh(meshName=workload.mesh)["mesh"]["meshName"] == workload.mesh


def test_cli_is_told_why(workload):
    def why(**env):
        return workload.cli("appmesh", "list-meshes", **env).error()

    assert why(token=workload.issuer.token(exp=int(time.time()) - 60)) == "ExpiredTokenException"
    assert why(token=Issuer().token()) == "InvalidIdentityToken"
    assert why(role="none") == "AccessDenied"


def test_boto3(workload):
    with unittest.mock.patch.dict(os.environ, workload.env()):
        session = boto3.session.Session()
        client = session.client("appmesh")
        assert workload.mesh in names(client)
        assert session.get_credentials().method == "assume-role-with-web-identity"
        assert refused(client.delete_mesh, meshName=workload.mesh) == "ForbiddenException"


def test_errors_of_the_model(workload):
    """Each as the client's own type for it, by which programs branch."""
    sts = workload.client("sts")
    given = {"RoleArn": ROLE + "reader", "RoleSessionName": "me"}

    def assume(**change):
        return sts.assume_role_with_web_identity(**{**given, "WebIdentityToken": workload.issuer.token(), **change})

    now = int(time.time())
    with pytest.raises(sts.exceptions.ExpiredTokenException):
        assume(WebIdentityToken=workload.issuer.token(exp=now - 60))
    with pytest.raises(sts.exceptions.InvalidIdentityTokenException):
        assume(WebIdentityToken=workload.issuer.token(aud="another"))
    with pytest.raises(sts.exceptions.MalformedPolicyDocumentException):
        assume(Policy="{}")
    for change, code in (
        ({"DurationSeconds": 43200}, "ValidationError"),
        ({"PolicyArns": [{"arn": "arn:aws:iam::aws:policy/ReadOnlyAccess"}]}, "ValidationError"),
        ({"WebIdentityToken": workload.issuer.token(sub="system:serviceaccount:shop:till")}, "AccessDenied"),
    ):
        assert refused(assume, **change) == code

    answer = assume(DurationSeconds=900)
    assert answer["SubjectFromWebIdentityToken"] == SUBJECT
    assert answer["Audience"] == AUDIENCE
    assert answer["Provider"] == f"arn:aws:iam::{ACCOUNT}:oidc-provider/{ISSUER.removeprefix('https://')}"
    assert answer["AssumedRoleUser"]["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/reader/me"
    left = answer["Credentials"]["Expiration"].timestamp() - now
    assert 890 < left < 1000


def test_by_a_key(workload):
    """AssumeRole and GetSessionToken, as profiles with role_arn and tools for MFA make them."""
    server = workload.server
    trust = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "sts:AssumeRole"}
    read = {"Effect": "Allow", "Action": "appmesh:List*", "Resource": "*"}
    document = {"Version": "2012-10-17"}
    provoke.manage(
        server, "roles", {"roleName": "lister", "trustPolicy": {**document, "Statement": [trust]}, "policies": {"p": {**document, "Statement": [read]}}}
    )
    key, secret = server.keys()
    profile = workload.folder / "config"
    profile.write_text(f"[profile lister]\nrole_arn = {ROLE}lister\nsource_profile = base\n[profile base]\n")
    keys = workload.folder / "keys"
    keys.write_text(f"[base]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n")
    env = workload.env()
    del env["AWS_ROLE_ARN"], env["AWS_WEB_IDENTITY_TOKEN_FILE"]
    env |= {"AWS_CONFIG_FILE": str(profile), "AWS_SHARED_CREDENTIALS_FILE": str(keys)}
    with unittest.mock.patch.dict(os.environ, env):
        client = boto3.session.Session(profile_name="lister").client("appmesh")
        assert workload.mesh in names(client)
        assert refused(client.describe_mesh, meshName=workload.mesh) == "ForbiddenException"
        sts = boto3.session.Session(profile_name="base").client("sts")
        assert refused(sts.assume_role, RoleArn=ROLE + "none", RoleSessionName="me") == "AccessDenied"
        session = sts.get_session_token(DurationSeconds=900)["Credentials"]
    client = server.client(
        aws_access_key_id=session["AccessKeyId"], aws_secret_access_key=session["SecretAccessKey"], aws_session_token=session["SessionToken"]
    )
    assert client.describe_mesh(meshName=workload.mesh)["mesh"]["meshName"] == workload.mesh


@pytest.mark.parametrize("name", ["gosdk2", "java", "javascript"])
def test_sdk(workload, name, tmp_path):
    with unittest.mock.patch.dict(os.environ, workload.env()):
        program = sdks.Program(name, "identity", {"mesh": workload.mesh}, tmp_path)
    try:
        assert program.report() == {"mesh": workload.mesh, "refused": "ForbiddenException"}
    finally:
        program.close()
