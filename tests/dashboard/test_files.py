"""The files of the page: what they are, how they are sent, and that nothing in them leads elsewhere."""

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
def test_content_security_policy(service: Service, path: str, file: str) -> None:
    """A page allows no other origin, no inline script or style, no markup from text, no framing and no referrer."""
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
    assert answer.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("path", ["/dashboard", "/dashboard/static/overview.js", "/dashboard/static/base.css"])
def test_etag(service: Service, path: str) -> None:
    """A second request with the ETag gets headers only, and the same ones."""
    first = service.client.get(path)
    again = service.client.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert (first.status_code, again.status_code, again.content) == (200, 304, b"")
    for answer in (first, again):
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["content-security-policy"]


def test_content_type_of_scripts(service: Service) -> None:
    """Scripts have the content type that a browser demands under nosniff."""
    for path in (ROOT / "static").rglob("*.js"):
        answer = service.client.get(f"/dashboard/static/{path.relative_to(ROOT / 'static')}")
        assert answer.headers["content-type"].split(";")[0] in {"text/javascript", "application/javascript"}, path


def test_trailing_slash(service: Service) -> None:
    """A trailing slash redirects and keeps the filters."""
    answer = service.client.get("/dashboard/?period=7")
    assert answer.next_request is not None
    assert answer.next_request.url.raw_path == b"/dashboard?period=7"


@pytest.mark.parametrize("path", ["../pages.py", "..%2Fpages.py", "%2e%2e/pages.py", "nothing.js", ""])
def test_other_files_are_not_served(service: Service, path: str) -> None:
    """A path that is no file of the page is not found."""
    assert service.client.get(f"/dashboard/static/{path}").status_code == 404


def test_page_is_not_in_openapi(service: Service) -> None:
    """The page is not part of the OpenAPI document."""
    assert not [path for path in service.client.get("/openapi.json").json()["paths"] if "dashboard" in path]


def test_vendored_files() -> None:
    """The vendored files are those of the note, by SHA-256, and no others."""
    folder = ROOT / "static/vendor/uplot"
    note = (folder / "VENDORED.md").read_text("utf-8")
    sums = dict(re.findall(r"^\| (\S+) \| \S+ \| ([0-9a-f]{64}) \|$", note, re.MULTILINE))
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    del found["VENDORED.md"]
    assert found == sums
    assert "v1.6.32" in (folder / "uPlot.iife.min.js").read_text("utf-8")[:100]


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_own_files_load_and_parse_nothing(path: Path) -> None:
    """Our own files contain no address and no way to parse, run or style text."""
    text = path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
    assert not re.findall(r"(?:https?:)?//\w+\.\w+|innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)
    assert not re.findall(r"\son\w+=|\sstyle=|<style|<script(?![^>]*\ssrc=)|javascript:|data:", text)
