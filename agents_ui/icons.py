"""The icons of the page: drawings of Lucide with the same names (its licence is in icons.LICENSE)."""

from pathlib import Path

#: It is part of the page itself, which saves a request before the first picture.
BRAND = (Path(__file__).parent / "static/agents_ui/dormouse.svg").read_text()

ICONS = {
    "play": '<path d="M5 5a2 2 0 0 1 3.008-1.728l11.997 6.998a2 2 0 0 1 .003 3.458l-12 7A2 2 0 0 1 5 19z"/>',
    "moon": '<path d="M20.985 12.486a9 9 0 1 1-9.473-9.472c.405-.022.617.46.402.803a6 6 0 0 0 8.268 8.268'
    'c.344-.215.825-.004.803.401"/>',
    # triangle-alert
    "alert": '<path d="m21.73 18-8-14a2 2 0 0 0-3.48 0l-8 14A2 2 0 0 0 4 21h16a2 2 0 0 0 1.73-3"/>'
    '<path d="M12 9v4"/><path d="M12 17h.01"/>',
    "x": '<path d="M18 6 6 18"/><path d="m6 6 12 12"/>',
    # circle-dot
    "dot": '<circle cx="12" cy="12" r="1"/><circle cx="12" cy="12" r="10"/>',
    "loader": '<path d="M12 2v4"/><path d="m16.2 7.8 2.9-2.9"/><path d="M18 12h4"/><path d="m16.2 16.2 2.9 2.9"/>'
    '<path d="M12 18v4"/><path d="m4.9 19.1 2.9-2.9"/><path d="M2 12h4"/><path d="m4.9 4.9 2.9 2.9"/>',
}
