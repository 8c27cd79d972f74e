"""A result's name: the hash of everything that defines its meaning."""

import dataclasses
import hashlib
import json


def plain(value):
    """A specification as plain JSON values: dataclasses become objects with their type's name, all fields, and their versions.

    A field that was added later names in its metadata the value that stood for it before (`before`) and is left out where it has
    that value, so that older results keep their keys; `version` or `versions` of a value count what its code computes.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        named = {
            field.name: plain(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if "before" not in field.metadata or getattr(value, field.name) != field.metadata["before"]
        }
        counted = {name: plain(getattr(value, name)) for name in ("version", "versions") if hasattr(value, name)}
        return {"type": type(value).__name__, **named, **counted}
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise TypeError(f"a spec holds plain values only, not {type(value).__name__}")


def key_of(name: str, identity) -> str:
    """`<name>-<12 hex digits>`; the digits are the SHA-256 of the canonical JSON of `identity`."""
    text = json.dumps(plain(identity), sort_keys=True, separators=(",", ":"))
    slug = "".join(c if c.isalnum() or c in "._+" else "_" for c in name)
    return f"{slug}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
