"""What a workload identity pool provider must be: Google refuses any other at its creation.

Limits, attribute keys and CEL as the iam.v1 discovery document describes them. Providers of SAML
and X.509 are left out, and said so.
https://cloud.google.com/iam/docs/workload-identity-federation#mapping
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import jwt

from localcloud.google.core.cel import attribute_condition_problem, mapping_problem
from localcloud.google.core.errors import GoogleError, invalid_argument
from localcloud.google.sts.federation import MAX_CONDITION, MAX_CUSTOM, MAX_EXPRESSION

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_AUDIENCES = 10
MAX_AUDIENCE = 256
MAX_ISSUER = 2000
_KEY = re.compile(r"attribute\.[a-z0-9_]{1,100}")
_RESERVED = ("google.subject", "google.groups")
_JWK_FIELDS = {"kty", "alg", "use", "kid", "n", "e", "x", "y", "crv"}
_SHARED_ISSUERS = (
    "https://token.actions.githubusercontent.com",
    "https://gitlab.com",
    "https://app.terraform.io",
)
"""Issuers that sign for everybody: a provider of theirs needs a condition."""


def check_provider(message: Mapping[str, Any]) -> None:
    """Raise Google's 400 for a provider, by its fields in snake_case, that it would not take."""
    _check_kind(message)
    aws, oidc = message.get("aws"), message.get("oidc")
    if aws is not None:
        _check_aws(aws)
    if oidc is not None:
        _check_oidc(oidc)
    _check_mapping(message.get("attribute_mapping", {}), needed=oidc is not None)
    _check_condition(message.get("attribute_condition", ""), oidc or {})


def _check_kind(message: Mapping[str, Any]) -> None:
    for field, words in (("saml", "SAML"), ("x509", "X.509")):
        if message.get(field) is not None:
            raise GoogleError("UNIMPLEMENTED", f"The embedded cloud serves no {words} providers.")
    if message.get("actor_providers"):
        raise GoogleError("UNIMPLEMENTED", "The embedded cloud serves no actor providers.")
    kinds = [kind for kind in ("aws", "oidc") if message.get(kind) is not None]
    if len(kinds) != 1:
        text = "Exactly one of aws, oidc, saml or x509 must be specified as the provider config."
        raise invalid_argument(text, "provider_config")


def _check_aws(aws: Mapping[str, Any]) -> None:
    if not re.fullmatch("[0-9]{12}", aws.get("account_id", "")):
        text = "Invalid AWS account ID. It must be a 12-digit number."
        raise invalid_argument(text, "aws.account_id")


def _check_oidc(oidc: Mapping[str, Any]) -> None:
    if oidc.get("discovery_uri"):
        raise GoogleError("UNIMPLEMENTED", "The embedded cloud serves no discovery_uri.")
    issuer = oidc.get("issuer_uri", "")
    if not issuer:
        raise invalid_argument("issuer_uri is required for an OIDC provider.", "oidc.issuer_uri")
    parts = urlsplit(issuer)
    if parts.scheme != "https" or not parts.hostname or len(issuer) > MAX_ISSUER:
        text = f"The issuer URI '{issuer[:MAX_ISSUER]}' must be a valid HTTPS URI."
        raise invalid_argument(text, "oidc.issuer_uri")
    if parts.query or parts.fragment or "@" in parts.netloc or re.search(r"\s", issuer):
        text = f"The issuer URI '{issuer}' must have no query, fragment or user."
        raise invalid_argument(text, "oidc.issuer_uri")
    _check_audiences(oidc.get("allowed_audiences", []))
    if oidc.get("jwks_json"):
        _check_keys(oidc["jwks_json"])


def _check_audiences(audiences: list[str]) -> None:
    if len(audiences) > MAX_AUDIENCES:
        text = f"At most {MAX_AUDIENCES} allowed audiences may be configured."
        raise invalid_argument(text, "oidc.allowed_audiences")
    for audience in audiences:
        if not 1 <= len(audience) <= MAX_AUDIENCE:
            text = f"Each allowed audience must have 1 to {MAX_AUDIENCE} characters."
            raise invalid_argument(text, "oidc.allowed_audiences")


def _check_keys(text: str) -> None:
    field = "oidc.jwks_json"
    try:
        document = json.loads(text)
        keys = document["keys"]
        if document.keys() != {"keys"} or not isinstance(keys, list) or not keys:
            raise invalid_argument("The JWKS must have the one field 'keys'.", field)
        for key in keys:
            if not key.keys() <= _JWK_FIELDS:
                unknown = sorted(key.keys() - _JWK_FIELDS)
                raise invalid_argument(f"Invalid field in JWK: {', '.join(unknown)}.", field)
            if key.get("kty") not in ("RSA", "EC"):
                raise invalid_argument("JWKs must be of type RSA or EC.", field)
            if not key.get("kid"):
                raise invalid_argument("Every JWK needs a kid.", field)
            jwt.PyJWK(key)
    except (ValueError, TypeError, KeyError, AttributeError, jwt.PyJWTError, RecursionError):
        raise invalid_argument("The JWKS is not valid.", field) from None


def _check_mapping(mapping: Mapping[str, str], *, needed: bool) -> None:
    field = "attribute_mapping"
    for key, expression in mapping.items():
        if key not in _RESERVED and not _KEY.fullmatch(key):
            text = (
                f"Invalid mapped attribute key: {key}. Custom mapped attributes must be in format "
                "'attribute.{custom_attribute}'"
            )
            raise invalid_argument(text, field)
        if len(expression) > MAX_EXPRESSION:
            text = f"The mapping of {key} exceeds the {MAX_EXPRESSION} characters limit."
            raise invalid_argument(text, field)
        kinds = ("STRING", "LIST<STRING>") if key == "google.groups" else ("STRING",)
        if problem := mapping_problem(expression, *kinds):
            text = f"Could not compile the attribute mapping of {key}: {problem}"
            raise invalid_argument(text, field)
    if sum(key not in _RESERVED for key in mapping) > MAX_CUSTOM:
        text = f"At most {MAX_CUSTOM} custom attributes may be mapped."
        raise invalid_argument(text, field)
    if (needed or mapping) and "google.subject" not in mapping:
        raise invalid_argument("The attribute mapping must include google.subject.", field)


def _check_condition(condition: str, oidc: Mapping[str, Any]) -> None:
    field = "attribute_condition"
    if len(condition) > MAX_CONDITION:
        text = f"The attribute condition exceeds the {MAX_CONDITION} characters limit."
        raise invalid_argument(text, field)
    if condition and (problem := attribute_condition_problem(condition)):
        raise invalid_argument(f"Could not compile the attribute condition: {problem}", field)
    shared = oidc.get("issuer_uri", "").startswith(_SHARED_ISSUERS)
    if shared and not re.search(r"\b(assertion|google|attribute)\b", condition):
        text = "The attribute condition must reference one of the provider's claims."
        raise invalid_argument(text, field)
