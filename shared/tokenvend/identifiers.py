"""How the clouds spell the names that we take, each once: what is not exactly of its form is none.

Match with `fullmatch`. Nothing here is fit for a search in a longer text.
"""

from __future__ import annotations

import re

# --- AWS: IAM User Guide, "IAM identifiers"; Lambda API Reference, CreateAlias ---
PARTITION = "aws|aws-cn|aws-us-gov|aws-eusc|aws-iso|aws-iso-b|aws-iso-e|aws-iso-f"
AWS_ACCOUNT = re.compile(r"[0-9]{12}")
AWS_NAME = r"[A-Za-z0-9_+=,.@-]"
"""One character of a role's, a user's or a session's name."""
AWS_REGION = re.compile(r"(?P<area>us-gov|[a-z]{2})-[a-z]{1,16}-[0-9]{1,2}")
AWS_ORGANIZATION = re.compile(r"o-[a-z0-9]{10,32}")
AWS_SESSION_ARN = re.compile(
    rf"arn:(?P<partition>{PARTITION}):sts::(?P<account>[0-9]{{12}}):assumed-role/"
    rf"(?P<role>{AWS_NAME}{{1,64}})/(?P<session>{AWS_NAME}{{2,64}})"
)
# A user's path may hold slashes and read `assumed-role/Admin/`; the service and the resource type
# tell a user from a role, never a search for "assumed-role/" in the text.
AWS_USER_ARN = re.compile(
    rf"arn:(?:{PARTITION}):iam::(?P<account>[0-9]{{12}}):user/(?:[!-~]{{1,510}}/)?{AWS_NAME}{{1,64}}"
)
API_ID = re.compile(r"[a-z0-9]{1,40}")
LAMBDA_ALIAS = re.compile(r"(?![0-9]+$)[A-Za-z0-9_-]{1,128}")
"""Never digits alone: those are a version."""
LAMBDA_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
LAMBDA_ARN = re.compile(
    rf"arn:(?:{PARTITION}):lambda:[a-z0-9-]{{1,32}}:(?P<account>[0-9]{{12}}):"
    r"function:(?P<name>[A-Za-z0-9_-]{1,64})(?::(?P<qualifier>[A-Za-z0-9_$-]{1,128}))?"
)

# --- Microsoft -----------------------------------------------------------------------------------
GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""In lower case, as tokens hold them; portals and scripts write either."""
APP_ROLE = re.compile(r"[!-~]{1,120}")
"""https://learn.microsoft.com/entra/identity-platform/howto-add-app-roles-in-apps"""

# --- OpenID Connect ------------------------------------------------------------------------------
HTTPS_URL = re.compile(r"https://(?P<host>[a-z0-9.-]{1,253})(?:/[A-Za-z0-9._~%/-]{0,512})?")
"""An issuer (Discovery 1.0 section 2: no query, no fragment) or its keys; no port, no user info."""
CLAIM = re.compile(r"[A-Za-z0-9_.:/-]{1,200}")
"""A claim's name."""

# --- Google --------------------------------------------------------------------------------------
GOOGLE_REGION = re.compile(r"[a-z]{2,}(?:-[a-z]+)+[0-9]+")
# https://cloud.google.com/iam/docs/service-account-types: user-managed, default and agent accounts
# all end in gserviceaccount.com. Strict, because the name enters a URL's path.
_SERVICE_ACCOUNT_EMAIL = re.compile(
    r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.){1,8}"
    r"gserviceaccount\.com"
)


def is_service_account_email(text: str) -> bool:
    """Whether `text` is a service account's email and nothing more."""
    return len(text) <= 254 and _SERVICE_ACCOUNT_EMAIL.fullmatch(text) is not None  # noqa: PLR2004


# --- ours ----------------------------------------------------------------------------------------
GRANT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""In a policy, in a request and as part of an audience."""
