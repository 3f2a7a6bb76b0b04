"""`http.get`: asks allowed hosts only, looks at the address that it connects to, and reads so much. Runs in the
call's process.

A host that is named exactly may be anywhere; one that a pattern allows only on the public internet, so that no name can
lead to a service of the machine or of its network. Standard library only.
"""

import base64
import fnmatch
import http.client
import ipaddress
import socket
import ssl
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import SplitResult, urljoin, urlsplit

from asterism.workers.sandbox.errors import CallFailed
from asterism.workers.sandbox.order import Order

DEFAULT_BYTES: Final = 256 * 1024
MOST_REDIRECTS: Final = 5
_CONNECT_S: Final = 15.0
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_OURS: Final = frozenset({"host", "connection", "content-length", "te", "trailer", "transfer-encoding", "upgrade"})
"""Headers that say where a request goes and where it ends: with another `Host` one allowed host is asked as another."""
_SECRET: Final = frozenset({"authorization", "cookie", "proxy-authorization"})
"""Headers for the host that was asked for, and for no other that it redirects to."""
_TEXTS: Final = ("text/", "application/json", "application/xml", "application/javascript", "+json", "+xml")


@dataclass(frozen=True, slots=True)
class _Target:
    """A checked URL: the host's addresses are looked at when they are known."""

    parts: SplitResult
    host: str
    port: int
    may_be_private: bool

    @property
    def origin(self) -> tuple[str, str, int]:
        """Whom it asks: what else has the same may know the same secrets."""
        return self.parts.scheme, self.host, self.port


def fetch(order: Order) -> dict[str, Any]:
    """Status, kind and body of what is at a URL, after at most so many redirections."""
    arguments = order.arguments
    url: str = arguments["url"]
    headers: dict[str, str] = arguments.get("headers", {})
    for name in headers:
        if name.strip().lower() in _OURS:
            raise CallFailed("not_allowed", f"headers: {name[:100]} is not for the caller to say")
    origin: tuple[str, str, int] | None = None
    for _ in range(MOST_REDIRECTS + 1):
        target = check_url(url, order.hosts)
        if origin not in (None, target.origin):
            headers = {name: value for name, value in headers.items() if name.strip().lower() not in _SECRET}
        origin = target.origin
        try:
            found = _get(target, headers, arguments.get("max_bytes", DEFAULT_BYTES))
        except (OSError, http.client.HTTPException) as error:
            raise CallFailed("http_error", f"{target.host}: {type(error).__name__}: {error}") from None
        if found["status"] not in _REDIRECTS or "location" not in found:
            return {"url": url, **{name: value for name, value in found.items() if name != "location"}}
        url = urljoin(url, found["location"])
    raise CallFailed("http_error", f"more than {MOST_REDIRECTS} redirections")


def check_url(url: str, hosts: tuple[str, ...]) -> _Target:
    """The target of an allowed URL. Raises `CallFailed` for any other."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        host = (parts.hostname or "").rstrip(".").encode("idna").decode()
    except (ValueError, UnicodeError) as error:
        raise CallFailed("invalid_url", f"{url[:200]}: {error}") from None
    if parts.scheme not in ("http", "https") or not host or not url.isprintable() or " " in url:
        raise CallFailed("invalid_url", f"{url[:200]}: is no URL of http or https with a host")
    if parts.username is not None or parts.password is not None:
        raise CallFailed("invalid_url", "a URL with a name or a password in it is not asked")
    exact = {host, f"{host}:{port}"}
    if exact & set(hosts):
        return _Target(parts, host, port, may_be_private=True)
    if any("*" in allowed and fnmatch.fnmatchcase(host, allowed) for allowed in hosts):
        return _Target(parts, host, port, may_be_private=False)
    raise CallFailed("not_allowed", f"{host} is not among the hosts that are allowed: {', '.join(hosts) or 'none'}")


def check_address(target: _Target, address: str) -> None:
    """Raises `CallFailed` for an address that is not on the public internet where that is asked for."""
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    if not target.may_be_private and (not (mapped or found).is_global or found.is_multicast):
        raise CallFailed("not_allowed", f"{target.host} leads to {address}, which is not on the public internet")


class _Checked(http.client.HTTPConnection):
    """Connects to an address that was looked at, and to no other."""

    def __init__(self, target: _Target) -> None:
        super().__init__(target.host, target.port, timeout=_CONNECT_S)
        self._checked = target

    def connect(self) -> None:
        target = self._checked
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        failure: OSError = OSError("the host has no address")
        for family, kind, protocol, _, address in found:
            check_address(target, str(address[0]))
            link = socket.socket(family, kind, protocol)
            link.settimeout(_CONNECT_S)
            try:
                link.connect(address)
            except OSError as error:
                link.close()
                failure = error
                continue
            if target.parts.scheme == "https":
                link = ssl.create_default_context().wrap_socket(link, server_hostname=target.host)
            self.sock = link
            return
        raise failure


def _get(target: _Target, headers: dict[str, str], most: int) -> dict[str, Any]:
    parts = target.parts
    connection = _Checked(target)
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        sent = {"User-Agent": "asterism", "Accept": "*/*", **headers, "Accept-Encoding": "identity"}
        try:
            connection.request("GET", path.encode("ascii", errors="strict").decode(), headers=sent)
        except (ValueError, http.client.InvalidURL) as error:
            raise CallFailed("invalid_url", f"{target.host}: {error}") from None
        answer = connection.getresponse()
        data = answer.read(most + 1)
        kind = answer.headers.get_content_type()
        location = answer.headers.get("location")
        found: dict[str, Any] = {"status": answer.status, "kind": kind, "is_whole": len(data) <= most}
        if location is not None:
            found["location"] = location
        data = data[:most]
        if any(kind.startswith(text) or kind.endswith(text) for text in _TEXTS):
            charset = answer.headers.get_content_charset() or "utf-8"
            try:
                return {**found, "text": data.decode(charset, errors="replace")}
            except LookupError:
                return {**found, "text": data.decode("utf-8", errors="replace")}
        return {**found, "base64": base64.b64encode(data).decode()}
    finally:
        connection.close()
