"""Checks that keep pages of other sites from using a browser against the service.

A page may send a request to any address, without being allowed to read the answer: a form, an image, or `fetch` with a
simple content type (the Fetch standard, "CORS protocol"). By DNS rebinding it may even read the answers of a service on
a loopback address, under a name of its own. So a body must have a type that only scripts of the same site can send, a
page of another site may change nothing, and the name of the host must be known.
"""

from collections.abc import Collection
from dataclasses import dataclass
from email.message import Message
from functools import lru_cache
from typing import Final, Self
from urllib.parse import urlsplit

from oo_ml.api.heads import Head
from oo_ml.errors import CrossSiteError, HostNotAllowedError, UnsupportedMediaTypeError
from oo_ml.settings import Settings

_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_OF_BROWSERS: Final = frozenset({b"sec-fetch-site", b"origin"})
# A page of the service itself, or a user who typed the address.
_OWN_SITES: Final = frozenset({"same-origin", "none"})
ANY_HOST: Final = "*"


@dataclass(frozen=True, slots=True)
class BrowserChecks:
    """Checks of requests.

    Attributes:
        hosts: the names that the Host header may have, without port; empty or with `*`: any.
        origins: the origins of other sites whose pages may call.
    """

    hosts: Collection[str]
    origins: Collection[str]

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the checks that the settings ask for."""
        hosts = frozenset(settings.allowed_hosts)
        return cls(frozenset() if ANY_HOST in hosts else hosts, frozenset(settings.cors_origins))

    def check_host(self, head: Head) -> None:
        """Check the name by which the client called.

        Raises:
            HostNotAllowedError: OO_ML_ALLOWED_HOSTS does not contain it.
        """
        if self.hosts and _hostname(head.get(b"host") or "") not in self.hosts:
            raise HostNotAllowedError

    def check_origin(self, head: Head) -> None:
        """Check the site of the page that sent the request.

        Raises:
            CrossSiteError: the request may change something, and a page of another site sent it.
        """
        if head.method in _SAFE_METHODS or _OF_BROWSERS.isdisjoint(head.headers):
            return
        site, origin = head.get(b"sec-fetch-site"), head.get(b"origin")
        # No page can set Sec-Fetch-Site. Old browsers don't send it, and no browser does over HTTP to another machine.
        if site in _OWN_SITES or (origin is not None and origin in self.origins):
            return
        if site is not None or (origin is not None and _authority(origin) != (head.get(b"host") or "").lower()):
            raise CrossSiteError

    @staticmethod
    def check_body(head: Head) -> None:
        """Check the type of the body.

        Raises:
            UnsupportedMediaTypeError: it is not JSON, or it is compressed.
        """
        if not head.has_body:
            return
        content_type = head.headers.get(b"content-type")
        # Without a type it is taken for JSON; a page of another site that leaves the type out has an Origin.
        if content_type not in {None, b"application/json"} and _media_type(content_type) != "application/json":
            raise UnsupportedMediaTypeError
        if head.headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise UnsupportedMediaTypeError


def _media_type(content_type: bytes) -> str:
    message = Message()
    message["content-type"] = content_type.decode("latin-1")
    return message.get_content_type()


@lru_cache
def _hostname(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _authority(origin: str) -> str | None:
    """Return host and port of an origin, as a Host header has them: without the port of the scheme."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return None
    return parts.netloc.lower() if parts.scheme in {"http", "https"} else None
