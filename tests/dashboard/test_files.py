"""The files of the dashboard: their headers, and the absence of other origins and of unsafe code in them."""

import hashlib
import re
from pathlib import Path

import pytest

from oo_ml.dashboard import pages
from tests.serving import Service

ROOT = Path(pages.__file__).parent
PAGES = {"/dashboard": "overview.html", "/dashboard/user?id=ada": "user.html"}
OWN = [path for kind in ("html", "js", "css") for path in sorted(ROOT.rglob(f"*.{kind}")) if "vendor" not in path.parts]


@pytest.mark.parametrize(("path", "file"), PAGES.items())
def test_headers_of_pages(service: Service, path: str, file: str) -> None:
    """A page is a file whose headers forbid other origins, inline code, markup from text, and framing."""
    answer = service.client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.text == (ROOT / "html" / file).read_text("utf-8")
    policy = dict(part.split(maxsplit=1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy == {
        "default-src": "'self'",
        "base-uri": "'none'",
        "object-src": "'none'",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
    }
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "same-origin"


@pytest.mark.parametrize("path", ["/dashboard", "/dashboard/static/overview.js", "/dashboard/static/base.css"])
def test_caching(service: Service, path: str) -> None:
    """A browser revalidates files by ETag and gets 304 with the same headers."""
    first = service.client.get(path)
    again = service.client.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert (first.status_code, again.status_code, again.content) == (200, 304, b"")
    for answer in (first, again):
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["content-security-policy"]


def test_type_of_scripts(service: Service) -> None:
    """Scripts are sent as JavaScript, because the browser must not guess."""
    for path in (ROOT / "static").rglob("*.js"):
        answer = service.client.get(f"/dashboard/static/{path.relative_to(ROOT / 'static')}")
        assert answer.headers["content-type"].split(";")[0] in {"text/javascript", "application/javascript"}, path


def test_trailing_slash(service: Service) -> None:
    """A trailing slash redirects to the page and keeps the filters."""
    answer = service.client.get("/dashboard/?period=7")
    assert answer.next_request is not None
    assert answer.next_request.url.raw_path == b"/dashboard?period=7"


@pytest.mark.parametrize("path", ["../pages.py", "..%2Fpages.py", "%2e%2e/pages.py", "nothing.js", ""])
def test_other_files(service: Service, path: str) -> None:
    """Only files of the dashboard are sent."""
    assert service.client.get(f"/dashboard/static/{path}").status_code == 404


def test_openapi(service: Service) -> None:
    """The dashboard is not in the OpenAPI document."""
    assert not [path for path in service.client.get("/openapi.json").json()["paths"] if "dashboard" in path]


def test_vendored_files() -> None:
    """VENDORED.md lists exactly the vendored files with their SHA-256."""
    folder = ROOT / "static/vendor/uplot"
    note = (folder / "VENDORED.md").read_text("utf-8")
    sums = dict(re.findall(r"^\| (\S+) \| \S+ \| ([0-9a-f]{64}) \|$", note, re.MULTILINE))
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    del found["VENDORED.md"]
    assert found == sums
    assert "v1.6.32" in (folder / "uPlot.iife.min.js").read_text("utf-8")[:100]


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_own_files(path: Path) -> None:
    """Our files contain no address of another host, and no code that parses text as markup, script or style.

    The sign-in page has a style with the nonce of its answer: the files of style need a key.
    """
    text = path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
    assert not re.findall(r"(?:https?:)?//\w+\.\w+|innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)
    assert not re.findall(r"\son\w+=|\sstyle=|<style(?! nonce=)|<script(?![^>]*\ssrc=)|javascript:|data:", text)
