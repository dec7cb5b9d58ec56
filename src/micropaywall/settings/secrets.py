"""Values that must not be shown: by the name of their setting, or by what they look like."""

from __future__ import annotations

import re
from typing import Any, Final

__all__ = ["REDACTED", "shown"]

REDACTED: Final = "(hidden)"
_SECRET_NAME: Final = re.compile(
    r"(?:^|_)(?:secret|passphrase|password|passwd|mnemonic|seed|token|credential|api_?key|private_?key|macaroon)(?:$|_)"
)
_NOT_SECRET_NAME: Final = re.compile(r"_(?:file|path|s|bytes)$")
_PRIVATE_KEY: Final = re.compile(r"(?:0x)?[0-9a-fA-F]{64}", re.ASCII)
_PEM: Final = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")
_URL_PASSWORD: Final = re.compile(r"(?P<before>[a-z][a-z0-9+.-]*://[^/?#@:\s]*):[^/?#@\s]+@", re.IGNORECASE)


def shown(key: str, value: Any) -> Any:
    """``value`` of the setting ``key`` as it may be printed: secrets replaced, passwords in URLs cut out.

    A value is a secret when its setting is called one, or when it has the form of a private key (32 bytes in hex, PEM),
    wherever it stands.
    """
    name = key.rpartition(".")[2].partition("[")[0]
    if value not in (None, "", 0, False, [], ()) and _SECRET_NAME.search(name) and not _NOT_SECRET_NAME.search(name):
        return REDACTED
    if isinstance(value, (list, tuple)):
        return [shown(f"{key}[{index}]", item) for index, item in enumerate(value)]
    if isinstance(value, dict):
        return {name: shown(f"{key}.{name}", item) for name, item in value.items()}
    if isinstance(value, str):
        if _PRIVATE_KEY.fullmatch(value.strip()) or _PEM.search(value):
            return REDACTED
        return _URL_PASSWORD.sub(rf"\g<before>:{REDACTED}@", value)
    return value
