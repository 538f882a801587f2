"""Exit with 0 if the service in this container answers 200 to GET on the path named, else with 1.

The image has no curl. The module uses the standard library alone and ignores proxies, as a probe must.
"""

import os
import sys
from http.client import HTTPConnection, HTTPException


def main(path: str) -> int:
    """Return the exit code of one probe."""
    connection = HTTPConnection("127.0.0.1", int(os.environ.get("PROBE_PORT", "8000")), timeout=3)
    try:
        connection.request("GET", path)
        return 0 if connection.getresponse().status == 200 else 1  # noqa: PLR2004 - a status code
    except (OSError, HTTPException):
        return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
