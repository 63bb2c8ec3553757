"""Text from containers, made safe to look at: nothing in it stays invisible or turns the rest around."""

import re

#: Control characters but tab and newline, and the format characters that hide, join or reorder text.
INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)


def legible(text: str) -> str:
    """`text` with its invisible characters as escapes: `\\x1b`, `\\u202e`. (Many fonts lack the pictures for them.)"""
    return INVISIBLE.sub(_escape, text.replace("\r\n", "\n"))


def _escape(found: re.Match[str]) -> str:
    code = ord(found.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
