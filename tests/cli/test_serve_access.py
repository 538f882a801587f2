"""`oo-ml serve` for other machines: keys, TLS, a socket for a proxy, and a time to drain."""

import signal
import ssl
from pathlib import Path

import httpx
import pytest

from tests import calls
from tests.commands import command_line, oo_ml, oo_ml_process, run_serve
from tests.waiting import PATIENCE, until

DATA = Path(__file__).parent.parent / "data"
ADMIN_KEY = "an-admin-key-of-the-tests"
BEARER = {"Authorization": f"Bearer {ADMIN_KEY}"}
FOR_ALL = ("serve", "--port", "0", "--host", "0.0.0.0")  # noqa: S104


def test_refuses_to_start_without_a_key(database_url: str) -> None:
    """On an address that other machines reach, a service without any key does not start, and says what to do."""
    done = oo_ml_process(*FOR_ALL, OO_ML_DATABASE_URL=database_url)
    assert done.code == 1
    assert done.err.splitlines()[-1] == (
        "error: Calls need an API key on this address, and none exists: run `oo-ml keys create NAME --scope admin` or"
        " set OO_ML_ADMIN_KEY"
    )


def test_keys_for_other_machines(database_url: str, tmp_path: Path) -> None:
    """With a key it starts, and calls need one. Every process of the service knows the sessions of the others."""
    token = oo_ml("keys", "create", "web", "--scope", "admin", OO_ML_DATABASE_URL=database_url).out.strip()
    variables = {"OO_ML_DATABASE_URL": database_url, "OO_ML_PROCESSES": 2}
    with run_serve(tmp_path / "log", command_line(*FOR_ALL), **variables) as service:
        until(lambda: service.log.read_text("utf-8").count("Application startup complete") == 2)
        address = str(service.client.base_url).replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        assert httpx.post(f"{address}/score", json=calls.score()).status_code == 401
        answer = httpx.post(f"{address}/score", json=calls.score(), headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200
        session = httpx.post(f"{address}/dashboard/sign-in", data={"key": token}).cookies
        # A connection each, so that either process may answer.
        for _ in range(6):
            assert httpx.get(f"{address}/dashboard", cookies=session).status_code == 200
        assert service.stop(signal.SIGTERM) == 0


def test_loopback(service_url: str, tmp_path: Path) -> None:
    """On loopback calls need no key, but the Host must be a loopback name."""
    with run_serve(tmp_path / "log", OO_ML_DATABASE_URL=service_url) as service:
        assert service.client.post("/score", json=calls.score()).status_code == 200
        assert service.client.get("/stats/ada", headers={"Host": "elsewhere.example"}).status_code == 403
        assert service.client.get("/livez", headers={"Host": "elsewhere.example"}).status_code == 200


def test_keys_that_are_required_on_loopback(service_url: str, tmp_path: Path) -> None:
    """OO_ML_AUTH=required asks for keys everywhere; OO_ML_AUTH=off nowhere, and says so in the log."""
    variables = {"OO_ML_DATABASE_URL": service_url, "OO_ML_AUTH": "required", "OO_ML_ADMIN_KEY": ADMIN_KEY}
    with run_serve(tmp_path / "required", **variables) as service:
        assert service.client.get("/stats/ada").status_code == 401
        assert service.client.get("/stats/ada", headers=BEARER).status_code == 200
    # A proxy on this machine reaches the same address for all its clients.
    file = tmp_path / "url"
    file.write_text(service_url, "utf-8")
    proxied = {"OO_ML_DATABASE_URL_FILE": file, "OO_ML_ADMIN_KEY": ADMIN_KEY}
    words = ("serve", "--port", "0", "--trusted-proxy", "127.0.0.1")
    with run_serve(tmp_path / "proxied", command_line(*words), **proxied) as service:
        assert service.client.get("/stats/ada").status_code == 401
        assert service.client.get("/stats/ada", headers=BEARER).status_code == 200
    off = {"OO_ML_DATABASE_URL": service_url, "OO_ML_AUTH": "off"}
    with run_serve(tmp_path / "off", command_line(*FOR_ALL), **off) as service:
        assert "OO_ML_AUTH=off: every client" in service.log.read_text("utf-8")
        address = str(service.client.base_url).replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        assert httpx.get(f"{address}/stats/ada").status_code == 200


def test_socket_and_drain(service_url: str, tmp_path: Path) -> None:
    """A proxy reaches the service at a socket, under a prefix; after SIGTERM calls go on while /readyz is 503."""
    path = tmp_path / "socket"
    variables = {"OO_ML_DATABASE_URL": service_url, "OO_ML_ADMIN_KEY": ADMIN_KEY, "OO_ML_DRAIN": 3600}
    words = ("serve", "--uds", str(path), "--root-path", "/ml")
    log = tmp_path / "log"
    with run_serve(log, command_line(*words), **variables) as service:
        transport = httpx.HTTPTransport(uds=str(path))
        with httpx.Client(transport=transport, base_url="http://proxy", headers=BEARER, timeout=PATIENCE) as client:
            assert client.get("/readyz").status_code == 200
            assert client.post("/score", json=calls.score()).status_code == 200
            assert client.get("/dashboard/").headers["Location"] == "../dashboard"
            service.process.send_signal(signal.SIGTERM)
            until(lambda: client.get("/readyz").status_code == 503)
            assert client.get("/readyz").json()["code"] == "draining"
            assert client.get("/livez").status_code == 200
            assert client.post("/score", json=calls.score()).status_code == 200
        # The second signal does not wait for the rest of the hour.
        assert service.stop(signal.SIGINT) == 0
    assert not path.exists()


@pytest.mark.parametrize(("trusted", "flag"), [(["--trusted-proxy", "*"], "; Secure"), ([], "")])
def test_tls_proxy_on_a_socket(trusted: list[str], flag: str, service_url: str, tmp_path: Path) -> None:
    """Only with `--trusted-proxy '*'` does the service believe a proxy on a socket that the client came by TLS."""
    path = tmp_path / "socket"
    variables = {"OO_ML_DATABASE_URL": service_url, "OO_ML_ADMIN_KEY": ADMIN_KEY}
    with run_serve(tmp_path / "log", command_line("serve", "--uds", str(path), *trusted), **variables) as service:
        transport = httpx.HTTPTransport(uds=str(path))
        headers = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.1"}
        with httpx.Client(transport=transport, base_url="http://proxy", headers=headers, timeout=PATIENCE) as client:
            answer = client.post("/dashboard/sign-in", data={"key": ADMIN_KEY})
        assert answer.status_code == 303
        assert answer.headers["Set-Cookie"].endswith(f"SameSite=strict{flag}")
        assert service.stop(signal.SIGTERM) == 0


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--trusted-proxy", "proxy.example"], "must be an IP address, a network such as 10.0.0.0/8, or *"),
        (["--trusted-proxy", "10.0.0.1/8"], "must be an IP address, a network such as 10.0.0.0/8, or *"),
        (["--uds", "/nonexistent/socket", "--trusted-proxy", "127.0.0.1"], "has no address: give *"),
    ],
)
def test_invalid_trusted_proxies(words: list[str], reason: str) -> None:
    """A proxy that no client can be is refused at once, instead of never being believed."""
    done = oo_ml("serve", *words)
    assert (done.code, done.out) == (2, "")
    assert reason in " ".join(done.err.split())


def test_tls(service_url: str, tmp_path: Path) -> None:
    """With a certificate the service speaks HTTPS only."""
    words = (
        *("serve", "--port", "0", "--ssl-certfile", str(DATA / "tls_certificate.pem")),
        *("--ssl-keyfile", str(DATA / "tls_key.pem")),
    )
    with run_serve(tmp_path / "log", command_line(*words), OO_ML_DATABASE_URL=service_url) as service:
        address = str(service.client.base_url)
        assert address.startswith("https://")
        context = ssl.create_default_context(cafile=DATA / "tls_certificate.pem")
        assert httpx.get(f"{address}/livez", verify=context).status_code == 200
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{address}/livez".replace("https", "http"))
