"""What a new Forge is filled with: three templates that somebody would use on a real host."""

from __future__ import annotations

from typing import NamedTuple

PROJECT = "Demo"
RUNNER = "demo-1"


class DemoTemplate(NamedTuple):
    name: str
    description: str
    app: str
    script: str
    environment: dict[str, str]


HOST_REPORT = """\
# What is this host, and is anything wrong with it?
set -u
echo "== $(hostname), $(date -u '+%Y-%m-%d %H:%M UTC')"
. /etc/os-release 2>/dev/null && echo "$PRETTY_NAME, kernel $(uname -r)"
read -r one five fifteen _ < /proc/loadavg
echo "Load $one $five $fifteen on $(getconf _NPROCESSORS_ONLN) processors"
awk '/^MemTotal|^MemAvailable/ {printf "%s %.1f GiB\\n", $1, $2 / 1048576}' /proc/meminfo
echo
echo "== File systems above ${WARN_PERCENT}% full"
full=$(df -P -x tmpfs -x devtmpfs -x overlay 2>/dev/null |
  awk -v limit="$WARN_PERCENT" 'NR > 1 && $5 + 0 > limit {print $5, $6}')
echo "${full:-none}"
echo
echo "== Largest processes"
for status in /proc/[0-9]*/status; do
  awk '/^Name/ {name = $2}
       /^VmRSS/ {printf "%8.1f MiB  %s\\n", $2 / 1024, name}' "$status" 2>/dev/null
done | sort -rn | head -n 5
if command -v systemctl >/dev/null && systemctl is-system-running >/dev/null 2>&1; then
  echo
  echo "== Failed units"
  systemctl --failed --no-legend --plain
fi
"""

CERTIFICATES = '''\
"""Which certificates in a folder run out soon?  Exit status 1 if one already has."""
import datetime
import os
import pathlib
import ssl
import sys

folder = pathlib.Path(os.environ["CERTIFICATES"])
days = int(os.environ["WARN_DAYS"])
now = datetime.datetime.now(datetime.timezone.utc)
checked = soon = over = unreadable = 0

for path in sorted(folder.glob("*.pem")) + sorted(folder.glob("*.crt")):
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(path)
        certificates = context.get_ca_certs()
    except (ssl.SSLError, OSError):
        unreadable += 1
        continue
    for certificate in certificates:
        checked += 1
        seconds = ssl.cert_time_to_seconds(certificate["notAfter"])
        end = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
        left = (end - now).days
        if left < 0:
            over += 1
            print(f"\\033[31mexpired\\033[0m   {end:%Y-%m-%d}  {path.name}")
        elif left < days:
            soon += 1
            print(f"\\033[33m{left:4} days\\033[0m  {end:%Y-%m-%d}  {path.name}")

print(f"{folder}: {checked} certificates checked, {soon} within {days} days, {over} expired,"
      f" {unreadable} files passed over")
sys.exit(1 if over and os.environ.get("STRICT") == "yes" else 0)
'''

BACKUP = """\
# Back up a folder: archive, checksum, proof that it can be read back, old ones deleted.
set -euo pipefail
stamp=$(date -u +%Y%m%dT%H%M%SZ)
target=${BACKUPS:-/var/tmp/forge-demo-backups-$(id -u)}
mkdir -p "$target"
archive="$target/$(basename "$FOLDER")-$stamp.tar.gz"

echo "Archiving $FOLDER"
tar --warning=no-file-changed --ignore-failed-read -czf "$archive" \\
  -C "$(dirname "$FOLDER")" "$(basename "$FOLDER")" 2>/dev/null || [ $? -eq 1 ]
(cd "$target" && sha256sum "$(basename "$archive")" > "$(basename "$archive").sha256")

echo "Reading it back"
(cd "$target" && sha256sum --check --quiet "$(basename "$archive").sha256")
echo "$(tar -tzf "$archive" | wc -l) entries, $(du -h "$archive" | cut -f1), checksum good"

ls -1t "$target"/*.tar.gz | tail -n +$((KEEP + 1)) | while read -r old; do
  rm -f "$old" "$old.sha256"
  echo "Deleted $(basename "$old")"
done
echo "Kept the newest $KEEP in $target"
"""

TEMPLATES = (
    DemoTemplate(
        "Host report",
        "Load, memory, full file systems, largest processes, failed units",
        "bash",
        HOST_REPORT,
        {"WARN_PERCENT": "85"},
    ),
    DemoTemplate(
        "Certificate expiry",
        "Certificates in a folder that run out soon",
        "python",
        CERTIFICATES,
        {"CERTIFICATES": "/etc/ssl/certs", "WARN_DAYS": "30"},
    ),
    DemoTemplate(
        "Back up a folder",
        "Archive with checksum, read back, keep the newest",
        "bash",
        BACKUP,
        {"FOLDER": "/etc", "KEEP": "3"},
    ),
)
