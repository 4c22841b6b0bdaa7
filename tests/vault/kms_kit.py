"""Servers for the tests of key services: one that answers by a function, and fakes with key states on top of it."""

from __future__ import annotations

import base64
import contextlib
import datetime
import ipaddress
import json
import os
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from cryptography import x509
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.x509.oid import NameOID

ROOT = bytes(range(200, 232))
CONTEXT = {"instance": "7f3c", "region": "eu", "purpose": "root"}
OTHERS = [
    {**CONTEXT, "instance": "7f3d"},
    {**CONTEXT, "region": "us"},
    {"instance": "7f3c", "region": "eu"},
    {**CONTEXT, "more": "x"},
    {},
]


class Asked(NamedTuple):
    """One request that a server got."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        return json.loads(self.body)


class Told(NamedTuple):
    """What it answers."""

    status: int
    body: bytes
    headers: Mapping[str, str] = MappingProxyType({})


def told(status: int, document: object, **headers: str) -> Told:
    """A JSON answer."""
    return Told(status, json.dumps(document).encode(), {name.replace("_", "-"): text for name, text in headers.items()})


class Server:
    """Answers on a loopback port chosen at run time. `instead` overrides every answer; `hold` keeps them back."""

    def __init__(self, answer: Callable[[Asked], Told], tls: ssl.SSLContext | None = None) -> None:
        self.asked: list[Asked] = []
        self.instead: Told | None = None
        self.free = threading.Event()
        self.free.set()
        server = self

        class Talk(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = int(self.headers.get("content-length", "0"))
                headers = {name.lower(): text for name, text in self.headers.items()}
                asked = Asked(self.command, self.path, headers, self.rfile.read(length))
                server.asked.append(asked)
                server.free.wait()
                status, body, more = server.instead or answer(asked)
                with contextlib.suppress(OSError):  # who asked has left
                    self.send_response(status)
                    for name, text in {"content-length": str(len(body)), **more}.items():
                        self.send_header(name, text)
                    self.end_headers()
                    self.wfile.write(body)

            do_GET = do_POST  # noqa: N815

            def log_message(self, *args: object) -> None: ...

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None: ...

        self._http = Quiet(("127.0.0.1", 0), Talk)
        self.port = self._http.server_address[1]
        if tls is not None:
            self._http.socket = tls.wrap_socket(self._http.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.free.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@contextlib.contextmanager
def serving(answer: Callable[[Asked], Told], tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    server = Server(answer, tls)
    try:
        yield server
    finally:
        server.close()


class Vessel:
    """Versions of an AES key that bind associated data, with a state, as a key service holds them."""

    def __init__(self) -> None:
        self.versions = [AESGCM(AESGCM.generate_key(256))]
        self.state = "Enabled"

    def encrypt(self, plaintext: bytes, bound: bytes) -> bytes:
        nonce = os.urandom(12)
        return bytes((len(self.versions) - 1,)) + nonce + self.versions[-1].encrypt(nonce, plaintext, bound)

    def decrypt(self, blob: bytes, bound: bytes) -> bytes | None:
        if len(blob) < 29 or blob[0] >= len(self.versions):
            return None
        try:
            return self.versions[blob[0]].decrypt(blob[1:13], blob[13:], bound)
        except InvalidTag:
            return None


def base64_of(value: bytes) -> str:
    return base64.b64encode(value).decode()


def unpadded(text: str) -> bytes:
    """Base64url without padding."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class FakeAws:
    """Encrypt and Decrypt of AWS KMS: signatures judged by botocore, key states, and the encryption context."""

    def __init__(self, *arns: str) -> None:
        self.credentials = Credentials("AKIDEXAMPLE", "the-secret-of-the-tests", None)
        self.keys = {arn: Vessel() for arn in arns}

    def environment(self, url: str) -> dict[str, str]:
        pair = {"AWS_ACCESS_KEY_ID": self.credentials.access_key, "AWS_SECRET_ACCESS_KEY": "the-secret-of-the-tests"}
        return {**pair, "AWS_ENDPOINT_URL_KMS": url}

    def __call__(self, asked: Asked) -> Told:
        if not genuine(asked, self.credentials):
            return self.error("InvalidSignatureException")
        document = asked.document
        vessel = self.keys.get(document["KeyId"])
        if vessel is None:
            return self.error("NotFoundException")
        if vessel.state == "Disabled":
            return self.error("DisabledException")
        if vessel.state != "Enabled":
            return self.error("KMSInvalidStateException")
        bound = json.dumps(document["EncryptionContext"], sort_keys=True).encode()
        if asked.headers["x-amz-target"] == "TrentService.Encrypt":
            blob = vessel.encrypt(base64.b64decode(document["Plaintext"]), bound)
            return told(200, {"CiphertextBlob": base64_of(blob), "KeyId": document["KeyId"]})
        plaintext = vessel.decrypt(base64.b64decode(document["CiphertextBlob"]), bound)
        if plaintext is None:
            return self.error("InvalidCiphertextException")
        return told(200, {"Plaintext": base64_of(plaintext), "KeyId": document["KeyId"]})

    @staticmethod
    def error(code: str, status: int = 400) -> Told:
        return told(status, {"__type": f"com.amazonaws.kms#{code}", "message": "LEAK-OF-THE-SERVICE"})


def genuine(asked: Asked, credentials: Credentials) -> bool:
    """Whether the signature is the one that botocore makes for this request."""
    given = asked.headers["authorization"]
    scope = given.partition("Credential=")[2].partition(",")[0].split("/")
    names = given.partition("SignedHeaders=")[2].partition(",")[0].split(";")
    request = AWSRequest(
        "POST",
        f"http://{asked.headers['host']}{asked.path}",
        {name: asked.headers[name] for name in names},
        asked.body,
    )
    request.context["timestamp"] = asked.headers["x-amz-date"]
    auth = SigV4Auth(credentials, scope[3], scope[2])
    text = auth.string_to_sign(request, auth.canonical_request(request))
    return scope[0] == credentials.access_key and given.endswith(f"Signature={auth.signature(text, request)}")


class FakeGoogle:
    """Cloud KMS, the token endpoint and the metadata service, after their public documentation."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.vessel = Vessel()
        self.private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.token = "ya29.token-of-the-tests"
        self.claims: dict[str, Any] = {}

    def account(self, folder: Path) -> Path:
        """The JSON key file of the service account. Its `token_uri` leads astray."""
        pem = self.private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file = folder / "account.json"
        document = {
            "type": "service_account",
            "client_email": "gate@p.iam.gserviceaccount.com",
            "private_key": pem.decode(),
            "private_key_id": "k1",
            "token_uri": "http://127.0.0.1:9/token",
        }
        file.write_text(json.dumps(document))
        return file

    def __call__(self, asked: Asked) -> Told:
        if asked.path == "/token":
            return self._exchange(asked)
        if asked.path.startswith("/computeMetadata/"):
            if asked.headers.get("metadata-flavor") != "Google":
                return Told(403, b"")
            return told(200, {"access_token": self.token, "expires_in": 3599}, metadata_flavor="Google")
        if asked.headers.get("authorization") != f"Bearer {self.token}":
            return self.error(401, "UNAUTHENTICATED")
        name, _, action = asked.path.removeprefix("/v1/").partition(":")
        if name != self.name:
            return self.error(404, "NOT_FOUND")
        if self.vessel.state != "Enabled":
            return self.error(400, "FAILED_PRECONDITION")
        document = asked.document
        bound = base64.b64decode(document["additionalAuthenticatedData"])
        if action == "encrypt":
            blob = self.vessel.encrypt(base64.b64decode(document["plaintext"]), bound)
            return told(200, {"name": f"{name}/cryptoKeyVersions/1", "ciphertext": base64_of(blob)})
        plaintext = self.vessel.decrypt(base64.b64decode(document["ciphertext"]), bound)
        if plaintext is None:
            return self.error(400, "INVALID_ARGUMENT")
        return told(200, {"plaintext": base64_of(plaintext)})

    def _exchange(self, asked: Asked) -> Told:
        form = parse_qs(asked.body.decode())
        head, claims, signature = form["assertion"][0].split(".")
        self.private.public_key().verify(
            unpadded(signature), f"{head}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256()
        )
        self.claims = {**json.loads(unpadded(head)), **json.loads(unpadded(claims)), "grant": form["grant_type"][0]}
        return told(200, {"access_token": self.token, "expires_in": 3599, "token_type": "Bearer"})

    @staticmethod
    def error(code: int, status: str) -> Told:
        return told(code, {"error": {"code": code, "message": "LEAK-OF-THE-SERVICE", "status": status}})


class FakeAzure:
    """wrapKey, unwrapKey and the token endpoint, after their public documentation.

    A disabled key still wraps and no longer unwraps, as the service does it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.versions: dict[str, rsa.RSAPrivateKey] = {}
        self.state = "Enabled"
        self.token = "eyJ.token-of.the-tests"
        self.forms: list[dict[str, list[str]]] = []
        self.rotate()

    def rotate(self) -> None:
        self.versions[os.urandom(16).hex()] = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def __call__(self, asked: Asked) -> Told:
        if asked.path.endswith("/oauth2/v2.0/token"):
            self.forms.append(parse_qs(asked.body.decode()))
            if self.forms[-1]["client_secret"] != ["secret-of-the-tests"]:
                return told(401, {"error": "invalid_client", "error_description": "LEAK-OF-THE-SERVICE"})
            return told(200, {"access_token": self.token, "expires_in": 3599})
        if asked.headers.get("authorization") != f"Bearer {self.token}":
            return self.error(401, "Unauthorized")
        path, _, query = asked.path.partition("?")
        _, keys, name, *rest = path.split("/")
        assert (keys, query) == ("keys", "api-version=7.4")
        if name != self.name:
            return self.error(404, "KeyNotFound")
        oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
        assert asked.document["alg"] == "RSA-OAEP-256"
        value = unpadded(asked.document["value"])
        if rest == ["wrapkey"]:
            version, key = list(self.versions.items())[-1]
            return self._result(version, key.public_key().encrypt(value, oaep))
        version, action = rest
        assert action == "unwrapkey"
        if version not in self.versions:
            return self.error(404, "KeyNotFound")
        if self.state == "Disabled":
            return self.error(403, "Forbidden", "KeyDisabled")
        try:
            return self._result(version, self.versions[version].decrypt(value, oaep))
        except ValueError:
            return self.error(400, "BadParameter")

    def _result(self, version: str, value: bytes) -> Told:
        text = base64.urlsafe_b64encode(value).decode().rstrip("=")
        return told(200, {"kid": f"https://gate.vault.azure.net/keys/{self.name}/{version}", "value": text})

    @staticmethod
    def error(status: int, code: str, inner: str = "") -> Told:
        more = {"innererror": {"code": inner}} if inner else {}
        return told(status, {"error": {"code": code, "message": "LEAK-OF-THE-SERVICE", **more}})


def certified(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's context with a certificate of its own for 127.0.0.1, and the file to trust it by."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "key service")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    plain = serialization.NoEncryption()
    both = folder / "server.pem"
    both.write_bytes(pem + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    trust = folder / "trust.pem"
    trust.write_bytes(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    return context, trust
