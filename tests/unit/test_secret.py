"""A secret leaves only when asked to."""

from __future__ import annotations

import copy
import hashlib
import hmac
import json
import logging
import pickle
from dataclasses import asdict

import pytest

from tokenvend.model import FederatedToken, Secret

VALUE = "ya29.very-secret"


def test_no_way_of_showing_a_secret_shows_its_value(subtests: pytest.Subtests) -> None:
    for show in [
        repr,
        str,
        lambda s: f"{s}",
        lambda s: f"{s!r:>40}",
        lambda s: "%s" % s,  # noqa: UP031 -- the old way leaks or it does not
        lambda s: repr(asdict(FederatedToken(s, 0, 1))),
        lambda s: repr(copy.deepcopy({"token": s})),
        lambda s: json.dumps({"token": s}, default=str),
        lambda s: logging.LogRecord("n", 20, "p", 1, "%s", (s,), None).getMessage(),
    ]:
        with subtests.test(show=show):
            assert callable(show)
            assert VALUE not in show(Secret(VALUE))


def test_a_secret_cannot_be_pickled() -> None:
    with pytest.raises(TypeError):
        pickle.dumps(Secret(VALUE))


def test_a_fingerprint_is_keyed_when_there_is_a_key() -> None:
    secret = Secret(VALUE)
    assert secret.fingerprint() == hashlib.sha256(VALUE.encode()).hexdigest()
    assert secret.fingerprint(b"k") == hmac.new(b"k", VALUE.encode(), "sha256").hexdigest()


def test_secrets_compare_by_value_and_with_secrets_alone() -> None:
    assert Secret(VALUE) == Secret(VALUE)
    assert Secret(VALUE) != Secret("other")
    assert Secret(VALUE) != VALUE
    assert len({Secret(VALUE), Secret(VALUE)}) == 1
