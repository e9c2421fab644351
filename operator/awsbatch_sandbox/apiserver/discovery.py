"""Discovery: /api and /apis, in the legacy documents and in the aggregated one that kubectl prefers."""

from awsbatch_sandbox.apiserver.errors import NOT_KUBERNETES
from awsbatch_sandbox.apiserver.resources import Catalog, Resource
from awsbatch_sandbox.apiserver.storage import Body

VERSION: Body = {
    "major": "1",
    "minor": "36",
    "gitVersion": "v1.36.0+awsbatch-sandbox",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "2026-11-23T00:00:00Z",
    "goVersion": "none",
    "compiler": "python",
    "platform": "embedded",
}


def root() -> Body:
    """The page at /."""
    paths = ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/openapi/v3", "/readyz", "/version"]
    return {"message": NOT_KUBERNETES, "paths": [*paths, "/_sandbox/requests"]}


def core_versions(address: str) -> Body:
    """GET /api; `address` is host:port."""
    servers = [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": servers}


def group_list(catalog: Catalog) -> Body:
    """GET /apis."""
    groups = [group(catalog, name) for name in catalog.groups() if name]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def group(catalog: Catalog, name: str) -> Body:
    """GET /apis/{name}, of a group that is served."""
    versions = [{"groupVersion": f"{name}/{version}", "version": version} for version in catalog.groups()[name]]
    document = {"kind": "APIGroup", "apiVersion": "v1", "name": name}
    return document | {"versions": versions, "preferredVersion": versions[0]}


def resource_list(catalog: Catalog, group_name: str, version: str) -> Body:
    """GET /api/v1 or /apis/{group}/{version}."""
    api_version = f"{group_name}/{version}" if group_name else version
    listed = [entry for resource in catalog.of(group_name, version) for entry in _legacy(resource)]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version, "resources": listed}


def _legacy(resource: Resource) -> list[Body]:
    main: Body = {
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        main["shortNames"] = list(resource.short_names)
    if resource.categories:
        main["categories"] = list(resource.categories)
    if not resource.has_status:
        return [main]
    status = {"name": f"{resource.plural}/status", "singularName": "", "namespaced": resource.namespaced}
    return [main, status | {"kind": resource.kind, "verbs": ["get", "patch", "update"]}]


def aggregated(catalog: Catalog, version: str, *, core: bool) -> Body:
    """GET /api or /apis as an APIGroupDiscoveryList of apidiscovery.k8s.io/`version`."""
    items = []
    for name, versions in catalog.groups().items():
        if bool(name) is core:
            continue
        described = [
            {
                "version": served,
                "resources": [_aggregated(resource) for resource in catalog.of(name, served)],
                "freshness": "Current",
            }
            for served in versions
        ]
        items.append({"metadata": {"name": name} if name else {}, "versions": described})
    document = {"kind": "APIGroupDiscoveryList", "apiVersion": f"apidiscovery.k8s.io/{version}", "metadata": {}}
    return document | {"items": items}


def _aggregated(resource: Resource) -> Body:
    kind = {"group": resource.group, "version": resource.version, "kind": resource.kind}
    described: Body = {
        "resource": resource.plural,
        "responseKind": kind,
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        described["shortNames"] = list(resource.short_names)
    if resource.categories:
        described["categories"] = list(resource.categories)
    if resource.has_status:
        subresource = {"subresource": "status", "responseKind": kind, "verbs": ["get", "patch", "update"]}
        described["subresources"] = [subresource]
    return described
