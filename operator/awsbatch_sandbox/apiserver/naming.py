"""The rules for names, labels and annotations (apimachinery util/validation)."""

import re
from typing import Final

from awsbatch_sandbox.apiserver.errors import FieldError, bad_request

SUBDOMAIN: Final = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
BAD_NAME: Final = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    f"end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{SUBDOMAIN}')"
)
_KEY: Final = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_BAD_KEY: Final = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    f"character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{_KEY}')"
)
_VALUE: Final = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?"
_BAD_VALUE: Final = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    f"end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    f"'{_VALUE}')"
)


def name_faults(name: str) -> list[FieldError]:
    """Faults of a new object's name, which must be a DNS subdomain."""
    if len(name) <= 253 and re.fullmatch(SUBDOMAIN, name):
        return []
    return [FieldError("FieldValueInvalid", ("metadata", "name"), name, BAD_NAME)]


def label_faults(labels: dict[str, object]) -> list[FieldError]:
    """Faults of the keys and values of metadata.labels; ApiError 400 when a value is no string."""
    faults = _key_faults(labels, "labels")
    for value in labels.values():
        if not re.fullmatch(_VALUE, str(value)):
            faults.append(FieldError("FieldValueInvalid", ("metadata", "labels"), value, _BAD_VALUE))
        elif len(str(value)) > 63:
            detail = "must be no more than 63 bytes"
            faults.append(FieldError("FieldValueInvalid", ("metadata", "labels"), value, detail))
    return faults


def annotation_faults(annotations: dict[str, object]) -> list[FieldError]:
    """Faults of the keys of metadata.annotations; ApiError 400 when a value is no string."""
    return _key_faults({key.lower(): value for key, value in annotations.items()}, "annotations")


def _key_faults(pairs: dict[str, object], field: str) -> list[FieldError]:
    if not all(isinstance(value, str) for value in pairs.values()):
        raise bad_request(f"json: cannot unmarshal a value of ObjectMeta.{field} that is not of type string")
    keys = ((key, key.rpartition("/")) for key in pairs)
    return [
        FieldError("FieldValueInvalid", ("metadata", field), key, _BAD_KEY)
        for key, (prefix, _slash, name) in keys
        if not re.fullmatch(_KEY, name) or len(name) > 63 or (prefix and not re.fullmatch(SUBDOMAIN, prefix))
    ]
