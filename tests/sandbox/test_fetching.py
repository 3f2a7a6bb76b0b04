"""`http.get` against a real server on loopback, and URLs of every kind."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asterism.workers.sandbox.errors import CallFailed
from asterism.workers.sandbox.fetching import check_address, check_url, fetch
from asterism.workers.sandbox.order import Limits, Order


class Handler(BaseHTTPRequestHandler):
    """Says what it was asked, sends on, or sends a lot."""

    def do_GET(self) -> None:
        if self.path.startswith("/to?"):
            self.send_response(302)
            self.send_header("Location", self.path[4:])
            self.end_headers()
            return
        body = b"x" * 100_000 if self.path == "/large" else f"{self.path} {self.headers['X-Mine']}".encode()
        if self.path == "/secret":
            body = str(self.headers["Authorization"]).encode()
        self.send_response(200 if self.path != "/none" else 404)
        self.send_header("Content-Type", "image/png" if self.path == "/bytes" else "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on standard error."""


@pytest.fixture
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def get(url: str, *hosts: str, **arguments: object) -> Any:
    return fetch(Order(limits=Limits(), workspace="/", arguments={"url": url, **arguments}, hosts=hosts))


def test_it_gives_status_kind_and_text(port: int) -> None:
    found = get(f"http://127.0.0.1:{port}/a%20b?q=1#f", "127.0.0.1", headers={"X-Mine": "yes"})
    assert (found["status"], found["kind"], found["text"]) == (200, "text/plain", "/a%20b?q=1 yes")
    assert get(f"http://127.0.0.1:{port}/none", f"127.0.0.1:{port}")["status"] == 404
    assert "base64" in get(f"http://127.0.0.1:{port}/bytes", "127.0.0.1")


def test_it_reads_no_more_than_it_may(port: int) -> None:
    found = get(f"http://127.0.0.1:{port}/large", "127.0.0.1", max_bytes=1000)
    assert (len(found["text"]), found["is_whole"]) == (1000, False)


def test_it_follows_to_allowed_hosts_only_and_not_for_ever(port: int) -> None:
    there = f"http://127.0.0.1:{port}"
    assert get(f"{there}/to?/end", "127.0.0.1")["url"] == f"{there}/end"
    for target, code in (
        ("http://example.org/", "not_allowed"),
        ("file:///etc/passwd", "invalid_url"),
        (f"http://localhost:{port}/", "not_allowed"),
        ("/to?/to?/to?/to?/to?/to?/end", "http_error"),
    ):
        with pytest.raises(CallFailed) as failed:
            get(f"{there}/to?{target}", "127.0.0.1")
        assert failed.value.code == code


@pytest.mark.parametrize("name", ["Host", "host", "Transfer-Encoding", "content-length", "Connection"])
def test_nobody_else_says_where_a_request_goes_and_ends(port: int, name: str) -> None:
    with pytest.raises(CallFailed, match=f"headers: {name} is not for the caller to say"):
        get(f"http://127.0.0.1:{port}/", "127.0.0.1", headers={name: "admin.internal"})


def test_secrets_are_for_whom_they_were_meant(port: int) -> None:
    there, hosts, headers = f"http://127.0.0.1:{port}", ("127.0.0.1", "localhost"), {"authorization": "Bearer x"}
    assert get(f"{there}/to?/secret", *hosts, headers=headers)["text"] == "Bearer x"
    assert get(f"{there}/to?http://localhost:{port}/secret", *hosts, headers=headers)["text"] == "None"
    # Nor do they come back on the way.
    back = f"{there}/to?http://localhost:{port}/to?{there}/secret"
    assert get(back, *hosts, headers=headers)["text"] == "None"


def test_a_pattern_leads_to_the_public_internet_only(port: int) -> None:
    with pytest.raises(CallFailed, match="not on the public internet"):
        get(f"http://localhost:{port}/", "*")


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "169.254.169.254", "192.168.0.1", "::1", "fe80::1%eth0", "::ffff:127.0.0.1", "0.0.0.0",
     "100.64.0.1", "fd00::1", "224.0.0.1", "::"],
)  # fmt: skip
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    with pytest.raises(CallFailed, match="public internet"):
        check_address(check_url("http://a.example.org/", ("*.example.org",)), address)
    check_address(check_url("http://a.example.org/", ("a.example.org",)), address)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a.example.org/",
        "http://u:p@a.example.org/",
        "http:///x",
        "http://a.example.org:99999/",
        "http://a.example.org/\r\nX: y",
        "http://a.example.org/a b",
        "http://[::1/",
        "a.example.org",
        "http://a.example.org.evil.org/",
        "http://evil.org\\@a.example.org/",
        "http://evil.org#@a.example.org/",
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(CallFailed):
        check_url(url, ("a.example.org",))


@given(st.text() | st.from_regex(r"https?://[^/]{0,20}/?.{0,20}"))
def test_every_url_is_refused_or_leads_to_an_allowed_host(url: str) -> None:
    try:
        target = check_url(url, ("a.example.org", "*.b.org"))
    except CallFailed:
        return
    assert target.host == "a.example.org" or target.host.endswith(".b.org")
