"""Faults as clients meet them: each vendor's own words, connections that fail, answers that drip.

botocore, google-cloud-storage and azure-identity say what they read; no stand-in is asked.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import boto3
import botocore.config
import botocore.exceptions
import google.api_core.exceptions
import google.auth.aws
import google.auth.transport.requests
import pytest
import requests
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import WorkloadIdentityCredential
from google.cloud import storage
from google.oauth2.credentials import Credentials
from requests.adapters import HTTPAdapter

from localcloud import outages
from localcloud.cloud import Cloud
from localcloud.wire.faults import ELSEWHERE, Fault, Kind
from localcloud.wire.web import Request
from localcloud.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "sts.us-east-1.amazonaws.com"
URL = f"https://{HOST}/?Action=GetCallerIdentity&Version=2011-06-15"
GOOGLE = "https://iamcredentials.googleapis.com/v1/x"


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with Cloud(World.load(), tmp_path_factory.mktemp("faults"), functions=()) as running:
        yield running


@pytest.fixture(autouse=True)
def cleared(ground: Cloud) -> Iterator[None]:
    yield
    ground.faults.clear()


@pytest.fixture
def session(ground: Cloud) -> Iterator[requests.Session]:
    environment = ground.environment_for("azure:tokenvend")
    with requests.Session() as made:
        made.trust_env = False
        made.proxies = {"https": environment["HTTPS_PROXY"], "http": environment["HTTP_PROXY"]}
        made.verify = environment["REQUESTS_CA_BUNDLE"]
        made.mount("https://", HTTPAdapter(max_retries=0))
        yield made


def botos_view(ground: Cloud, monkeypatch: pytest.MonkeyPatch, service: str, call: str) -> str:
    """The error's code, as boto3 reads it."""
    for name, value in ground.environment_for("etl").items():
        monkeypatch.setenv(name, value)
    once = botocore.config.Config(retries={"total_max_attempts": 1})
    client = boto3.client(service, "us-east-1", config=once)  # type: ignore[call-overload]
    arguments: dict[str, dict[str, Any]] = {
        "get_caller_identity": {},
        "get_parameter": {"Name": "/x"},
        "invoke": {"FunctionName": "x"},
        "start_configuration_session": dict.fromkeys(
            (
                "ApplicationIdentifier",
                "EnvironmentIdentifier",
                "ConfigurationProfileIdentifier",
            ),
            "x",
        ),
    }
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        getattr(client, call)(**arguments[call])
    return str(refused.value.response["Error"]["Code"])


AWS_CODES = {
    ("sts", "get_caller_identity", 400): "Throttling",
    ("sts", "get_caller_identity", 503): "ServiceUnavailable",
    ("sts", "get_caller_identity", 500): "InternalFailure",
    ("ssm", "get_parameter", 400): "ThrottlingException",
    ("ssm", "get_parameter", 500): "InternalServerError",
    ("appconfigdata", "start_configuration_session", 429): "ThrottlingException",
    ("appconfigdata", "start_configuration_session", 500): "InternalServerException",
}


@pytest.mark.parametrize(("service", "call", "status"), AWS_CODES)
def test_boto3_reads_aws_own_code(
    ground: Cloud, monkeypatch: pytest.MonkeyPatch, service: str, call: str, status: int
) -> None:
    ground.faults.add(Fault(f"{service}.*", Kind.STATUS, status=status))
    assert botos_view(ground, monkeypatch, service, call) == AWS_CODES[service, call, status]


def google_error(answer: requests.Response) -> dict[str, Any]:
    error: dict[str, Any] = answer.json()["error"]
    assert error["code"] == answer.status_code
    return error


def test_googles_apis_answer_in_rpc_status(ground: Cloud, session: requests.Session) -> None:
    words = {
        429: "RESOURCE_EXHAUSTED",
        500: "INTERNAL",
        503: "UNAVAILABLE",
        403: "PERMISSION_DENIED",
    }
    for status, word in words.items():
        ground.faults.add(Fault("iamcredentials.*", Kind.STATUS, status=status, times=1))
        assert google_error(session.post(GOOGLE, timeout=9))["status"] == word
    ground.faults.add(Fault("iamcredentials.*", Kind.STATUS, status=502, times=1))
    front_end = session.post(GOOGLE, timeout=9)
    assert front_end.headers["Content-Type"].startswith("text/html")


def test_googles_token_service_answers_in_oauths_words(
    ground: Cloud, session: requests.Session
) -> None:
    for status, word in ((429, "quota_exceeded"), (503, "temporarily_unavailable")):
        ground.faults.add(Fault("sts.googleapis.com", Kind.STATUS, status=status, times=1))
        answer = session.post("https://sts.googleapis.com/v1/token", timeout=9)
        assert (answer.status_code, answer.json()["error"]) == (status, word)


def test_google_cloud_storage_reads_its_own_error(ground: Cloud) -> None:
    environment = ground.network_environment
    http = google.auth.transport.requests.AuthorizedSession(Credentials("ya29.made-up"))
    http.trust_env = False
    http.proxies = {"https": environment["HTTPS_PROXY"]}
    http.verify = environment["REQUESTS_CA_BUNDLE"]
    client = storage.Client("acme", credentials=http.credentials, _http=http)
    ground.faults.add(Fault("storage.googleapis.com", Kind.STATUS, status=429))
    with pytest.raises(google.api_core.exceptions.TooManyRequests) as refused:
        client.get_bucket("acme-landing", retry=None)
    assert [each["reason"] for each in refused.value.errors] == ["rateLimitExceeded"]


def test_clients_of_the_xml_api_and_of_blobs_read_xml(
    ground: Cloud, session: requests.Session
) -> None:
    for url, code in (
        ("https://storage.googleapis.com/acme-landing/x", "ServiceUnavailable"),
        ("https://acme.blob.core.windows.net/policy/x", "ServerBusy"),
    ):
        ground.faults.add(Fault("*", Kind.STATUS, status=503, times=1))
        answer = session.get(url, timeout=9)
        answer.encoding = "utf-8-sig"
        found = ET.fromstring(answer.text).findtext("Code")  # noqa: S314 - our own stand-in's
        assert (answer.status_code, found) == (503, code)
    assert answer.headers["x-ms-error-code"] == code


def test_azure_identity_reads_entras_number(ground: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ground.environment_for("reporting", "aks").items():
        monkeypatch.setenv(name, value)
    ground.faults.add(Fault("login.microsoftonline.com", Kind.STATUS, status=400))
    with (
        WorkloadIdentityCredential() as credential,
        pytest.raises(ClientAuthenticationError, match="AADSTS90033"),
    ):
        credential.get_token("api://tokenvend/.default")


def test_the_identity_endpoint_and_instance_metadata_stand_inside(
    ground: Cloud, session: requests.Session
) -> None:
    identity = ground.environment_for("azure:tokenvend")["IDENTITY_ENDPOINT"]
    ground.faults.add(Fault("127.0.0.1", Kind.STATUS, status=500))
    answer = requests.get(identity, timeout=9)
    assert answer.status_code == 500
    assert set(answer.json()) == {"statusCode", "message", "correlationId"}
    ground.faults.add(Fault("169.254.169.254", Kind.STATUS, status=429))
    vm = {"http": ground.environment_for("reporting", "vm")["HTTP_PROXY"]}
    url = "http://169.254.169.254/metadata/identity/oauth2/token"
    throttled = session.get(url, proxies=vm, timeout=9)
    assert (throttled.status_code, throttled.json()["error"]) == (429, "too_many_requests")
    # By its loopback port an instance is the same address.
    direct = ground.environment_for("etl", "ec2")["AWS_EC2_METADATA_SERVICE_ENDPOINT"]
    assert requests.put(f"{direct}/latest/api/token", timeout=9).status_code == 429


def test_every_host_has_a_shape_of_its_own(ground: Cloud) -> None:
    plain = b"Service Unavailable\n"
    shapeless = {
        host
        for host in ground.router.hosts
        if outages.answer(Request("GET", host.replace("*", "x"), "/"), 503, 0).body == plain
    }
    # Issuers of clusters, which publish documents alone.
    assert all(host.startswith("oidc.eks.") or ".oic." in host for host in shapeless), shapeless


def test_a_refused_connection_never_opens(ground: Cloud, session: requests.Session) -> None:
    ground.faults.add(Fault(HOST, Kind.REFUSED, times=2))
    for _ in range(2):
        with pytest.raises(requests.exceptions.ProxyError):
            session.get(URL, timeout=9)
    assert session.get(URL, timeout=9).status_code == 403
    assert session.get(GOOGLE, timeout=9).status_code < 500


def test_a_refused_instance_is_a_connection_that_is_reset(
    ground: Cloud, session: requests.Session
) -> None:
    vm = {"http": ground.environment_for("reporting", "vm")["HTTP_PROXY"]}
    url = "http://169.254.169.254/metadata/identity/oauth2/token"
    ground.faults.add(Fault("169.254.169.254", Kind.REFUSED, times=1))
    with pytest.raises(requests.exceptions.ConnectionError):
        session.get(url, proxies=vm, timeout=9)
    assert session.get(url, proxies=vm, timeout=9).status_code == 400


def test_a_connection_that_was_open_does_not_escape(
    ground: Cloud, session: requests.Session
) -> None:
    for kind, error in (
        (Kind.REFUSED, requests.exceptions.ConnectionError),
        (Kind.TLS, requests.exceptions.ConnectionError),
    ):
        assert session.get(URL, timeout=9).status_code == 403
        ground.faults.add(Fault(HOST, kind))
        with pytest.raises(error):
            session.get(URL, timeout=9)
        ground.faults.clear()


def test_tls_fails_for_who_checks_certificates(ground: Cloud, session: requests.Session) -> None:
    ground.faults.add(Fault(HOST, Kind.TLS, times=1))
    with pytest.raises(requests.exceptions.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        session.get(URL, timeout=9)
    assert session.get(URL, timeout=9).status_code == 403


def test_an_answer_drips_and_is_whole_in_the_end(ground: Cloud, session: requests.Session) -> None:
    whole = session.get(URL, timeout=9)
    ground.faults.add(Fault(HOST, Kind.DRIP, seconds=0.4, times=2))
    started = time.perf_counter()
    # No read waits long: a timeout for each does not end it.
    dripped = session.get(URL, timeout=0.2)
    assert time.perf_counter() - started > 0.3
    assert len(dripped.content) == len(whole.content)
    with session.get(URL, timeout=9, stream=True) as slow:
        started = time.perf_counter()
        pieces = slow.iter_content(1)
        assert next(pieces) == whole.content[:1]
        early = time.perf_counter() - started
        assert len(b"".join(pieces)) == len(whole.content) - 1
        assert early < (time.perf_counter() - started) / 2


def test_a_redirect_leads_nowhere(ground: Cloud, session: requests.Session) -> None:
    ground.faults.add(Fault(HOST, Kind.REDIRECT))
    answer = session.get(URL, timeout=9, allow_redirects=False)
    assert answer.status_code == 302
    assert answer.headers["Location"].startswith(f"{ELSEWHERE}/?Action=")
    with pytest.raises(requests.exceptions.ProxyError):
        session.get(URL, timeout=9)


@pytest.mark.parametrize("kind", [Kind.RESET, Kind.REFUSED, Kind.TLS, Kind.GARBAGE, Kind.STATUS])
def test_google_answers_for_itself_when_aws_fails_behind_it(
    ground: Cloud, monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    from tests.conformance.test_google_auth import VECTORS  # noqa: PLC0415

    for name, value in ground.environment_for("etl").items():
        monkeypatch.setenv(name, value)
    credentials = google.auth.aws.Credentials.from_file(  # type: ignore[no-untyped-call]
        str(VECTORS / "create-cred-config-aws.json"),
        scopes=["https://www.googleapis.com/auth/devstorage.read_write"],
    )
    ground.faults.add(Fault(HOST, kind))
    with pytest.raises(google.auth.exceptions.OAuthError) as refused:
        credentials.refresh(google.auth.transport.requests.Request(session=requests.Session()))
    # With AWS at its best, Google would know who this is, and refuse them for that.
    assert "attribute condition" not in str(refused.value)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"host": HOST, "kind": "refused", "path": "/x"}, "have no path"),
        ({"host": HOST, "kind": "tls", "path": "/x"}, "have no path"),
        ({"host": "169.254.169.254", "kind": "tls"}, "plain http"),
        ({"host": "127.0.0.1", "kind": "tls"}, "plain http"),
        ({"host": "169.254.169.253", "kind": "reset"}, "no host here"),
    ],
    ids=str,
)
def test_a_fault_that_could_never_hit_is_refused(
    ground: Cloud, fault: dict[str, str], said: str
) -> None:
    admin = json.loads((ground.directory / "admin.json").read_text())
    answer = requests.post(
        f"{admin['url']}/faults",
        json=fault,
        headers={"Authorization": f"Bearer {admin['token']}"},
        timeout=9,
    )
    assert answer.status_code == 400
    assert said in answer.json()["error"]
