"""Invisible characters in text from containers: they could hide some text, or change the order in which it reads."""

import re

#: Control characters except tab and newline, and the format characters that hide, join or reorder text.
INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)


def escape_invisible(text: str) -> str:
    r"""Return `text` with its invisible characters as escapes, such as `\x1b` and `\u202e`.

    Unicode's pictures for control characters are not used, because many fonts lack them.
    """
    return INVISIBLE.sub(_escape, text.replace("\r\n", "\n"))


def _escape(found: re.Match[str]) -> str:
    code = ord(found.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
