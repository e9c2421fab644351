"""The three kinds of PATCH: JSON merge patch (RFC 7386), JSON patch (RFC 6902), and Kubernetes' strategic merge patch.

None of them changes its arguments. Strategic merge knows the list keys of the built-in kinds that are served here.
"""

from typing import Any

import jsonpatch

from awsbatch_sandbox.apiserver.errors import ApiError, bad_request

MERGE_KEYS = {
    "conditions": "type",
    "ownerReferences": "uid",
    "secrets": "name",
    "imagePullSecrets": "name",
}
_PRIMITIVE_MERGE = frozenset({"finalizers"})


def merge(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def apply_json_patch(target: Any, operations: Any) -> Any:
    """RFC 6902; a failing `test` or a missing path is 422, rubbish is 400."""
    try:
        return jsonpatch.JsonPatch(operations).apply(target)
    except (jsonpatch.JsonPatchConflict, jsonpatch.JsonPatchTestFailed, jsonpatch.JsonPointerException) as error:
        raise ApiError(422, "Invalid", "the server rejected our request due to an error in our request", {}) from error
    except (jsonpatch.JsonPatchException, TypeError, AttributeError, KeyError) as error:
        raise bad_request(f"error decoding patch: {error}") from error


def strategic_merge(target: Any, patch: Any, name: str = "") -> Any:
    """`name` is the field that contains the two values: it determines the merge key of lists."""
    if isinstance(patch, list):
        return _merge_list(target if isinstance(target, list) else [], patch, name)
    if not isinstance(patch, dict):
        return patch
    if patch.get("$patch") == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    if patch.get("$patch") == "delete":
        return {}
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if key.startswith("$deleteFromPrimitiveList/"):
            listed = key.partition("/")[2]
            result[listed] = [item for item in result.get(listed) or [] if item not in value]
        elif value is None:
            result.pop(key, None)
        elif not key.startswith("$"):
            result[key] = strategic_merge(result.get(key), value, key)
    return result


def _merge_list(target: list[Any], patch: list[Any], name: str) -> list[Any]:
    if name in _PRIMITIVE_MERGE:
        return target + [item for item in patch if item not in target]
    key = MERGE_KEYS.get(name)
    if key is None:
        return [item for item in patch if not (isinstance(item, dict) and "$patch" in item)]
    if {"$patch": "replace"} in patch:
        return [item for item in patch if "$patch" not in item]
    merged = {item.get(key): item for item in target}
    for item in patch:
        if item.get("$patch") == "delete":
            merged.pop(item.get(key), None)
        else:
            merged[item.get(key)] = strategic_merge(merged.get(item.get(key)), item)
    return list(merged.values())
