"""The variables by which any program reaches the embedded cloud and trusts it, and nothing else.

Both spellings where programs differ: curl reads the small `http_proxy` alone, others the large one.
Plain http goes through the proxy too, since the link-local addresses of instance metadata mean
this caller's machine there; so NO_PROXY names loopback alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from localcloud.wire.net import Authority

NO_PROXY = "127.0.0.1,localhost"
# Java knows no truststore without a password; this one protects a public certificate.
TRUSTSTORE_PASSWORD = "changeit"  # noqa: S105


def write_trust(authority: Authority, directory: Path) -> Path:
    """Write the authority's certificate as `ca.pem` and, for Java, as `ca.p12`; the former's path.

    What other programs of this machine trust is left as it is.
    """
    bundle = directory / "ca.pem"
    authority.write_bundle(bundle)
    authority.write_truststore(bundle.with_suffix(".p12"), TRUSTSTORE_PASSWORD)
    return bundle


def environment(port: int, bundle: Path) -> dict[str, str]:
    """The environment of a program behind one port of the proxy that trusts one bundle (PEM).

    Java's truststore lies beside the bundle. gRPC takes the bundle from its own variable, gcloud
    and httplib2 each from theirs.
    """
    proxy = f"http://127.0.0.1:{port}"
    proxies = {"HTTPS_PROXY": proxy, "HTTP_PROXY": proxy, "NO_PROXY": NO_PROXY}
    bundles = (
        "REQUESTS_CA_BUNDLE",
        "SSL_CERT_FILE",
        "NODE_EXTRA_CA_CERTS",
        "AWS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "HTTPLIB2_CA_CERTS",
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
        "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
    )
    return {
        **proxies,
        **{name.lower(): value for name, value in proxies.items()},
        **dict.fromkeys(bundles, str(bundle)),
        "CLOUDSDK_PROXY_TYPE": "http",
        "CLOUDSDK_PROXY_ADDRESS": "127.0.0.1",
        "CLOUDSDK_PROXY_PORT": str(port),
        "JAVA_TOOL_OPTIONS": _java(port, bundle.with_suffix(".p12")),
    }


def _java(port: int, truststore: Path) -> str:
    properties = {
        "http.proxyHost": "127.0.0.1",
        "http.proxyPort": port,
        "https.proxyHost": "127.0.0.1",
        "https.proxyPort": port,
        "http.nonProxyHosts": "127.0.0.1|localhost",
        "javax.net.ssl.trustStore": truststore,
        "javax.net.ssl.trustStoreType": "PKCS12",
        "javax.net.ssl.trustStorePassword": TRUSTSTORE_PASSWORD,
    }
    # The launcher splits at spaces, unless they are quoted.
    return " ".join(_quoted(f"-D{name}={value}") for name, value in properties.items())


def _quoted(option: str) -> str:
    return f'"{option}"' if " " in option else option
