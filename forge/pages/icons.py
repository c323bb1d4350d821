"""The icons: 16 px grid, 1.5 px stroke, drawn with the colour of the text around them."""

from __future__ import annotations

ICONS = {
    "approval": (
        '<path d="M8 1.5L14.5 8 8 14.5 1.5 8z"/>'
        '<path d="M8 5v3.4"/>'
        '<circle class="f" cx="8" cy="10.7" r=".9"/>'
    ),
    "audit": (
        '<path d="M3.5 2h6l3 3v9h-9z"/><path d="M9.5 2v3h3"/><path d="M5.8 8h4.4M5.8 11h3"/>'
    ),
    "auto": '<circle cx="8" cy="8" r="6"/><path class="f" d="M8 2a6 6 0 0 1 0 12z"/>',
    "busy": '<path d="M2.5 13.5v-4M6.2 13.5V5M9.8 13.5v-6M13.5 13.5V2.5" stroke-width="2"/>',
    "check": '<path d="M3 8.5l3.2 3.2L13 5"/>',
    "clock": '<circle cx="8" cy="8" r="6"/><path d="M8 4.5V8l2.4 1.5"/>',
    "copy": (
        '<rect x="5.5" y="5.5" width="8" height="8.5" rx="1.5"/>'
        '<path d="M10.5 3.5A1.5 1.5 0 0 0 9 2H4a1.5 1.5 0 0 0-1.5 1.5v6A1.5 1.5 0 0 0 4 11"/>'
    ),
    "dl": '<path d="M8 2v8M5 7l3 3 3-3M2.5 13.5h11"/>',
    "down": '<path d="M4 6l4 4 4-4"/>',
    "draining": (
        '<path d="M8 1.8v7M5 6.2l3 3 3-3"/>'
        '<path d="M2 10.5v2.2c0 .7.6 1.3 1.3 1.3h9.4c.7 0 1.3-.6 1.3-1.3v-2.2"/>'
    ),
    "edit": '<path d="M10.5 2.8l2.7 2.7-7.7 7.7-3.2.5.5-3.2z"/>',
    "failed": (
        '<path class="f" d="M5.1 1h5.8L15 5.1v5.8L10.9 15H5.1L1 10.9V5.1z"/>'
        '<path d="M5.7 5.7l4.6 4.6M10.3 5.7l-4.6 4.6" class="c"/>'
    ),
    "follow": '<path d="M8 2v8M4.5 7L8 10.5 11.5 7M3 14h10"/>',
    "fold": (
        '<path d="M3 8h10M8 2v3.5M6.500 4L8 5.500 9.500 4"/>'
        '<path d="M8 14v-3.500M6.500 12L8 10.500 9.500 12"/>'
    ),
    "full": '<path d="M2.5 6V2.5H6M10 2.5h3.500V6M13.500 10v3.500H10M6 13.500H2.500V10"/>',
    "idle": '<circle cx="8" cy="8" r="6"/><circle class="f" cx="8" cy="8" r="2.4"/>',
    "info": (
        '<circle cx="8" cy="8" r="6"/>'
        '<path d="M8 7.5v3.5"/>'
        '<circle class="f" cx="8" cy="5.2" r=".9"/>'
    ),
    "key": (
        '<circle cx="5.2" cy="10.8" r="3"/><path d="M7.4 8.6L13.5 2.5M11 5l2 2M9.2 6.8l1.5 1.5"/>'
    ),
    "lost": (
        '<circle cx="8" cy="8" r="6.2"/>'
        '<path d="M6.2 6.4A1.9 1.9 0 0 1 9.9 7c0 1.2-1.8 1.4-1.8 2.4"/>'
        '<circle class="f" cx="8.1" cy="11.5" r=".9"/>'
    ),
    "members": (
        '<circle cx="6" cy="5.5" r="2.5"/><path d="M1.5 13.5c.4-2.6 2.2-4 4.5-4s4.1 1.4 4.5 4"/>'
        '<path d="M10.5 3.2a2.5 2.5 0 0 1 0 4.6M12 9.9c1.5.6 2.3 1.8 2.6 3.6"/>'
    ),
    "menu": '<path d="M2.5 4.5h11M2.5 8h11M2.5 11.5h11"/>',
    "moon": '<path d="M13.5 9.6A5.8 5.8 0 0 1 6.4 2.5a5.8 5.8 0 1 0 7.1 7.1z"/>',
    "more": (
        '<circle class="f" cx="3.2" cy="8" r="1.3"/>'
        '<circle class="f" cx="8" cy="8" r="1.3"/>'
        '<circle class="f" cx="12.8" cy="8" r="1.3"/>'
    ),
    "never": '<circle cx="8" cy="8" r="6" stroke-dasharray="2.4 2.3"/>',
    "offline": (
        '<path d="M5.5 2v3.2M10.5 2v3.2M4 5.2h8v1.6a4 4 0 0 1-8 0zM8 10.8V14"/>'
        '<path d="M2 2l12 12"/>'
    ),
    "out": '<path d="M6.5 2.5h-3a1 1 0 0 0-1 1v9a1 1 0 0 0 1 1h3M10 5l3 3-3 3M13 8H6"/>',
    "outdated": '<circle cx="8" cy="8" r="6"/><path d="M8 11V5.2M5.6 7.4L8 5l2.4 2.4"/>',
    "overview": '<path d="M2 13.5h12M4 11V7.5M8 11V3M12 11V6"/>',
    "paused": (
        '<circle cx="8" cy="8" r="6"/><path d="M6.4 5.8v4.4M9.6 5.8v4.4" stroke-width="1.7"/>'
    ),
    "play": '<path d="M5 3v10l8-5z"/>',
    "plus": '<path d="M8 3v10M3 8h10"/>',
    "queued": '<circle cx="8" cy="8" r="6" stroke-dasharray="2.4 2.3"/><path d="M8 5v3l2 1.4"/>',
    "rerun": '<path d="M13 8a5 5 0 1 1-1.6-3.7M13 2v3h-3"/>',
    "revoked": '<circle cx="8" cy="8" r="6"/><path d="M3.8 3.8l8.4 8.4"/>',
    "right": '<path d="M6 4l4 4-4 4"/>',
    "runner": (
        '<rect x="2" y="2.5" width="12" height="4.5" rx="1.2"/>'
        '<rect x="2" y="9" width="12" height="4.5" rx="1.2"/>'
        '<path d="M5 4.75h.01M5 11.25h.01" stroke-width="2"/>'
        '<path d="M9 4.75h2.5M9 11.25h2.5"/>'
    ),
    "running": '<circle cx="8" cy="8" r="6"/><path class="f" d="M6.4 5.2v5.6L11 8z"/>',
    "search": '<circle cx="7" cy="7" r="4.5"/><path d="M10.5 10.5L14 14"/>',
    "stale": '<circle cx="8" cy="8" r="6"/><path d="M8 4.5V8l-2.4 1.6"/>',
    "starting": (
        '<circle cx="8" cy="8" r="6" opacity=".3"/><path class="spin" d="M8 2a6 6 0 0 1 6 6"/>'
    ),
    "stop": '<rect x="3.5" y="3.5" width="9" height="9" rx="1.5"/>',
    "stopped": (
        '<circle cx="8" cy="8" r="6"/>'
        '<rect class="f" x="5.5" y="5.5" width="5" height="5" rx=".8"/>'
    ),
    "stopping": (
        '<path d="M8 2a6 6 0 1 1-5.6 3.8"/>'
        '<rect class="f" x="5.8" y="5.8" width="4.4" height="4.4" rx=".6"/>'
    ),
    "succeeded": (
        '<circle class="f" cx="8" cy="8" r="7"/><path d="M5 8.2l2.1 2.1L11 6" class="c"/>'
    ),
    "sun": (
        '<circle cx="8" cy="8" r="3"/>'
        '<path d="M8 1.5v1.6M8 12.9v1.6M1.5 8h1.6M12.9 8h1.6M3.4 3.4l1.1 1.1M11.5 11.5l1.1 1.'
        '1M3.4 12.6l1.1-1.1M11.5 4.5l1.1-1.1"/>'
    ),
    "tasks": (
        '<path d="M6 4h8M6 8h8M6 12h8"/>'
        '<path d="M2.5 4h.01M2.5 8h.01M2.5 12h.01" stroke-width="2"/>'
    ),
    "template": (
        '<rect x="2.5" y="2" width="11" height="12" rx="1.5"/>'
        '<path d="M5.5 5.5h5M5.5 8.5h5M5.5 11h2.5"/>'
    ),
    "trash": '<path d="M2.5 4h11M6 4V2.5h4V4M4 4l.6 9.5h6.800L12 4"/>',
    "unhealthy": (
        '<path d="M8 2L14.8 13.8H1.2z"/>'
        '<path d="M8 6.4v3.2"/>'
        '<circle class="f" cx="8" cy="11.7" r=".9"/>'
    ),
    "unreachable": (
        '<path d="M2 6.2a8.6 8.6 0 0 1 4-2.3M14 6.2a8.6 8.6 0 0 0-2.6-1.8M4.6 9.1a5 5 0 0 1 2'
        '-1.3"/>'
        '<circle class="f" cx="8" cy="12" r="1.3"/>'
        '<path d="M3 14L12.5 2"/>'
    ),
    "up": '<path d="M4 10l4-4 4 4"/>',
    "updown": '<path d="M5 6l3-3 3 3M5 10l3 3 3-3"/>',
    "variables": (
        '<path d="M5.5 2.5C3.5 2.5 4.5 8 2.5 8c2 0 1 5.5 3 5.5M10.5 2.5c2 0 1 5.5 3 5.5-2 0-1 '
        '5.5-3 5.5"/>'
    ),
    "wrap": '<path d="M2 4h12M2 8h9.500a2 2 0 0 1 0 4H9M10.500 10.500L9 12l1.500 1.500M2 12h4"/>',
    "x": '<path d="M4 4l8 8M12 4l-8 8"/>',
}
