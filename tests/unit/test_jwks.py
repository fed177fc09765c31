"""Key sets: what is fetched, how often, and which keys are believed."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.unit.issuing import Clock, Key, Recorder, deadline, ec_key, key_set, page, rsa_key
from tokenvend.caller.jwks import (
    COOLDOWN,
    LIFESPAN,
    MAX_BYTES,
    MAX_KEYS,
    KeySets,
    KeySource,
)
from tokenvend.deadline import Deadline
from tokenvend.errors import DeadlineExceeded, UpstreamUnavailable
from tokenvend.transport import Answer, Call

ISSUER = "https://issuer.example"
KEYS_URL = f"{ISSUER}/keys"
DISCOVERY = f"{ISSUER}/.well-known/openid-configuration"
SOURCE = KeySource(ISSUER, KEYS_URL)
DISCOVERED = KeySource(ISSUER, None, frozenset({"issuer.example"}))


class Bench:
    """Key sets over a recorder, with a clock to move."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.sender = Recorder({KEYS_URL: key_set(rsa_key().jwk(), ec_key().jwk())})
        self.sets = KeySets(self.sender, self.clock)

    def has(self, kid: str, source: KeySource = SOURCE) -> bool:
        """Whether the issuer has the key."""
        return self.sets.find(source, kid, deadline()) is not None


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_set_is_fetched_once_for_all_its_keys_until_its_lifespan_ends(bench: Bench) -> None:
    assert bench.has("rsa-1")
    assert bench.has("ec-1")
    bench.clock.now += LIFESPAN - 1
    assert bench.has("rsa-1")
    assert bench.sender.urls == [KEYS_URL]
    bench.clock.now += 1
    assert bench.has("rsa-1")
    assert bench.sender.urls == [KEYS_URL, KEYS_URL]


def test_unknown_kids_cost_one_refresh_per_cooldown(bench: Bench) -> None:
    assert bench.has("rsa-1")
    bench.clock.now += COOLDOWN
    for number in range(20):
        assert not bench.has(f"made-up-{number}")
    assert len(bench.sender.calls) == 2
    bench.clock.now += COOLDOWN - 1
    assert not bench.has("made-up")
    assert len(bench.sender.calls) == 2
    bench.clock.now += 1
    assert not bench.has("made-up")
    assert len(bench.sender.calls) == 3


def test_a_new_key_is_found_and_a_withdrawn_key_is_gone_after_a_refresh(bench: Bench) -> None:
    assert bench.has("rsa-1")
    bench.sender.pages[KEYS_URL] = key_set(rsa_key("rsa-2").jwk())
    bench.clock.now += COOLDOWN
    assert bench.has("rsa-2")
    assert not bench.has("rsa-1")


def test_keys_are_held_per_issuer_and_kid(bench: Bench) -> None:
    other = KeySource("https://other.example", "https://other.example/keys")
    bench.sender.pages["https://other.example/keys"] = key_set(rsa_key("rsa-2").jwk())
    assert bench.has("rsa-1")
    assert not bench.has("rsa-1", other)
    assert bench.has("rsa-2", other)
    assert not bench.has("rsa-2")


@pytest.mark.parametrize(
    "failure",
    [
        UpstreamUnavailable("down"),
        DeadlineExceeded("late"),
        Answer(503, {}, b""),
        Answer(302, {"location": KEYS_URL}, b""),
        Answer(200, {}, b"<html>"),
        Answer(200, {}, b"[]"),
        page({"keys": {}}),
        page({"keys": []}),
        page({"keys": [{"kty": "RSA"}]}),
    ],
    ids=["down", "late", "503", "redirect", "html", "list", "no-list", "empty", "unusable"],
)
def test_the_last_good_set_serves_for_a_day_while_its_issuer_fails(
    bench: Bench, failure: Any
) -> None:
    assert bench.has("rsa-1")
    bench.sender.pages[KEYS_URL] = failure
    bench.clock.now += 24 * 3600 - 1
    assert bench.has("rsa-1")
    bench.clock.now += 1
    with pytest.raises(UpstreamUnavailable):
        bench.has("rsa-1")


def test_a_hung_issuer_costs_a_third_of_the_time_while_the_key_is_held(bench: Bench) -> None:
    waited = Clock()

    class HangsLater:
        def send(self, call: Call, deadline: Deadline, *, repeatable: bool) -> Answer:
            if bench.sender.calls:
                waited.now += deadline.remaining()
                raise DeadlineExceeded
            return bench.sender.send(call, deadline, repeatable=repeatable)

    sets = KeySets(HangsLater(), bench.clock)
    request = Deadline.after(9, waited)
    assert sets.find(SOURCE, "rsa-1", request) is not None
    bench.clock.now += LIFESPAN
    assert sets.find(SOURCE, "rsa-1", request) is not None
    assert request.remaining() == pytest.approx(6)
    # Whose key is not held has nothing better to spend its time on.
    bench.clock.now += COOLDOWN
    with pytest.raises(UpstreamUnavailable):
        sets.find(SOURCE, "rsa-2", request)
    assert request.remaining() == 0


def test_a_restored_process_asks_anew_and_uses_what_it_holds_until_it_is_told(
    bench: Bench,
) -> None:
    assert bench.has("rsa-1")
    bench.sets.restored()
    bench.sender.pages[KEYS_URL] = UpstreamUnavailable("down")
    assert bench.has("rsa-1")
    assert bench.has("rsa-1")
    assert len(bench.sender.calls) == 2
    bench.sender.pages[KEYS_URL] = key_set(rsa_key("rsa-2").jwk())
    bench.sets.restored()
    assert not bench.has("rsa-1")
    bench.clock.now += COOLDOWN
    assert bench.has("rsa-2")
    assert len(bench.sender.calls) == 3, "once is enough"


def test_an_unknown_kid_is_not_called_unknown_while_the_issuer_fails(bench: Bench) -> None:
    assert bench.has("rsa-1")
    bench.sender.pages[KEYS_URL] = UpstreamUnavailable("down")
    bench.clock.now += COOLDOWN
    with pytest.raises(UpstreamUnavailable) as refusal:
        bench.has("rsa-2")
    assert refusal.value.retry_after


def test_an_issuer_that_fails_from_the_start_is_not_asked_by_every_caller(bench: Bench) -> None:
    bench.sender.pages[KEYS_URL] = UpstreamUnavailable("down")
    for _ in range(10):
        with pytest.raises(UpstreamUnavailable):
            bench.has("rsa-1")
    assert len(bench.sender.calls) == 1
    bench.sender.pages[KEYS_URL] = key_set(rsa_key().jwk())
    bench.clock.now += 5
    assert bench.has("rsa-1")


def test_a_clock_set_back_does_not_keep_a_set_for_ever(bench: Bench) -> None:
    assert bench.has("rsa-1")
    bench.clock.now -= 10 * LIFESPAN
    assert bench.has("rsa-1")
    assert len(bench.sender.calls) == 2


def test_twenty_threads_cause_one_fetch(bench: Bench) -> None:
    def slow() -> Answer:
        time.sleep(0.05)
        return key_set(rsa_key().jwk())

    bench.sender.pages[KEYS_URL] = slow
    found: list[bool] = []
    threads = [threading.Thread(target=lambda: found.append(bench.has("rsa-1"))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 20
    assert len(bench.sender.calls) == 1


def test_a_refresh_under_way_does_not_hold_up_callers_whose_key_is_held(bench: Bench) -> None:
    assert bench.has("rsa-1")
    asked, may_answer = threading.Event(), threading.Event()

    def hanging() -> Answer:
        asked.set()
        may_answer.wait(20)
        return key_set(rsa_key().jwk())

    bench.sender.pages[KEYS_URL] = hanging
    bench.clock.now += LIFESPAN
    refresher = threading.Thread(target=bench.has, args=("rsa-1",))
    refresher.start()
    assert asked.wait(5)
    found: list[object] = []
    reader = threading.Thread(
        target=lambda: found.append(bench.sets.find(SOURCE, "rsa-1", deadline(60)))
    )
    reader.start()
    reader.join(10)
    waited = reader.is_alive()
    may_answer.set()
    refresher.join()
    reader.join()
    assert not waited
    assert found[0] is not None
    assert len(bench.sender.calls) == 2


UNUSABLE: dict[str, Any] = {
    "for encryption": rsa_key().jwk(use="enc"),
    "another algorithm": rsa_key().jwk(alg="RS384"),
    "null algorithm": rsa_key().jwk(alg=None),
    "private": rsa_key().jwk(d="AQAB"),
    "modulus is a number": rsa_key().jwk(n=17),
    "modulus is junk": rsa_key().jwk(n="???"),
    "empty kid": rsa_key().jwk(kid=""),
    "kid is a number": rsa_key().jwk(kid=17),
    "kid too long": rsa_key().jwk(kid="x" * 257),
    "no kid": {k: v for k, v in rsa_key().jwk().items() if k != "kid"},
    "RSA too short": rsa_key("rsa-1", 1024).jwk(),
    "P-384": Key("rsa-1", "ES384", ec.generate_private_key(ec.SECP384R1())).jwk(),
    "P-384 in name": ec_key().jwk(kid="rsa-1", crv="P-384"),
    "secp256k1": ec_key().jwk(kid="rsa-1", crv="secp256k1"),
    "not on the curve": ec_key().jwk(kid="rsa-1", x="AAAA"),
    "symmetric": {"kty": "oct", "kid": "rsa-1", "k": "c2VjcmV0"},
    "Ed25519": {"kty": "OKP", "crv": "Ed25519", "kid": "rsa-1", "x": "AAAA"},
    "type is a list": {"kty": ["RSA"], "kid": "rsa-1"},
    "no object": "rsa-1",
}


@pytest.mark.parametrize("entry", UNUSABLE.values(), ids=UNUSABLE)
def test_a_key_we_would_not_verify_with_is_left_out(bench: Bench, entry: Any) -> None:
    bench.sender.pages[KEYS_URL] = key_set(entry, rsa_key("good").jwk())
    assert bench.has("good")
    assert not bench.has("rsa-1")
    assert not bench.has("")


def test_an_id_that_names_two_keys_names_none(bench: Bench) -> None:
    twin = rsa_key("rsa-2").jwk(kid="rsa-1")
    bench.sender.pages[KEYS_URL] = key_set(rsa_key().jwk(), twin, ec_key().jwk())
    assert bench.has("ec-1")
    assert not bench.has("rsa-1")


def test_a_key_that_names_another_issuer_is_left_out(bench: Bench) -> None:
    source = KeySource(ISSUER, KEYS_URL, key_issuers=frozenset({ISSUER}))
    bench.sender.pages[KEYS_URL] = key_set(
        rsa_key().jwk(issuer="https://consumers.example"),
        rsa_key("listed").jwk(issuer=[ISSUER]),
        ec_key().jwk(issuer=ISSUER),
    )
    assert bench.has("ec-1", source)
    assert not bench.has("rsa-1", source)
    assert not bench.has("listed", source)


def test_a_set_too_large_is_refused(bench: Bench) -> None:
    keys = [rsa_key().jwk(kid=str(number)) for number in range(MAX_KEYS + 1)]
    bench.sender.pages[KEYS_URL] = key_set(*keys)
    with pytest.raises(UpstreamUnavailable):
        bench.has("0")
    bench.clock.now += COOLDOWN
    bench.sender.pages[KEYS_URL] = Answer(200, {}, key_set(rsa_key().jwk()).body + b" " * MAX_BYTES)
    with pytest.raises(UpstreamUnavailable):
        bench.has("rsa-1")


def test_discovery_finds_the_keys(bench: Bench) -> None:
    bench.sender.pages[DISCOVERY] = page({"issuer": ISSUER, "jwks_uri": KEYS_URL})
    assert bench.has("rsa-1", DISCOVERED)
    assert bench.sender.urls == [DISCOVERY, KEYS_URL]


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": ISSUER + "/", "jwks_uri": KEYS_URL},
        {"issuer": "https://evil.example", "jwks_uri": KEYS_URL},
        {"jwks_uri": KEYS_URL},
        {"issuer": ISSUER},
        {"issuer": ISSUER, "jwks_uri": 17},
        {"issuer": ISSUER, "jwks_uri": "http://issuer.example/keys"},
        {"issuer": ISSUER, "jwks_uri": "https://169.254.169.254/latest"},
        {"issuer": ISSUER, "jwks_uri": "https://issuer.example@evil.example/keys"},
        {"issuer": ISSUER, "jwks_uri": "https://user@issuer.example/keys"},
        {"issuer": ISSUER, "jwks_uri": "https://issuer.example:8443/keys"},
        {"issuer": ISSUER, "jwks_uri": "https://issuer.example./keys"},
        {"issuer": ISSUER, "jwks_uri": "https://issuer.example/keys#more"},
        {"issuer": ISSUER, "jwks_uri": "https://[issuer.example/keys"},
        {"issuer": ISSUER, "jwks_uri": "https://issuer.example/the keys"},
        {"issuer": ISSUER, "jwks_uri": "https://issuer.example/the\\keys"},
        {"issuer": ISSUER, "jwks_uri": "https://issuer.example/k\u00e9ys"},
        [ISSUER],
    ],
    ids=str,
)
def test_discovery_that_names_another_issuer_or_host_leads_nowhere(
    bench: Bench, document: Any
) -> None:
    bench.sender.pages[DISCOVERY] = page(document)
    with pytest.raises(UpstreamUnavailable):
        bench.has("rsa-1", DISCOVERED)
    assert bench.sender.urls == [DISCOVERY]


def test_discovery_follows_no_redirect(bench: Bench) -> None:
    document = json.dumps({"issuer": ISSUER, "jwks_uri": KEYS_URL}).encode()
    elsewhere = {"location": "https://evil.example/"}
    bench.sender.pages[DISCOVERY] = Answer(301, elsewhere, document)
    with pytest.raises(UpstreamUnavailable):
        bench.has("rsa-1", DISCOVERED)
    assert bench.sender.urls == [DISCOVERY]


def test_an_outage_of_an_issuer_is_told_once_while_its_keys_serve() -> None:
    clock, told = Clock(), list[str]()
    recorder = Recorder({KEYS_URL: key_set(rsa_key().jwk())})
    keys = KeySets(recorder, clock, told.append)
    assert keys.find(SOURCE, "rsa-1", deadline()) is not None
    recorder.pages.clear()
    for _ in range(3):
        clock.now += LIFESPAN
        assert keys.find(SOURCE, "rsa-1", deadline()) is not None
    assert told == [f"keys of {ISSUER}: the last good ones stay: no such page"]
    recorder.pages[KEYS_URL] = key_set(rsa_key().jwk())
    clock.now += LIFESPAN
    assert keys.find(SOURCE, "rsa-1", deadline()) is not None
    recorder.pages.clear()
    clock.now += LIFESPAN
    keys.find(SOURCE, "rsa-1", deadline())
    assert len(told) == 2
