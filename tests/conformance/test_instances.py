"""Machines with an identity of their own, judged by botocore, curl and what the vendors document.

Each judge is a process with nothing but the environment of `local env --on MACHINE`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import jwt
import pytest
import requests

from localcloud.cloud import Cloud
from localcloud.kubernetes import Pod
from localcloud.workloads import ON_AWS, ON_AZURE, Place, UnfitPlaceError
from localcloud.world import AwsRole, World
from tests.conformance.aws_lab import own_template
from tests.tools import tool
from tokenvend.cli.local_texts import IDENTITY_VARIABLES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

WHO = """
import boto3
session = boto3.Session()
print(session.client("sts", "us-east-1").get_caller_identity()["Arn"])
print(session.get_credentials().method)
"""
AWS_DATA = "http://169.254.169.254/latest"
AZURE_TOKEN = "http://169.254.169.254/metadata/identity/oauth2/token"
AZURE_QUERY = {"api-version": "2018-02-01", "resource": "api://tokenvend"}
ASSUMED = "arn:aws:sts::111122223333:assumed-role/etl/"


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with Cloud(World.load(), tmp_path_factory.mktemp("instances"), functions=()) as running:
        running.accounts.deploy(own_template().roles)
        yield running


@pytest.fixture(autouse=True)
def restored(ground: Cloud) -> Iterator[None]:
    yield
    ground.clock.skew = 0.0
    ground.faults.clear()


LAMBDA_ALONE = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "lambda.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ],
}


def process(environment: Mapping[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 -- our own script
        list(command),
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def boto3_in(environment: Mapping[str, str]) -> list[str]:
    done = process(environment, sys.executable, "-c", WHO)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def on(environment: Mapping[str, str]) -> requests.Session:
    """A program on the machine, which reads the small-lettered proxy variables."""
    session = requests.Session()
    session.trust_env = False
    session.proxies = {
        "http": environment["http_proxy"],
        "https": environment["https_proxy"],
        "no_proxy": environment["no_proxy"],
    }
    session.verify = environment["REQUESTS_CA_BUNDLE"]
    return session


def imds_token(instance: requests.Session, ttl: str = "60", **headers: str) -> requests.Response:
    given = {"X-aws-ec2-metadata-token-ttl-seconds": ttl, **headers}
    return instance.put(f"{AWS_DATA}/api/token", headers=given, timeout=10)


def data(instance: requests.Session, path: str, token: str) -> requests.Response:
    headers = {"X-aws-ec2-metadata-token": token}
    return instance.get(f"{AWS_DATA}/{path}", headers=headers, timeout=10)


METHODS = {
    "lambda": (f"{ASSUMED}local", "env"),
    "ec2": (f"{ASSUMED}i-0", "iam-role"),
    "ecs": (ASSUMED, "container-role"),
    "eks": (f"{ASSUMED}eks-acme-etl-", "container-role"),
}


@pytest.mark.parametrize("place", METHODS)
def test_boto3_finds_its_role_on_every_machine_of_aws(ground: Cloud, place: str) -> None:
    arn, method = boto3_in(ground.environment_for("etl", place))
    assert arn.startswith(METHODS[place][0])
    assert method == METHODS[place][1]


def test_a_developers_own_profile_does_not_become_the_machine(
    ground: Cloud, tmp_path: Path
) -> None:
    (tmp_path / ".aws").mkdir()
    keys = "aws_access_key_id = AKIAEXAMPLE\naws_secret_access_key = own\n"
    (tmp_path / ".aws" / "credentials").write_text(f"[default]\n{keys}")
    for place in ("ec2", "ecs", "eks"):
        environment = ground.environment_for("etl", place) | {"HOME": str(tmp_path)}
        assert boto3_in(environment)[1] == METHODS[place][1]


def test_link_local_names_the_addresses_that_the_platforms_name(ground: Cloud) -> None:
    ecs = ground.environment_for("etl", "ecs", link_local=True)
    assert "AWS_CONTAINER_CREDENTIALS_FULL_URI" not in ecs
    # AWS's own example.
    script = 'curl -sS "169.254.170.2$AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"'
    given = json.loads(process(ecs, tool("sh"), "-c", f"exec {script}").stdout)
    assert given["RoleArn"] == "arn:aws:iam::111122223333:role/etl"
    eks = ground.environment_for("etl", "eks", link_local=True)
    assert eks["AWS_CONTAINER_CREDENTIALS_FULL_URI"] == POD
    ec2 = ground.environment_for("etl", "ec2", link_local=True)
    assert not [name for name in ec2 if name.startswith("AWS_EC2_")]
    assert boto3_in(ec2)[1] == "iam-role"


def test_two_instances_share_an_address_and_no_credentials(ground: Cloud) -> None:
    seen = {}
    for role in ("etl", "stranger"):
        instance = on(ground.environment_for(role, "ec2"))
        token = imds_token(instance).text
        assert data(instance, "meta-data/iam/security-credentials/", token).text == role
        seen[role] = data(instance, "meta-data/instance-id", token).text
        other = {"etl": "stranger", "stranger": "etl"}[role]
        foreign = data(instance, f"meta-data/iam/security-credentials/{other}", token)
        assert foreign.status_code == 404
    assert len(set(seen.values())) == 2


@pytest.mark.parametrize("place", ["lambda", "ecs", "eks"])
def test_who_is_on_no_instance_has_no_instance_metadata(ground: Cloud, place: str) -> None:
    session = on(ground.environment_for("etl", place))
    assert imds_token(session).status_code == 403
    assert session.get(AZURE_TOKEN, params=AZURE_QUERY, timeout=10).status_code == 403


def test_the_proxy_of_nobody_in_particular_knows_no_metadata(ground: Cloud) -> None:
    session = on(ground.network_environment)
    for address in ("169.254.169.254", "169.254.170.2", "169.254.170.23", "[fd00:ec2::254]"):
        assert session.get(f"http://{address}/", timeout=10).status_code == 403


def test_an_instance_gives_what_ec2_documents(ground: Cloud) -> None:
    instance = on(ground.environment_for("etl", "ec2"))
    answer = imds_token(instance, "21600")
    assert answer.headers["X-aws-ec2-metadata-token-ttl-seconds"] == "21600"
    token = answer.text
    zone = data(instance, "meta-data/placement/availability-zone", token).text
    assert (zone, data(instance, "meta-data/placement/region", token).text) == (
        "us-east-1a",
        "us-east-1",
    )
    given = data(instance, "meta-data/iam/security-credentials/etl", token).json()
    assert (given["Code"], given["Type"]) == ("Success", "AWS-HMAC")
    assert set(given) == {
        *("Code", "LastUpdated", "Type", "AccessKeyId", "SecretAccessKey", "Token", "Expiration"),
    }
    info = data(instance, "meta-data/iam/info", token).json()
    assert info["InstanceProfileArn"] == "arn:aws:iam::111122223333:instance-profile/etl"
    document = data(instance, "dynamic/instance-identity/document", token).json()
    assert (document["accountId"], document["availabilityZone"]) == ("111122223333", zone)
    assert "placement/" in data(instance, "meta-data/", token).text.splitlines()
    assert data(instance, "meta-data/iam/", token).text == "info\nsecurity-credentials/"
    assert data(instance, "meta-data/spot/instance-action", token).status_code == 404
    dated = instance.get(
        "http://169.254.169.254/1999-01-01/meta-data/",
        headers={"X-aws-ec2-metadata-token": token},
        timeout=10,
    )
    assert dated.status_code == 404


IMDS_REFUSED: dict[str, tuple[dict[str, str], int]] = {
    "an open proxy on the instance": ({"ttl": "60", "X-Forwarded-For": "10.0.0.1"}, 403),
    "no time": ({"ttl": "0"}, 400),
    "more than six hours": ({"ttl": "21601"}, 400),
    "no number": ({"ttl": "an hour"}, 400),
}


@pytest.mark.parametrize("case", IMDS_REFUSED)
def test_no_metadata_token_for(ground: Cloud, case: str) -> None:
    asked, status = IMDS_REFUSED[case]
    answer = imds_token(on(ground.environment_for("etl", "ec2")), **asked)
    assert answer.status_code == status
    assert f"<title>{status} - " in answer.text


def test_a_request_without_a_live_token_gets_nothing_of_an_instance(ground: Cloud) -> None:
    instance = on(ground.environment_for("etl", "ec2"))
    url = f"{AWS_DATA}/meta-data/iam/security-credentials/etl"
    assert instance.get(url, timeout=10).status_code == 401
    assert data(instance, "meta-data/iam/security-credentials/etl", "made-up").status_code == 401
    token = imds_token(instance, "2").text
    assert data(instance, "meta-data/instance-id", token).status_code == 200
    ground.clock.skew = 3
    assert data(instance, "meta-data/instance-id", token).status_code == 401
    posted = instance.post(url, headers={"X-aws-ec2-metadata-token": token}, timeout=10)
    assert posted.status_code == 405


def test_a_web_page_reads_no_metadata_by_dns_rebinding(ground: Cloud) -> None:
    direct = ground.environment_for("etl", "ec2")["AWS_EC2_METADATA_SERVICE_ENDPOINT"]
    given = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    for host, status in (("rebound.example", 404), ("127.0.0.1", 200)):
        answer = requests.put(
            f"{direct}/latest/api/token", headers={**given, "Host": host}, timeout=10
        )
        assert answer.status_code == status


def test_where_version_1_is_left_on_it_needs_no_token_but_takes_no_wrong_one(
    ground: Cloud,
) -> None:
    ground.world.aws.instance_metadata_options.http_tokens = "optional"
    try:
        instance = on(ground.environment_for("etl", "ec2"))
        url = f"{AWS_DATA}/meta-data/iam/security-credentials/"
        assert instance.get(url, timeout=10).text == "etl"
        assert data(instance, "meta-data/instance-id", "made-up").status_code == 401
    finally:
        ground.world.aws.instance_metadata_options.http_tokens = "required"


def test_credentials_are_replaced_long_before_they_end(ground: Cloud) -> None:
    instance = on(ground.environment_for("etl", "ec2"))

    def served() -> dict[str, Any]:
        token = imds_token(instance).text
        found: dict[str, Any] = data(
            instance, "meta-data/iam/security-credentials/etl", token
        ).json()
        return found

    first = served()
    ground.clock.skew = 4 * 3600
    assert served() == first
    ground.clock.skew = 5.1 * 3600
    second = served()
    assert second["AccessKeyId"] != first["AccessKeyId"]
    assert second["Expiration"] > first["Expiration"]
    key = ground.accounts.find(first["AccessKeyId"])
    assert key is not None
    assert key.expires is not None
    assert key.expires > ground.clock()


def test_curl_reads_a_tasks_credentials_at_ecs_real_address(ground: Cloud) -> None:
    environment = ground.environment_for("etl", "ecs")
    path = environment["AWS_CONTAINER_CREDENTIALS_FULL_URI"].split("/", 3)[3]
    done = process(environment, tool("curl"), "-sS", f"http://169.254.170.2/{path}")
    given = json.loads(done.stdout)
    assert given["RoleArn"] == "arn:aws:iam::111122223333:role/etl"
    wrong = process(environment, tool("curl"), "-sS", "http://169.254.170.2/v2/credentials/0")
    assert json.loads(wrong.stdout) == {
        "code": "InvalidIdInRequest",
        "message": "CredentialsV2Request: Credentials not found",
        "HTTPErrorCode": 400,
    }


POD = "http://169.254.170.23/v1/credentials"


def pod_token(environment: Mapping[str, str], name: str) -> str:
    with open(environment[name], encoding="utf-8") as file:  # noqa: PTH123
        return file.read()


def test_a_pods_token_is_kubernetes_own_and_opens_eks_pod_identity(ground: Cloud) -> None:
    environment = ground.environment_for("etl", "eks")
    token = pod_token(environment, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["aud"] == ["pods.eks.amazonaws.com"]
    assert claims["sub"] == "system:serviceaccount:default:etl"
    assert claims["exp"] - claims["iat"] == 86400
    keys = on(environment).get(f"{claims['iss']}/openid/v1/jwks", timeout=10).json()
    judged = jwt.decode(
        token, jwt.PyJWK(keys["keys"][0]), algorithms=["RS256"], audience="pods.eks.amazonaws.com"
    )
    assert judged == claims
    given = on(environment).get(POD, headers={"Authorization": token}, timeout=10).json()
    assert given["AccountId"] == "111122223333"


def test_eks_pod_identity_refuses_what_is_not_this_pods_token(ground: Cloud) -> None:
    pod = on(ground.environment_for("etl", "eks"))
    aks = pod_token(ground.environment_for("reporting", "aks"), "AZURE_FEDERATED_TOKEN_FILE")
    stranger = pod_token(
        ground.environment_for("stranger", "eks"), "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"
    )
    own = ground.machines.eks.token
    cases = {
        "": (400, "Service account token cannot be empty"),
        "made-up": (400, "Service account token cannot be parsed"),
        aks: (400, "(InvalidTokenException)"),
        own(Pod("etl"), "sts.amazonaws.com", 600): (400, "(InvalidTokenException)"),
        own(Pod("etl"), "pods.eks.amazonaws.com", -1): (400, "(ExpiredTokenException)"),
        stranger: (404, "(ResourceNotFoundException)"),
    }
    for token, (status, said) in cases.items():
        answer = pod.get(POD, headers={"Authorization": token}, timeout=10)
        assert (answer.status_code, said in answer.text) == (status, True), answer.text
        assert "AccessKeyId" not in answer.text


def test_a_virtual_machine_gets_its_identitys_token(ground: Cloud) -> None:
    machines = {name: on(ground.environment_for(name, "vm")) for name in ("reporting", "outsider")}
    for name, machine in machines.items():
        answer = machine.get(
            AZURE_TOKEN, params=AZURE_QUERY, headers={"Metadata": "true"}, timeout=10
        )
        claims = jwt.decode(answer.json()["access_token"], options={"verify_signature": False})
        assert claims["oid"] == ground.entra.identity(name).principal_id
        proxied = {"Metadata": "true", "X-Forwarded-For": "10.0.0.1"}
        refused = machine.get(AZURE_TOKEN, params=AZURE_QUERY, headers=proxied, timeout=10)
        assert refused.status_code == 400
        assert imds_token(machine).status_code == 404


@pytest.mark.parametrize(
    ("name", "place", "said"),
    [
        ("operator", "ec2", "operator is somebody with keys"),
        ("admin", "vm", "admin is somebody with keys"),
        ("etl", "vm", "runs on lambda, ec2, ecs or eks, never on vm"),
        ("reporting", "ecs", "runs on functions, vm or aks, never on ecs"),
        ("azure:tokenvend", "aks", "has no federated identity credential"),
    ],
)
def test_a_caller_on_a_machine_that_it_never_has_is_refused(
    ground: Cloud, name: str, place: str, said: str
) -> None:
    with pytest.raises(UnfitPlaceError, match=said):
        ground.environment_for(name, place)


@pytest.mark.parametrize("place", ON_AWS)
def test_a_role_runs_only_where_its_trust_lets_a_service_take_it_on(
    ground: Cloud, place: Place
) -> None:
    role = ground.world.aws.role("stranger")
    assert role is not None
    service = ON_AWS[place](ground.accounts, "stranger").service
    before = role.assume_role_policy_document
    kept = [s for s in before["Statement"] if service not in s["Principal"].get("Service", ())]
    role.assume_role_policy_document = {**before, "Statement": kept}
    try:
        with pytest.raises(UnfitPlaceError, match=f"stranger does not trust {service}"):
            ground.environment_for("stranger", place)
    finally:
        role.assume_role_policy_document = before
    assert ground.environment_for("stranger", place)


def trusts(service: str, actions: list[str], **condition: dict[str, str]) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": actions}
    return {"Version": "2012-10-17", "Statement": [{**statement, "Condition": condition}]}


OURS, THEIRS = "111122223333", "444455556666"
EKS = "pods.eks.amazonaws.com", ["sts:AssumeRole", "sts:TagSession"]
# As the guides of ECS and EKS advise: whom, and on whose behalf.
DEPUTIES: list[tuple[str, dict[str, Any], bool]] = [
    (
        "ecs",
        trusts(
            "ecs-tasks.amazonaws.com",
            ["sts:AssumeRole"],
            StringEquals={"aws:SourceAccount": account},
            ArnLike={"aws:SourceArn": f"arn:aws:ecs:us-east-1:{account}:*"},
        ),
        account == OURS,
    )
    for account in (OURS, THEIRS)
]
DEPUTIES += [
    (
        "eks",
        trusts(
            *EKS,
            StringEquals={"aws:SourceAccount": OURS, "aws:RequestTag/kubernetes-namespace": space},
            ArnEquals={"aws:SourceArn": f"arn:aws:eks:us-east-1:{OURS}:cluster/{cluster}"},
        ),
        (cluster, space) == ("acme", "default"),
    )
    for cluster, space in (("acme", "default"), ("other", "default"), ("acme", "kube-system"))
]


@pytest.mark.parametrize(("place", "trust", "runs"), DEPUTIES)
def test_a_role_can_trust_a_service_for_one_account_cluster_or_namespace(
    ground: Cloud, place: str, trust: dict[str, Any], runs: bool
) -> None:
    role = ground.world.aws.role("stranger")
    assert role is not None
    before, role.assume_role_policy_document = role.assume_role_policy_document, trust
    try:
        if runs:
            assert ground.environment_for("stranger", place)
        else:
            with pytest.raises(UnfitPlaceError, match="stranger does not trust"):
                ground.environment_for("stranger", place)
    finally:
        role.assume_role_policy_document = before


def test_trust_that_ends_while_a_machine_runs_ends_its_credentials(ground: Cloud) -> None:
    instance = on(ground.environment_for("stranger", "ec2"))
    task = ground.environment_for("stranger", "ecs")["AWS_CONTAINER_CREDENTIALS_FULL_URI"]
    pod = ground.environment_for("stranger", "eks")
    role = ground.world.aws.role("stranger")
    assert role is not None

    def served() -> list[requests.Response]:
        path = "meta-data/iam/security-credentials/stranger"
        token = ground.machines.eks.token(Pod("stranger"), "pods.eks.amazonaws.com", 600)
        return [
            data(instance, path, imds_token(instance).text),
            requests.get(task, timeout=10),
            on(pod).get(POD, headers={"Authorization": token}, timeout=10),
        ]

    first = [answer.json() for answer in served()]
    before, role.assume_role_policy_document = role.assume_role_policy_document, LAMBDA_ALONE
    try:
        # What was assumed before goes on to its end.
        assert [answer.json() for answer in served()] == first
        ground.clock.skew = 5.5 * 3600
        of_ec2, of_ecs, of_eks = served()
        assert of_ec2.json()["Code"] == "AssumeRoleUnauthorizedAccess"
        assert (of_ecs.status_code, of_ecs.json()["code"]) == (503, "CredentialsUninitialized")
        assert (of_eks.status_code, "(AccessDeniedException)" in of_eks.text) == (400, True)
        assert all("AccessKeyId" not in each.text for each in (of_ec2, of_ecs, of_eks))
    finally:
        role.assume_role_policy_document = before


def test_a_pods_session_carries_what_eks_tags_it_with(ground: Cloud) -> None:
    environment = ground.environment_for("etl", "eks")
    token = pod_token(environment, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
    given = on(environment).get(POD, headers={"Authorization": token}, timeout=10).json()
    key = ground.accounts.find(given["AccessKeyId"])
    assert key is not None
    assert key.principal.tags["kubernetes-service-account"] == "etl"
    assert key.principal.tags["eks-cluster-name"] == "acme"


def test_namesakes_are_told_apart(ground: Cloud) -> None:
    ground.world.aws.roles.append(AwsRole("reporting", LAMBDA_ALONE))
    try:
        assert "AWS_ACCESS_KEY_ID" in ground.environment_for("reporting")
        assert "AWS_ACCESS_KEY_ID" in ground.environment_for("aws:reporting")
        assert "IDENTITY_ENDPOINT" in ground.environment_for("azure:reporting")
    finally:
        ground.world.aws.roles.pop()
    with pytest.raises(LookupError):
        ground.environment_for("azure:etl")


def test_a_shell_that_was_another_caller_keeps_nothing_of_it(ground: Cloud) -> None:
    """What a caller's environment adds to the network's stands in the list that `env` clears."""
    callers = [("etl", place) for place in ON_AWS] + [("reporting", place) for place in ON_AZURE]
    for name, place in [*callers, ("admin", ""), ("operator", "")]:
        given = (ground.environment_for(name, place, link_local=each) for each in (False, True))
        own = {name for each in given for name in each} - ground.network_environment.keys()
        assert own <= set(IDENTITY_VARIABLES)
        # A virtual machine's identity stands in no variable.
        assert own or place == "vm"
