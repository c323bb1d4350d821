"""What the sample data is called."""

from __future__ import annotations

FIRST_NAMES = (
    "Ada", "Amara", "Bela", "Chen", "Dario", "Elif", "Farid", "Greta", "Hana", "Ivo", "Jonas",
    "Kirsi", "Lena", "Mateo", "Nadia", "Oskar", "Priya", "Quentin", "Rosa", "Sven", "Tomoko",
    "Uma", "Viktor", "Wanda", "Yara", "Zoltan",
)  # fmt: skip
LAST_NAMES = (
    "Albrecht", "Banerjee", "Costa", "Dvorak", "Eriksen", "Fischer", "Gruber", "Haddad", "Ito",
    "Jansen", "Kowalski", "Lindqvist", "Moreau", "Novak", "Okafor", "Petrov", "Rossi", "Silva",
    "Tanaka", "Weber",
)  # fmt: skip
AREAS = (
    "Payments", "Checkout", "Billing", "Search", "Identity", "Warehouse", "Shipping", "Mail",
    "Data platform", "Monitoring", "Network", "Intranet", "Mobile API", "Website", "Storage",
    "Build farm", "Fraud checks", "Reporting", "Partner API", "Back office",
)  # fmt: skip
PLACES = ("", "Europe", "America", "Asia", "staging", "laboratory", "legacy", "canary", "finance",
          "research")  # fmt: skip
TAGS = ("linux", "ansible", "database", "gpu", "dmz", "backup")
HOSTS = ("web", "db", "queue", "cache", "edge", "batch", "core")
SYSTEMS = ("Debian 12, x86_64", "Debian 12, aarch64", "Ubuntu 24.04, x86_64", "RHEL 9, x86_64")
VERSIONS = ("0.1.0", "0.1.0", "0.1.0", "0.0.9")
PAUSE_REASONS = ("Kernel update", "Moves to another rack", "Disk is being replaced")

# Name, description, script; those at the front run often, the last one never has.
JOBS = (
    ("Health check", "Asks every service how it is", "./check --all --timeout 10\n"),
    ("Deploy", "Rolls out the latest release", 'set -e\n./deploy --release "$RELEASE"\n./smoke\n'),
    ("Restart", "One host at a time", "for h in $HOSTS; do ./bounce $h; done\n"),
    ("Back up the database", "Dumps and uploads it", "pg_dump main | ./upload --bucket nightly\n"),
    ("Rotate logs", "Those older than a week", "find /var/log/app -mtime +7 -exec gzip {} +\n"),
    ("Renew certificates", "Before they end", "./acme renew --all\nsystemctl reload nginx\n"),
    ("Update packages", "Security updates only", "apt-get update -q\nunattended-upgrade -v\n"),
    ("Reindex", "Builds the index anew beside the old one", "./index build --swap\n"),
    ("Clear caches", "After a change of prices", "./cache flush --region $REGION\n"),
    ("Sync mirrors", "Copies packages to all sites", "rsync -a --delete mirror/ $SITE:mirror/\n"),
    ("Check restores", "Restores the last backup", "./restore --to scratch --verify\n"),
    ("Fail over", "Moves the service to the other site", "./failover --to $OTHER --confirm\n"),
)  # fmt: skip
FAILURES = (
    "Ended with exit code 1.",
    "Ended with exit code 2.",
    "Ended with exit code 127.",
    "Took longer than its template allows, and was stopped.",
)
LOG_LINES = (
    "connecting to the service", "reading the configuration", "12 hosts are meant", "step done",
    "waiting for the health check", "all answers are good", "cleaning up", "nothing else to do",
)  # fmt: skip
