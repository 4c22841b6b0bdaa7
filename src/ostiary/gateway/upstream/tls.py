"""TLS towards providers: one context per trust. It must not take trust, or a key log, from the environment."""

from __future__ import annotations

import ssl
from pathlib import Path

# Where systems keep their roots, for interpreters that were built elsewhere and look in the wrong place.
_SYSTEM_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


def client_context(*, verify: bool, ca_file: str | None) -> ssl.SSLContext:
    """A context for TLS 1.2 or later with HTTP/1.1 by ALPN, host names checked.

    Not `ssl.create_default_context()`: that one obeys SSL_CERT_FILE, SSL_CERT_DIR and SSLKEYLOGFILE, by which whoever
    sets a variable decides whom we trust, or reads the traffic.

    Args:
        verify: False switches all checks of the certificate off; only ever as configured for this deployment.
        ca_file: a PEM file that replaces the system's roots for this deployment.

    Raises:
        OSError: `ca_file` cannot be read or holds no certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif ca_file is not None:
        context.load_verify_locations(cafile=ca_file)
    else:
        _load_system_roots(context)
    return context


def _load_system_roots(context: ssl.SSLContext) -> None:
    paths = ssl.get_default_verify_paths()
    file = next((path for path in (paths.openssl_cafile, *_SYSTEM_BUNDLES) if Path(path).is_file()), None)
    directory = paths.openssl_capath if Path(paths.openssl_capath).is_dir() else None
    if file is not None or directory is not None:
        context.load_verify_locations(cafile=file, capath=directory)
