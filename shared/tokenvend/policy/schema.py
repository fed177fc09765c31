"""JSON Schema of a policy, for editors (taplo, Even Better TOML, VS Code) while it is written.

The compiler is the judge; a schema cannot say all that it checks. Whatever loads fits the schema.
"""

from __future__ import annotations

from tokenvend.policy import boundary, callers, compiler, values
from tokenvend.policy.compiled import Mode

_Schema = dict[str, object]

_GUID = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
_EMAIL = r"^[a-z0-9][a-z0-9-]*@([a-z0-9][a-z0-9-]*\.)+gserviceaccount\.com$"


def json_schema() -> _Schema:
    """The schema, draft 2020-12, as a fresh tree."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "tokenvend policy",
        "description": "Who may have which Google tokens. Deny by default.",
        **_table(
            {
                "version": {"const": 1},
                "mode": _mode(),
                "grant": {"type": "array", "items": _grant(), "maxItems": compiler.MAX_GRANTS},
            },
            required=["version"],
        ),
    }


def _grant() -> _Schema:
    grant = _table(
        {
            "name": {
                "type": "string",
                "pattern": r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
                "description": "Named in requests and in the audit record; stands once.",
            },
            "callers": {
                "type": "array",
                "minItems": 1,
                "maxItems": callers.MAX_CALLERS,
                "items": {"anyOf": [_aws(), _lambda(), _entra(), _oidc()]},
                "description": "Alternatives; the fields of one entry must all fit.",
            },
            "service_account": _email("Whom the tokens speak for."),
            "direct": {"const": True, "description": "Give the federated token itself."},
            "delegates": {
                "type": "array",
                "items": _email("A service account in the chain of delegation."),
                "uniqueItems": True,
                "maxItems": compiler.MAX_DELEGATES,
            },
            "access_token": _access_token(),
            "id_token": _id_token(),
            "not_before": _moment("The grant holds from then."),
            "expires": _moment("The grant holds until before then."),
            "mode": _mode(),
            "attribute": {
                "const": "caller",
                "description": "Google's logs and IAM see the caller. On AWS alone.",
            },
        },
        required=["name", "callers"],
    )
    grant["oneOf"] = [{"required": ["service_account"]}, {"required": ["direct"]}]
    grant["anyOf"] = [{"required": ["access_token"]}, {"required": ["id_token"]}]
    return grant


def _aws() -> _Schema:
    schema = _table(
        {
            "aws_role": {
                "type": "string",
                "pattern": r"^arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@*-]{1,64}$",
                "description": "A role's ARN without path; * crosses neither / nor :.",
            },
            "aws_user": {
                "type": "string",
                "pattern": r"^arn:aws[a-z-]*:iam::[0-9]{12}:user/[!-~]{1,577}$",
                "description": "A user's ARN; * crosses neither / nor :.",
            },
            "aws_account": {"type": "string", "pattern": "^[0-9]{12}$"},
            "aws_organization": {"type": "string", "pattern": "^o-[a-z0-9]{10,32}$"},
        }
    )
    return schema | {"minProperties": 1, "not": {"required": ["aws_role", "aws_user"]}}


def _lambda() -> _Schema:
    alias: _Schema = {
        "type": "string",
        "pattern": "^(?![0-9]+$)[A-Za-z0-9_-]{1,128}$",
        "description": "Whoever may invoke this alias of the function directly.",
    }
    return _table({"lambda_alias": alias}, required=["lambda_alias"])


def _entra() -> _Schema:
    guid: _Schema = {"type": "string", "pattern": _GUID}
    role = {"type": "string", "pattern": "^[!-~]{1,120}$"}
    roles = {"type": "array", "items": role, "minItems": 1, "maxItems": callers.MAX_ROLES}
    keys: dict[str, _Schema] = {
        "entra_tenant": guid,
        "entra_object": {**guid, "description": "The service principal's object id (oid)."},
        "entra_app": {**guid, "description": "The client id (appid or azp)."},
        "entra_role": {"anyOf": [role, roles], "description": "App roles; all are needed."},
    }
    schema = _table(keys, required=["entra_tenant"])
    return schema | {"minProperties": 2}


def _oidc() -> _Schema:
    keys: dict[str, _Schema] = {
        "issuer": {"type": "string", "pattern": "^https://[^?#@ ]+$"},
        "claims": {
            "type": "object",
            "minProperties": 1,
            "maxProperties": callers.MAX_CLAIMS,
            "additionalProperties": {"type": "string", "minLength": 1},
            "description": "All must fit; * crosses neither / nor :.",
        },
    }
    return _table(keys, required=["issuer", "claims"])


def _access_token() -> _Schema:
    scope = {"type": "string", "pattern": "^(https://[^ ]+|openid|email|profile)$"}
    rule = _table(
        {
            "bucket": {"type": "string"},
            "prefix": {"type": "string", "minLength": 1, "maxLength": boundary.MAX_PREFIX},
            "roles": {
                "type": "array",
                "items": {"type": "string"},
                "minItems": 1,
                "maxItems": boundary.MAX_ROLES,
            },
        },
        required=["bucket", "roles"],
    )
    keys: dict[str, _Schema] = {
        "scopes": {
            "type": "array",
            "items": scope,
            "minItems": 1,
            "maxItems": compiler.MAX_SCOPES,
            "uniqueItems": True,
        },
        "max_lifetime": {
            "type": "string",
            "pattern": "^[0-9]{1,6}[smh]$",
            "description": "Up to 12h; 1h where left out. Not for a direct grant.",
        },
        "boundary": {"type": "array", "items": rule, "maxItems": boundary.MAX_RULES},
    }
    return _table(keys, required=["scopes"])


def _id_token() -> _Schema:
    audiences: _Schema = {
        "type": "array",
        "items": {"type": "string", "minLength": 1, "maxLength": values.MAX_AUDIENCE},
        "minItems": 1,
        "maxItems": compiler.MAX_AUDIENCES,
        "uniqueItems": True,
        "description": "Who accepts the tokens; * crosses neither / nor :.",
    }
    return _table({"audiences": audiences}, required=["audiences"])


def _email(description: str) -> _Schema:
    return {"type": "string", "pattern": _EMAIL, "description": description}


def _moment(description: str) -> _Schema:
    return {"type": "string", "format": "date-time", "description": description}


def _mode() -> _Schema:
    return {
        "enum": [str(mode) for mode in Mode],
        "description": "shadow: limits are reported and not held.",
    }


def _table(keys: dict[str, _Schema], *, required: list[str] | None = None) -> _Schema:
    schema: _Schema = {"type": "object", "properties": keys, "additionalProperties": False}
    return schema | ({"required": required} if required else {})
