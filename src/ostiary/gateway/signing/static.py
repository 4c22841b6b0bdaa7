"""Credentials that travel as a fixed header: bearer tokens and header keys. It must not sign for another host.

The header lines are made from one deployment, and its head is written for that deployment's host alone: there is no
argument by which a caller could send them elsewhere (law 7).
"""

from __future__ import annotations

from ostiary.core.snapshot import AuthStyle, Deployment


def auth_line(deployment: Deployment) -> bytes:
    """The header line that carries the deployment's credential; empty where it has none.

    Raises:
        ValueError: the credential cannot stand in a header.
    """
    if deployment.auth is AuthStyle.NONE or deployment.credential is None:
        return b""
    value = deployment.credential.reveal()
    if not value.isascii() or not value.isprintable() or value != value.strip():
        raise ValueError(f"the credential of deployment {deployment.id} cannot stand in a header")
    if deployment.auth is AuthStyle.BEARER:
        return f"authorization: Bearer {value}\r\n".encode()
    return f"{deployment.auth_header}: {value}\r\n".encode()
