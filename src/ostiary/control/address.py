"""A base URL to the one host a credential may go to. It must not look anything up."""

from __future__ import annotations

import re

import msgspec

MAX_URL = 2048

_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)"
    r"(?::(?P<port>[0-9]{1,5}))?(?P<path>/[A-Za-z0-9._~!$&'()*+,;=:@/%-]*)?\Z",
    re.IGNORECASE,
)
_BAD_PATH = re.compile(r"//|/\.\.?(?:/|\Z)|%(?![0-9A-Fa-f]{2})|%(?:2e|2f|5c|00)", re.IGNORECASE)
_ENDPOINTS = ("/chat/completions", "/completions", "/embeddings", "/models")
_VERSION_QUERY = re.compile(r"\?api-version=([A-Za-z0-9._-]{1,40})\Z")
_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
_FILL = re.compile(r"[A-Za-z0-9._-]{1,128}\Z")
_AZURE_DEPLOYMENT = re.compile(r"(?P<base>.*)/openai/deployments/(?P<model>[A-Za-z0-9._~-]+)\Z")
_AZURE_V1 = frozenset({"v1", "latest", "preview"})  # versions that mean the unversioned API below /openai/v1


class Address(msgspec.Struct, frozen=True):
    """Where a deployment is. `base_path` has no trailing slash; `model` is an Azure deployment named in the URL."""

    scheme: str
    host: str
    port: int
    base_path: str
    api_version: str = ""
    model: str = ""

    @property
    def origin(self) -> tuple[str, str, int]:
        """What a credential is bound to."""
        return self.scheme, self.host, self.port


def parse_address(text: str) -> Address:
    """The address a base URL names.

    Raises:
        ValueError: not an absolute http(s) URL of a host, or one with a user, query, fragment or odd path.
    """
    authority = text.partition("//")[2].partition("/")[0]
    if "@" in authority:
        raise ValueError("holds a user or password; give the credential as api_key")
    if "?" in text or "#" in text:
        raise ValueError("holds a query or fragment; give the base URL alone")
    match = _URL.match(text) if len(text) <= MAX_URL else None
    if match is None:
        raise ValueError("expected a URL such as https://host/v1")
    scheme, host, path = match["scheme"].lower(), match["host"].lower(), (match["path"] or "").rstrip("/")
    port = int(match["port"]) if match["port"] else 443 if scheme == "https" else 80
    if not 0 < port < 65536 or ".." in host:
        raise ValueError("expected a URL such as https://host/v1")
    if _BAD_PATH.search(path):
        raise ValueError("holds a path that could be read in two ways")
    return Address(scheme, host.strip("[]"), port, path)


def base_address(text: str) -> Address:
    """As `parse_address`, and says so where the URL already names an endpoint."""
    address = parse_address(text)
    if address.base_path.endswith(_ENDPOINTS):
        raise ValueError("names an endpoint; give the base URL alone, such as https://host/v1")
    return address


def proxy_address(text: str) -> str:
    """A forward proxy as `http://host:port`.

    Raises:
        ValueError: another form; a user and password are none that is kept.
    """
    proxy = base_address(text)
    if proxy.scheme != "http" or proxy.base_path:
        raise ValueError("is not of the form http://host:port")
    host = f"[{proxy.host}]" if ":" in proxy.host else proxy.host
    return f"http://{host}:{proxy.port}"


def azure_address(text: str, api_version: str) -> tuple[Address, bool]:
    """The address of an Azure resource, and whether its calls are versioned.

    Understands the resource (`https://name.openai.azure.com`), its `/openai` and `/openai/v1`, and the whole URL of a
    deployment with `?api-version=`; a version given apart wins.
    """
    query = _VERSION_QUERY.search(text)
    address = parse_address(text[: query.start()] if query else text)
    version, path, model = api_version or (query[1] if query else ""), address.base_path, ""
    for endpoint in _ENDPOINTS:
        path = path.removesuffix(endpoint)
    match = _AZURE_DEPLOYMENT.match(path)
    if match:
        path, model = match["base"], match["model"]
    elif path.endswith("/openai/v1") or version in _AZURE_V1:
        path = path.removesuffix("/v1").removesuffix("/openai")
        return Address(*address.origin, f"{path}/openai/v1"), False
    return Address(*address.origin, path.removesuffix("/openai"), version, model), True


def fill(template: str, params: dict[str, object]) -> str:
    """A provider's base URL with its `{name}` placeholders filled from the deployment's parameters.

    Raises:
        ValueError: one is missing, or more than a name; the text says which.
    """
    for name in _PLACEHOLDER.findall(template):
        value = params.get(name)
        if not isinstance(value, str) or not _FILL.match(value):
            raise ValueError(f"needs {name} of letters, digits, '.', '_' or '-'")
        template = template.replace(f"{{{name}}}", value)
    return template


def bypasses(no_proxy: str, host: str) -> bool:
    """Whether `NO_PROXY` names the host: `*`, the host itself, or a domain it lies in."""
    for entry in no_proxy.lower().split(","):
        domain = entry.strip().removeprefix("*").lstrip(".")
        if entry.strip() == "*" or (domain and (host == domain or host.endswith(f".{domain}"))):
            return True
    return False
