"""Our Azure identity: App Service, the VM's metadata service, and a projected token file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from tests.unit.issuing import NOW, Clock, deadline, segment
from tests.unit.sending import Script, said, script
from tokenvend.deadline import Deadline
from tokenvend.errors import (
    DeadlineExceeded,
    Misconfigured,
    RateLimited,
    TokenvendError,
    UpstreamRefused,
    UpstreamUnavailable,
)
from tokenvend.identity.azure import azure_identity, kept
from tokenvend.model import Secret, SubjectToken, SubjectTokenType
from tokenvend.transport import Answer

RESOURCE = "api://tokenvend-federation"
ENDPOINT = "http://127.0.0.1:41741/msi/token/"
APP_SERVICE = {"IDENTITY_ENDPOINT": ENDPOINT, "IDENTITY_HEADER": "header-canary"}


def jwt(name: str = "a", **claims: Any) -> str:
    return f"{segment({'alg': 'RS256'})}.{segment(claims)}.{name}-canary"


def issued(name: str = "a", life: int = 86_400, **changes: Any) -> Answer:
    """A managed identity endpoint's answer."""
    answer = {
        "access_token": jwt(name),
        "expires_on": str(NOW + life),
        "resource": RESOURCE,
        "token_type": "Bearer",
        "client_id": "5e29463d-71da-4fe0-8e69-999b57db23b0",
    }
    return said({**answer, **changes})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def slept() -> list[float]:
    return []


Identity = Callable[[Deadline], SubjectToken]
Build = Callable[..., Identity]


@pytest.fixture
def build(clock: Clock, slept: list[float]) -> Build:
    def make(environ: dict[str, str], sender: Script, client_id: str = "") -> Identity:
        return azure_identity(
            environ,
            sender,
            resource=RESOURCE,
            client_id=client_id,
            now=clock,
            sleep=slept.append,
        )

    return make


def asked(sender: Script, index: int = 0) -> tuple[str, dict[str, str]]:
    """Where a call went, and its query."""
    url = urlsplit(sender.calls[index].url)
    return f"{url.scheme}://{url.netloc}{url.path}", dict(parse_qsl(url.query))


# --- App Service ---------------------------------------------------------------------------------


def test_app_service_is_asked_as_its_documentation_says(build: Build) -> None:
    sender = script(issued())
    token = build(APP_SERVICE, sender)(deadline())
    assert asked(sender) == (ENDPOINT, {"api-version": "2019-08-01", "resource": RESOURCE})
    assert sender.calls[0].method == "GET"
    assert sender.calls[0].headers == {"X-IDENTITY-HEADER": "header-canary"}
    assert (token.value.reveal(), token.type) == (jwt(), SubjectTokenType.JWT)
    assert token.expires_at == NOW + 86_400


@pytest.mark.parametrize("environ", [APP_SERVICE, {}])
def test_a_user_assigned_identity_is_named(build: Build, environ: dict[str, str]) -> None:
    sender = script(issued())
    build(environ, sender, "5e29463d-71da-4fe0-8e69-999b57db23b0")(deadline())
    assert asked(sender)[1]["client_id"] == "5e29463d-71da-4fe0-8e69-999b57db23b0"


def test_endpoint_and_header_are_read_at_each_fetch(build: Build, clock: Clock) -> None:
    environ = dict(APP_SERVICE)
    sender = script(issued("a"), issued("b", 2 * 86_400))
    subject = build(environ, sender)
    subject(deadline())
    environ |= {"IDENTITY_ENDPOINT": "http://169.254.129.4:8081/msi/token", "IDENTITY_HEADER": "2"}
    clock.now += 43_201
    subject(deadline())
    assert asked(sender, 1)[0] == "http://169.254.129.4:8081/msi/token"
    assert sender.calls[1].headers == {"X-IDENTITY-HEADER": "2"}


def test_a_mistyped_endpoint_is_a_setting_to_mend(build: Build, subtests: pytest.Subtests) -> None:
    for endpoint in [
        "https://127.0.0.1/msi/token",
        "http://evil.example/msi/token",
        "http://10.0.0.1/msi/token",
        "http://localhost.evil.example/",
        "127.0.0.1:41741",
        "http://127.0.0.1/msi/token?x=y",
    ]:
        with subtests.test(endpoint=endpoint):
            sender = script(issued())
            with pytest.raises(Misconfigured) as caught:
                build({**APP_SERVICE, "IDENTITY_ENDPOINT": endpoint}, sender)(deadline())
            assert "IDENTITY_ENDPOINT" in caught.value.cause
            assert sender.calls == []


def test_an_endpoint_without_its_header_is_a_setting_to_mend(build: Build) -> None:
    with pytest.raises(Misconfigured) as caught:
        build({"IDENTITY_ENDPOINT": ENDPOINT}, script(issued()))(deadline())
    assert "IDENTITY_HEADER" in caught.value.cause


def test_each_refusal_names_what_to_do(build: Build, subtests: pytest.Subtests) -> None:
    for status, error, hint in [
        (400, UpstreamRefused, "Application ID URI"),
        (401, UpstreamRefused, "IDENTITY_HEADER"),
        (403, UpstreamRefused, "refused"),
        (404, UpstreamRefused, "managed identity assigned"),
        (418, UpstreamRefused, "refused"),
        (429, RateLimited, "429"),
        (302, UpstreamUnavailable, "302"),
        (500, UpstreamUnavailable, "500"),
        (503, UpstreamUnavailable, "503"),
    ]:
        with subtests.test(status=status, error=error, hint=hint):
            answer = said(
                {"statusCode": status, "message": "message-canary"}, status, retry_after="7"
            )
            with pytest.raises(error) as caught:
                build(APP_SERVICE, script(answer))(deadline())
            assert hint in caught.value.cause
            assert "canary" not in f"{caught.value} {caught.value.cause}"
            if error is not UpstreamRefused:
                assert caught.value.retry_after == 7


def test_an_answer_without_a_living_jwt_is_none(build: Build, subtests: pytest.Subtests) -> None:
    for answer in [
        Answer(200, {}, b""),
        Answer(200, {}, b"<html>canary"),
        said([]),
        said({}),
        issued(access_token=None),
        issued(access_token=""),
        issued(access_token="opaque-canary"),
        issued(access_token="a.b.c\r\nX: canary"),
        issued(access_token=f"a.{'x' * 40_000}.c"),
        issued(expires_on=None),
        issued(expires_on="soon"),
        issued(expires_on=""),
        issued(expires_on=f"{NOW}.5"),
        issued(expires_on=True),
        issued(expires_on="-1"),
        issued(expires_on="9" * 20),
        issued(expires_on=str(NOW)),
    ]:
        with subtests.test(answer=answer):
            with pytest.raises(UpstreamUnavailable) as caught:
                build(APP_SERVICE, script(answer))(deadline())
            assert "canary" not in f"{caught.value} {caught.value.cause}"


def test_expires_on_may_be_a_number(build: Build) -> None:
    token = build(APP_SERVICE, script(issued(expires_on=NOW + 5)))(deadline())
    assert token.expires_at == NOW + 5


def test_a_token_is_kept_until_half_of_its_life(build: Build, clock: Clock) -> None:
    sender = script(issued("a"), issued("b", 2 * 86_400))
    subject = build(APP_SERVICE, sender)
    for moment, name in [(0, "a"), (43_199, "a"), (43_201, "b"), (50_000, "b")]:
        clock.now = NOW + moment
        assert subject(deadline()).value.reveal() == jwt(name)
    assert len(sender.calls) == 2


def test_a_living_token_bridges_a_failing_endpoint_and_says_so(build: Build, clock: Clock) -> None:
    sender = script(issued("a"), said({}, 500))
    subject = build(APP_SERVICE, sender)
    assert subject(deadline()).bridged == ""
    clock.now += 80_000
    token = subject(deadline())
    assert token.value.reveal() == jwt("a")
    assert token.bridged == "managed identity endpoint: status 500"
    clock.now = NOW + 86_400
    with pytest.raises(UpstreamUnavailable):
        subject(deadline())


def test_a_hung_endpoint_costs_a_third_of_the_time_while_its_token_lives(clock: Clock) -> None:
    waited = Clock()

    def fetch(lent: Deadline) -> SubjectToken:
        if clock.now > NOW:
            waited.now += lent.remaining()
            raise DeadlineExceeded
        return SubjectToken(Secret("a"), SubjectTokenType.JWT, NOW + 86_400)

    subject = kept(fetch, clock)
    subject(deadline())
    clock.now += 80_000
    request = Deadline.after(9, waited)
    subject(request)
    assert request.remaining() == pytest.approx(6)


# --- virtual machines ----------------------------------------------------------------------------


def test_a_vm_asks_its_metadata_service(build: Build) -> None:
    sender = script(issued())
    build({}, sender)(deadline())
    assert asked(sender) == (
        "http://169.254.169.254/metadata/identity/oauth2/token",
        {"api-version": "2018-02-01", "resource": RESOURCE},
    )
    assert sender.calls[0].headers == {"Metadata": "true"}
    assert sender.repeatable == [False]


@pytest.mark.parametrize(
    "failure",
    [*(said({}, status) for status in (404, 408, 429, 500, 503)), UpstreamUnavailable("")],
)
def test_the_metadata_service_gets_its_own_schedule(
    build: Build, slept: list[float], failure: Answer | Exception
) -> None:
    sender = script(failure, failure, failure, issued())
    build({}, sender)(deadline())
    assert slept == [1, 2, 4]


def test_a_metadata_service_being_updated_is_awaited(build: Build, slept: list[float]) -> None:
    gone = said({}, 410)
    build({}, script(gone, gone, issued()))(deadline(60))
    assert slept == [10, 10]


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (said({}, 404), UpstreamRefused),
        (said({}, 410), UpstreamUnavailable),
        (said({}, 429), RateLimited),
        (said({}, 503), UpstreamUnavailable),
        (UpstreamUnavailable("down"), UpstreamUnavailable),
    ],
)
def test_waiting_ends_with_the_deadline(
    build: Build, slept: list[float], failure: Answer | Exception, error: type[TokenvendError]
) -> None:
    with pytest.raises(error):
        build({}, script(failure))(deadline(0.5))
    assert slept == []


@pytest.mark.parametrize("status", [400, 401, 403])
def test_the_metadata_service_is_not_asked_again_after_a_refusal(
    build: Build, slept: list[float], status: int
) -> None:
    with pytest.raises(UpstreamRefused):
        build({}, script(said({}, status), issued()))(deadline())
    assert slept == []


# --- a projected token file ----------------------------------------------------------------------


def test_the_token_file_is_read_at_each_use(build: Build, tmp_path: Path) -> None:
    file = tmp_path / "token"
    subject = build({"AZURE_FEDERATED_TOKEN_FILE": str(file)}, script())
    for name in ("a", "b"):
        file.write_text(jwt(name, exp=NOW + 600) + "\n")
        token = subject(deadline())
        assert token.value.reveal() == jwt(name, exp=NOW + 600)
        assert (token.type, token.expires_at) == (SubjectTokenType.JWT, NOW + 600)


def test_a_file_without_a_living_jwt_is_a_setting_to_mend(
    build: Build, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    for text in [
        "",
        "canary",
        "a.b.c",
        jwt(),
        jwt(exp=NOW),
        jwt(exp=str(NOW + 600)),
        jwt(exp=True),
        jwt(exp=NOW + 600.5),
        f"{segment({})}.{segment([1])}.x",
        f"{segment({})}.{segment(b'[' * 5000)}.x",
        f"{segment({})}.{segment(bytes([255]))}.x",
        "a.b",
        " a.b.c",
        jwt(exp=NOW + 600) + "\nanother",
        jwt(exp=NOW + 600, pad="x" * 40_000),
        "\xff",
    ]:
        with subtests.test(text=text):
            file = tmp_path / "token"
            file.write_text(text)
            with pytest.raises(Misconfigured) as caught:
                build({"AZURE_FEDERATED_TOKEN_FILE": str(file)}, script())(deadline())
            assert "AZURE_FEDERATED_TOKEN_FILE" in caught.value.cause
            assert "canary" not in f"{caught.value} {caught.value.cause}"


def test_a_missing_file_is_a_setting_to_mend(build: Build, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured) as caught:
        build({"AZURE_FEDERATED_TOKEN_FILE": str(tmp_path)}, script())(deadline())
    assert "cannot be read" in caught.value.cause


def test_no_file_is_read_after_the_deadline(build: Build, tmp_path: Path) -> None:
    with pytest.raises(DeadlineExceeded):
        build({"AZURE_FEDERATED_TOKEN_FILE": str(tmp_path)}, script())(deadline(0))


def test_no_secret_shows_in_the_call_that_fetched_it(build: Build) -> None:
    sender = script(issued())
    token = build(APP_SERVICE, sender)(deadline())
    assert "canary" not in f"{sender.calls} {token}"
