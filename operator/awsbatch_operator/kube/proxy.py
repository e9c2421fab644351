"""Proxies of the environment, by the rules of Go's golang.org/x/net/http/httpproxy, which kubectl uses."""

import ipaddress
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

_SCHEMES: Final = ("http", "https")


class ProxyError(Exception):
    """A proxy that can't be used. `source` is the variable that names it, None for a field of the kubeconfig."""

    def __init__(self, problem: str, source: str | None = None) -> None:
        super().__init__(problem)
        self.source = source


def checked(url: str, source: str | None = None) -> str:
    """Return the URL of a proxy if it can be used. Raises ProxyError."""
    try:
        parsed = urlsplit(url)
        usable = bool(parsed.scheme in _SCHEMES and parsed.hostname and parsed.port != 0)
    except ValueError:
        usable = False
    if not usable:
        # Not the URL: it may contain a password.
        scheme = url.partition("://")[0] if "://" in url else ""
        named = f"{scheme}:// is not supported" if scheme and scheme not in _SCHEMES else "is not the URL of a proxy"
        raise ProxyError(f"{named}: use http://HOST:PORT or https://HOST:PORT", source)
    return url


def from_environment(server: str, environ: Mapping[str, str]) -> str | None:
    """Return the URL of the proxy for the API server at the URL `server`; None: no proxy. Raises ProxyError."""
    target = urlsplit(server)
    names = (f"{target.scheme.upper()}_PROXY", f"{target.scheme}_proxy")
    source = next((name for name in names if environ.get(name)), None)
    port = target.port or {"http": 80, "https": 443}[target.scheme]
    no_proxy = environ.get("NO_PROXY") or environ.get("no_proxy") or ""
    if source is None or _bypasses(target.hostname or "", port, no_proxy):
        return None
    url = environ[source]
    return checked(url if "://" in url else f"http://{url.removeprefix('//')}", source)


def _bypasses(host: str, port: int, no_proxy: str) -> bool:
    host = host.rstrip(".").lower()
    address = _address(host)
    # A proxy can't reach the loopback addresses of this host.
    if host == "localhost" or (address and address.is_loopback):
        return True
    return any(_matches(rule.strip().lower(), host, address, port) for rule in no_proxy.split(","))


def _matches(rule: str, host: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None, port: int) -> bool:
    """Whether a rule names the host: `*`, an address, a network, a domain with its subdomains, or `.subdomains`."""
    if rule == "*":
        return True
    try:
        network = ipaddress.ip_network(rule, strict=False)
    except ValueError:
        pass
    else:
        return address is not None and address in network
    name, separator, suffix = rule.rpartition(":")
    if separator and suffix.isdigit():
        if int(suffix) != port:
            return False
        rule = name
    rule = rule.removeprefix("*") if rule.startswith("*.") else rule
    rule = rule.strip("[]").rstrip(".")
    if not rule:
        return False
    if address is not None:
        return _address(rule) == address
    return host == rule or host.endswith(rule if rule.startswith(".") else f".{rule}")


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
