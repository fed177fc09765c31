"""People: what a signed-in person's shell holds, so that gcloud and terraform act as them.

There is no page to sign in at; whoever may read the cloud's own files is anybody they choose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from localcloud.google.core.principals import UserPrincipal
from localcloud.google.core.tokens import CLOUD_PLATFORM, IssuedToken

if TYPE_CHECKING:
    from localcloud.google.core.cloud import GoogleCloud

LIFETIME = 3600
# Those that `gcloud auth login` asks for, as far as anything here is told apart by them.
SCOPES = frozenset({"openid", "https://www.googleapis.com/auth/userinfo.email", CLOUD_PLATFORM})


def environment_of(cloud: GoogleCloud, name: str) -> dict[str, str]:
    """The variables of a person's shell; raises KeyError when the directory has no such person.

    The token lives an hour, as `gcloud auth print-access-token` gives it; gcloud reads
    CLOUDSDK_AUTH_ACCESS_TOKEN, terraform GOOGLE_OAUTH_ACCESS_TOKEN. The project is the world's
    first.
    """
    person = cloud.world.google.user(name)
    if person is None:
        raise KeyError(name)
    now = cloud.clock()
    principal = UserPrincipal(person.primary_email)
    token = IssuedToken(principal, SCOPES, int(now) + LIFETIME)
    text = cloud.tokens.issue(token, now)
    variables = {"CLOUDSDK_AUTH_ACCESS_TOKEN": text, "GOOGLE_OAUTH_ACCESS_TOKEN": text}
    if projects := cloud.world.google.projects:
        variables["CLOUDSDK_CORE_PROJECT"] = projects[0].project_id
    return variables
