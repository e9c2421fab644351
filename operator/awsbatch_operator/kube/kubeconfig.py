"""Kubeconfig files, read as kubectl reads them: the merge of a list, the context, its cluster and its user.

https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/#merging-kubeconfig-files
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, Literal, TypeVar

import msgspec
import yaml

from awsbatch_operator.kube.cluster_config import Faults, NoClusterError

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SECTIONS: Final = ("clusters", "users", "contexts")


class Context(msgspec.Struct, frozen=True):
    """Names of a cluster and a user of the kubeconfig, and the namespace of commands that name none."""

    cluster: str | None = None
    user: str | None = None
    namespace: str | None = None


class Cluster(msgspec.Struct, frozen=True, rename="kebab"):
    """The address of the API server and its CA. Data fields are base64 of PEM."""

    server: str | None = None
    certificate_authority: str | None = None
    certificate_authority_data: str | None = None
    insecure_skip_tls_verify: bool | None = None
    tls_server_name: str | None = None
    proxy_url: str | None = None
    extensions: Any = None


class Variable(msgspec.Struct, frozen=True):
    """A variable of the environment of an exec plugin."""

    name: str
    value: str


class Exec(msgspec.Struct, frozen=True, rename="camel"):
    """The command of an exec plugin."""

    api_version: str
    command: str
    args: Sequence[str] | None = None
    env: Sequence[Variable] | None = None
    install_hint: str | None = None
    provide_cluster_info: bool | None = None
    interactive_mode: Literal["Never", "IfAvailable", "Always"] | None = None


class User(msgspec.Struct, frozen=True, rename="kebab"):
    """Credentials, and whom to impersonate. Data fields are base64 of PEM."""

    client_certificate: str | None = None
    client_certificate_data: str | None = None
    client_key: str | None = None
    client_key_data: str | None = None
    token: str | None = None
    token_file: str | None = msgspec.field(default=None, name="tokenFile")
    username: str | None = None
    password: str | None = None
    exec: Exec | None = None
    auth_provider: Any = None
    impersonate: str | None = msgspec.field(default=None, name="as")
    as_uid: str | None = None
    as_groups: Sequence[str] | None = None
    as_user_extra: Mapping[str, Sequence[str]] | None = None


_Value = TypeVar("_Value", Context, Cluster, User)


@dataclass(frozen=True, slots=True)
class Entry(Generic[_Value]):
    """An entry of a section, such as `users`, and the file that defines it."""

    section: str
    name: str
    file: Path
    value: _Value

    def field(self, name: str) -> str:
        """Return the file and the path of a field; an empty name: of the whole entry."""
        return f"{self.file}: {self.section}[{self.name}].{self.section.removesuffix('s')}{name and '.'}{name}"

    def fault(self, field: str, problem: str) -> str:
        """Name the file and the field of a problem."""
        return f"{self.field(field)}: {problem}"

    def path(self, value: str) -> Path:
        """Resolve a path of this entry: a relative one starts at the directory of the kubeconfig."""
        return self.file.parent / value


@dataclass(frozen=True, slots=True)
class Selected:
    """The selected context with its cluster and its user; None: a user without credentials."""

    context: Entry[Context]
    cluster: Entry[Cluster]
    user: Entry[User] | None


class Kubeconfig:
    """The merge of kubeconfig files. Raises NoClusterError if a file can't be read."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._entries: dict[tuple[str, str], tuple[Path, Any]] = {}
        self._current: list[tuple[Path, Any]] = []
        self._files = files
        faults = [fault for file in dict.fromkeys(files) for fault in self._add(file)]
        if faults:
            raise NoClusterError(*faults)

    def _add(self, file: Path) -> list[str]:
        try:
            config = yaml.load(file.read_bytes(), _LOADER)  # noqa: S506 - a safe loader
        except FileNotFoundError:
            return []
        except OSError as error:
            return [f"{file}: cannot be read: {error.strerror}"]
        except yaml.YAMLError as error:
            return [f"{file}: is not YAML: {' '.join(str(error).split())}"]
        if config is None:
            return []
        if not isinstance(config, dict):
            return [f"{file}: is not a kubeconfig: it must be a mapping with clusters, users and contexts"]
        self._current.append((file, config.get("current-context")))
        return [fault for section in _SECTIONS for fault in self._add_section(file, section, config.get(section))]

    def _add_section(self, file: Path, section: str, items: Any) -> list[str]:
        kind, names = section.removesuffix("s"), set()
        if not isinstance(items, list | None):
            return [f"{file}: {section}: must be a list"]
        for index, item in enumerate(items or ()):
            match item:
                case {"name": str(name)} if name in names:
                    return [f"{file}: {section}[{name}]: the name occurs twice"]
                case {"name": str(name)}:
                    names.add(name)
                    # As kubectl: the first file that defines a name defines the whole entry.
                    self._entries.setdefault((section, name), (file, item.get(kind)))
                case _:
                    return [f"{file}: {section}[{index}].name: must be a string"]
        return []

    def select(self, context: str | None) -> Selected:
        """Return the context of that name; None: the current context. Raises NoClusterError."""
        name = context or self._current_context()
        selected = self._entry("contexts", name, Context, "--context" if context else "current-context")
        faults, cluster, user = Faults(), None, None
        with faults.collected():
            cluster = self._entry("clusters", selected.value.cluster or "", Cluster, selected.field("cluster"))
        with faults.collected():
            user = self.user(selected.value.user, selected.field("user")) if selected.value.user else None
        if cluster is None:
            raise NoClusterError(*faults)
        faults.raise_found()
        return Selected(selected, cluster, user)

    def user(self, name: str, named_by: str = "the selected context") -> Entry[User]:
        """Return the user of that name. Raises NoClusterError."""
        return self._entry("users", name, User, named_by)

    def _current_context(self) -> str:
        """The first one that is not empty wins, as for kubectl."""
        for file, name in self._current:
            if name and not isinstance(name, str):
                raise NoClusterError(f"{file}: current-context: must be a string")
            if name:
                return str(name)
        files = ", ".join(map(str, self._files))
        raise NoClusterError(f"{files}: current-context: is not set; set --context, or run kubectl config use-context")

    def _entry(self, section: str, name: str, kind: type[_Value], named_by: str) -> Entry[_Value]:
        if not name:
            raise NoClusterError(f"{named_by}: is missing")
        if (section, name) not in self._entries:
            files = ", ".join(map(str, self._files))
            raise NoClusterError(f"{named_by}: {section}[{name}] does not exist in {files}")
        file, raw = self._entries[section, name]
        entry = Entry(section, name, file, kind())
        try:
            return Entry(section, name, file, msgspec.convert(raw or {}, kind))
        except msgspec.ValidationError as error:
            problem, _, path = str(error).partition(" - at `$")
            raise NoClusterError(entry.fault(path.strip("`."), problem)) from error
