"""Token services on loopback that judge what they are asked, a clock moved by hand, and deployments to sign for."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from ostiary.core.snapshot import Deployment

CANARY = "canary-of-the-service-5519"
JWT = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ0ZXN0In0.c2ln"


class HandClock:
    """The calendar at the time of the test, moved by hand."""

    def __init__(self) -> None:
        self.at = time.time()

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at


class Asked(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(self.body.decode()).items()}


class Told(NamedTuple):
    status: int
    body: bytes
    headers: Mapping[str, str] = MappingProxyType({})


def told(status: int, document: object, **headers: str) -> Told:
    """A JSON answer."""
    more = {name.replace("_", "-"): text for name, text in headers.items()}
    return Told(status, json.dumps(document).encode(), {"content-type": "application/json", **more})


class Service:
    """Answers on a loopback port chosen at run time; `hold` keeps every answer back until `free` is set."""

    def __init__(self, answer: Callable[[Asked], Told], hosts: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self.asked: list[Asked] = []
        self.free = threading.Event()
        self.free.set()
        service = self

        class Talk(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = int(self.headers.get("content-length", "0"))
                headers = {name.lower(): text for name, text in self.headers.items()}
                asked = Asked(self.command, self.path, headers, self.rfile.read(length))
                service.asked.append(asked)
                service.free.wait()
                status, body, more = answer(asked)
                with contextlib.suppress(OSError):
                    self.send_response(status)
                    for name, text in {"content-length": str(len(body)), "connection": "close", **more}.items():
                        self.send_header(name, text)
                    self.end_headers()
                    self.wfile.write(body)

            do_GET = do_PUT = do_POST  # noqa: N815

            def log_message(self, *args: object) -> None: ...

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None: ...

        self._http = Quiet(hosts, Talk)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.free.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@contextlib.contextmanager
def serving(answer: Callable[[Asked], Told]) -> Iterator[Service]:
    service = Service(answer)
    try:
        yield service
    finally:
        service.close()


def unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def genuine(asked: Asked, credentials: Credentials) -> bool:
    """Whether the signature is the one that botocore makes for this request, and covers what it must."""
    given = asked.headers["authorization"]
    scope = given.partition("Credential=")[2].partition(",")[0].split("/")
    names = given.partition("SignedHeaders=")[2].partition(",")[0].split(";")
    if not {"host", *(name for name in asked.headers if name.startswith("x-amz-"))} <= set(names):
        return False
    request = AWSRequest(
        asked.method,
        f"http://{asked.headers['host']}{asked.path}",
        {name: asked.headers[name] for name in names},
        asked.body,
    )
    request.context["timestamp"] = asked.headers["x-amz-date"]
    auth = SigV4Auth(credentials, scope[3], scope[2])
    text = auth.string_to_sign(request, auth.canonical_request(request))
    return scope[0] == credentials.access_key and given.endswith(f"Signature={auth.signature(text, request)}")


class FakeSts:
    """AssumeRole, whose signature is judged by botocore, and AssumeRoleWithWebIdentity, whose token is."""

    def __init__(self, *known: Credentials) -> None:
        self.known = {one.access_key: one for one in known}
        self.given = 0
        self.lasts = 3600

    def __call__(self, asked: Asked) -> Told:
        form = asked.form
        if form["Action"] == "AssumeRoleWithWebIdentity":
            if form["WebIdentityToken"] != JWT or "authorization" in asked.headers:
                return self.error("InvalidIdentityToken")
        else:
            key_id = asked.headers["authorization"].partition("Credential=")[2].partition("/")[0]
            if key_id not in self.known or not genuine(asked, self.known[key_id]):
                return self.error("SignatureDoesNotMatch")
        self.given += 1
        made = Credentials(f"ASIA{self.given:04}", f"made secret {self.given}", f"session/{self.given}+=")
        self.known[made.access_key] = made
        expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + self.lasts))
        action = form["Action"]
        return Told(
            200,
            f'<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{action}Result><Credentials>'
            f"<AccessKeyId>{made.access_key}</AccessKeyId><SecretAccessKey>{made.secret_key}</SecretAccessKey>"
            f"<SessionToken>{made.token}</SessionToken><Expiration>{expires}</Expiration></Credentials>"
            f"</{action}Result></{action}Response>".encode(),
        )

    @staticmethod
    def error(code: str) -> Told:
        return Told(403, f"<ErrorResponse><Error><Code>{code}</Code><Message>{CANARY}</Message></Error></x>".encode())


class FakeGoogle:
    """The token endpoint, the exchange of STS, and generateAccessToken, after their public documentation."""

    def __init__(self) -> None:
        self.private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.claims: dict[str, Any] = {}
        self.header: dict[str, Any] = {}
        self.given = 0

    def document(self) -> dict[str, str]:
        """A service account's key file. Its `token_uri` leads astray."""
        pem = self.private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return {
            "type": "service_account",
            "project_id": "p",
            "client_email": "gate@p.iam.gserviceaccount.com",
            "private_key": pem.decode(),
            "private_key_id": "k1",
            "token_uri": "http://127.0.0.1:9/token",
        }

    def __call__(self, asked: Asked) -> Told:
        if asked.path.startswith("/computeMetadata/"):
            if asked.headers.get("metadata-flavor") != "Google":
                return Told(403, b"")
            return self._token(metadata_flavor="Google")
        if asked.path.endswith(":generateAccessToken"):
            if asked.headers.get("authorization") != f"Bearer ya29.{self.given}":
                return told(401, {"error": {"message": CANARY}})
            expires = time.strftime("%Y-%m-%dT%H:%M:%S.123456789Z", time.gmtime(time.time() + 1800))
            return told(200, {"accessToken": "ya29.impersonated", "expireTime": expires})
        form = asked.form
        if form["grant_type"] == "refresh_token":
            if form["refresh_token"] != "1//refresh" or form["client_secret"] != "user secret":
                return told(400, {"error": "invalid_grant", "error_description": CANARY})
            return self._token()
        if form["grant_type"].endswith("token-exchange"):
            return self._token() if form["subject_token"] == JWT else told(400, {"error": "invalid_request"})
        head, claims, signature = form["assertion"].split(".")
        self.private.public_key().verify(
            unpadded(signature), f"{head}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256()
        )
        self.header, self.claims = json.loads(unpadded(head)), json.loads(unpadded(claims))
        return self._token()

    def _token(self, **headers: str) -> Told:
        self.given += 1
        document = {"access_token": f"ya29.{self.given}", "expires_in": 3599, "token_type": "Bearer"}
        return told(200, document, **headers)


class FakeEntra:
    """The token endpoint of a tenant, and that of managed identities, after their public documentation."""

    def __init__(self) -> None:
        self.given = 0

    def __call__(self, asked: Asked) -> Told:
        if asked.path.startswith("/metadata/identity/"):
            if asked.headers.get("metadata") != "true":
                return told(400, {"error": "invalid_request"})
            return told(200, {"access_token": "eyJ.managed", "expires_in": "86399", "resource": "r"})
        form = asked.form
        proof = form.get("client_secret") == "entra secret" or form.get("client_assertion") == JWT
        if asked.path != "/tenant-1/oauth2/v2.0/token" or form["client_id"] != "app-1" or not proof:
            return told(401, {"error": "invalid_client", "error_description": CANARY})
        self.given += 1
        return told(200, {"access_token": f"eyJ.entra.{self.given}", "expires_in": 3599, "token_type": "Bearer"})


def deployment(**fields: Any) -> Deployment:
    """A deployment at `https://api.example`."""
    base = {"id": "d", "model_name": "m", "provider": "p", "upstream_model": "u", "scheme": "https"}
    return Deployment(**{**base, "host": "api.example", "port": 443, "base_path": "", **fields})
