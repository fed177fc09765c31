"""IAM: workload identity pools and providers, service accounts, their policies, roles.

https://cloud.google.com/iam/docs/reference/rest
"""

from __future__ import annotations

from localcloud.google.core.tokens import CLOUD_PLATFORM, IAM_SCOPE
from localcloud.google.iam import accounts, pools, providers, roles
from localcloud.wire.routes import Service, Unserved

SERVICE = Service(
    "Identity and Access Management (IAM) API",
    ("iam.googleapis.com", "iam.mtls.googleapis.com"),
    (*pools.ROUTES, *providers.ROUTES, *accounts.ROUTES, *roles.ROUTES),
    document="iam.v1",
    unserved=(
        *pools.UNSERVED,
        *providers.UNSERVED,
        *accounts.UNSERVED,
        *roles.UNSERVED,
        Unserved("iam.locations.*", "workforce pools are for people; the callers are workloads"),
        Unserved("iam.organizations.*", "a world has no organization"),
        Unserved("iam.projects.locations.oauthClients.*", "for people's sign-in"),
        Unserved("iam.iamPolicies.*", "a console's help, which no client of the guide calls"),
        Unserved("iam.permissions.*", "a console's help, which no client of the guide calls"),
    ),
    scopes=(CLOUD_PLATFORM, IAM_SCOPE),
)
