"""The regions that the operator calls. A spec may name any region: without this check, each typo creates a client."""

from collections.abc import Callable, Container, Iterable
from functools import cache

from awsbatch_operator.aws.sdk_session import new_session


@cache
def published_regions() -> frozenset[str]:
    """Returns the regions of all partitions in botocore's endpoint data."""
    data = new_session().get_component("data_loader").load_data("endpoints")
    return frozenset(region for partition in data["partitions"] for region in partition["regions"])


class KnownRegions:
    """The published regions, those that are configured (the operator's own, --allow-region), and those of policies."""

    def __init__(self, configured: Iterable[str], of_policies: Callable[[], Container[str]]) -> None:
        self._configured, self._of_policies = frozenset(configured), of_policies

    def __contains__(self, region: object) -> bool:
        return region in self._configured or region in published_regions() or region in self._of_policies()
