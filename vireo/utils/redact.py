"""Keep tokens and passwords out of logs, receipts, results and error texts."""

import os
import re
from typing import Any

# user:password@ in a URL, and query values whose names say that they grant access.
_USERINFO = re.compile(r"(?<=://)[^/@\s'\"]+@")
_QUERY = re.compile(
    r"(?i)([?&;][\w.-]*(?:token|key|secret|passw|signature|sig|credential|auth|policy|session)"
    r"[\w.-]*=)[^&\s'\"<>)]+"
)
_HEADER = re.compile(
    r"(?i)(authorization['\"]?\s*[:=]\s*['\"]?(?:bearer\s+|basic\s+|token\s+)?|\bbearer\s+|"
    r"\btoken\s*[=:]\s*['\"]?)[\w.~+/-]{8,}=*"
)
_KNOWN_SHAPES = re.compile(r"\b(?:hf|ghp|gho|github_pat|sk)_\w{8,}")
# The variable has to say "secret" as a word of its own: PYTHONHASHSEED or KEYBOARD do not.
_VARIABLE = re.compile(r"(?i)(^|_)(tokens?|secret|passw(or)?d|api_?key|access_?key|auth)(_|$)")
HIDDEN = "***"


def redact(text: object) -> str:
    """The text without URL credentials, access tokens and values of secret-looking variables."""
    result = str(text)
    for name, value in os.environ.items():
        if len(value) >= 8 and _VARIABLE.search(name) and not os.path.exists(value):
            result = result.replace(value, HIDDEN)
    result = _USERINFO.sub(f"{HIDDEN}@", result)
    result = _QUERY.sub(rf"\g<1>{HIDDEN}", result)
    result = _HEADER.sub(rf"\g<1>{HIDDEN}", result)
    return _KNOWN_SHAPES.sub(HIDDEN, result)


def redact_all(value: Any) -> Any:
    """The same JSON-like value with secrets redacted in every text, keys included."""
    if isinstance(value, dict):
        return {redact(k): redact_all(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [redact_all(v) for v in value]
    return redact(value) if isinstance(value, str) else value
