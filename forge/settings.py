"""The one settings file: everything comes from the environment. Table in docs/settings.md."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

from forge.environment import Environment

BASE_DIR = Path(__file__).resolve().parent.parent
env = Environment()  # type: ignore[no-untyped-call]

DEBUG = env.bool("DEBUG", default=False)
# Error pages and mails with details, as with DEBUG, hide what people entered all the same.
DEFAULT_EXCEPTION_REPORTER_FILTER = "forge.error_reports.DiscreetReporterFilter"


def _secret_key() -> str:
    """SECRET_KEY or SECRET_KEY_FILE. Commands that serve nobody may go without."""
    key = env.text("SECRET_KEY")
    if key:
        return key
    harmless = {"makemigrations", "collectstatic", "check", "quickstart", "spectacular"}
    harmless |= {"new_secrets_key"}
    if len(sys.argv) > 1 and sys.argv[1] in harmless:
        return "only-for-commands-that-serve-nobody-" + "x" * 20
    raise ImproperlyConfigured(
        "SECRET_KEY is not set. Put 50 random characters there, or a file's path in "
        "SECRET_KEY_FILE; sessions are signed with it."
    )


SECRET_KEY = _secret_key()
SECRET_KEY_FALLBACKS = [
    key.strip() for key in env.text("SECRET_KEY_FALLBACKS").split(",") if key.strip()
]

# Access keys and secret variables are encrypted under the first key; the older ones still open.
FORGE_SECRETS_KEY = env.text("FORGE_SECRETS_KEY")
FORGE_SECRETS_KEY_FALLBACKS = [
    key.strip() for key in env.text("FORGE_SECRETS_KEY_FALLBACKS").split(",") if key.strip()
]

# Where people and runners find Forge. Links, the command to paste and FORGE_URL in tasks use it.
FORGE_URL = str(env("FORGE_URL", default="http://127.0.0.1:8000")).rstrip("/")
if not FORGE_URL.startswith(("http://", "https://")) or not urlsplit(FORGE_URL).hostname:
    raise ImproperlyConfigured(
        "FORGE_URL is no address of a web server. Give it as people type it, such as "
        "https://forge.example.net."
    )
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["127.0.0.1", "localhost", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
# True when a reverse proxy in front sets X-Forwarded-Proto and X-Forwarded-For itself.
FORGE_BEHIND_PROXY = env.bool("FORGE_BEHIND_PROXY", default=False)
if FORGE_BEHIND_PROXY:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_htmx",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "projects",
    "runners",
    "tasks",
    "forge",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "forge.security.content_security_policy",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "forge.acting.actor_in_requests",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "forge.readable_forms.readable_forms",
]

ROOT_URLCONF = "forge.urls"
ASGI_APPLICATION = "forge.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {
    "default": env.database(
        "DATABASE_URL", default=f"sqlite:///{BASE_DIR / 'var' / 'forge.sqlite3'}"
    )
}
_database = DATABASES["default"]
if _database["ENGINE"].endswith("sqlite3"):
    # WAL lets readers go on while somebody writes; IMMEDIATE takes the write lock at BEGIN,
    # so that two writers wait for each other instead of failing when they upgrade.
    _database["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }
    # Request threads are kept (forge.request_threads), and so are their connections.
    _database["CONN_MAX_AGE"] = None
else:
    # A request waits `timeout` seconds for a connection before it is answered with 503; what
    # tries to connect gives up after `reconnect_timeout`, or it would wait ever longer between
    # its tries and miss that the database is back.
    _pool = {"min_size": 2, "max_size": 20, "timeout": 5, "reconnect_timeout": 5}
    # A process that is stopped in the middle of a transaction holds its locks, and everybody who
    # wants them waits: the server ends such a session.
    _session = "-c idle_in_transaction_session_timeout=20s"
    # A server that is gone without a word, because its host died or packets are dropped, answers
    # neither queries nor connections. Without these the kernel would wait a quarter of an hour for
    # it, or two hours for the answer to a query that it has: milliseconds, and seconds.
    _limits = {"connect_timeout": 5, "tcp_user_timeout": 10_000}
    _probes = {"keepalives_idle": 5, "keepalives_interval": 5, "keepalives_count": 2}
    # What the address says itself, such as sslmode, comes last.
    _given = _database.get("OPTIONS", {})
    _session = f"{_session} {_given.pop('options', '')}".rstrip()
    _database["OPTIONS"] = {**_limits, **_probes, **_given, "pool": _pool, "options": _session}
    # A pool needs connections that are given back after each request.
    _database["CONN_MAX_AGE"] = 0

# The broker, as its administrator.
REDIS_URL = env.text("REDIS_URL", default="redis://127.0.0.1:6379/0")
if urlsplit(REDIS_URL).scheme not in ("redis", "rediss", "unix"):
    # Not the address itself: it holds a password.
    raise ImproperlyConfigured(
        "REDIS_URL is no address of a broker. Give redis://, rediss:// or unix:// with the "
        "administrator's password, such as redis://:password@127.0.0.1:6379/0."
    )
if urlsplit(REDIS_URL).path.strip("/") not in ("", "0") and not REDIS_URL.startswith("unix:"):
    raise ImproperlyConfigured(
        "REDIS_URL names a database other than 0. Runners' accounts may not SELECT another one; "
        "use database 0, where all of Forge's keys begin with forge:."
    )
# Empty: runners reach the broker through the tunnel at FORGE_URL, so that one port is enough.
# Otherwise the broker's address as they see it (their own accounts are put in).
FORGE_RUNNER_BROKER_URL = str(env("FORGE_RUNNER_BROKER_URL", default=""))
# How much one runner may send through its tunnel, on average; four times as much at once.
FORGE_TUNNEL_BYTES_PER_SECOND = env.int("FORGE_TUNNEL_BYTES_PER_SECOND", default=1024 * 1024)

# Further nodes of the broker, on which runners' accounts are kept too: URLs.
FORGE_BROKER_NODES = env.list("FORGE_BROKER_NODES", default=[])
# What runners may do to the broker before they are cut off from it (runners/watch.py).
FORGE_BROKER_WATCH_SECONDS = env.float("FORGE_BROKER_WATCH_SECONDS", default=0.2)
FORGE_BROKER_PROJECT_BYTES = env.int("FORGE_BROKER_PROJECT_BYTES", default=16 * 1024**2)
FORGE_BROKER_RUNNER_BYTES = env.int("FORGE_BROKER_RUNNER_BYTES", default=16 * 1024**2)
FORGE_BROKER_RUNNER_CONNECTIONS = env.int("FORGE_BROKER_RUNNER_CONNECTIONS", default=50)
FORGE_BROKER_TRAFFIC_BYTES = env.int("FORGE_BROKER_TRAFFIC_BYTES", default=32 * 1024**2)
FORGE_BROKER_COMMANDS = env.int("FORGE_BROKER_COMMANDS", default=50_000)
FORGE_QUARANTINE_SECONDS = env.float("FORGE_QUARANTINE_SECONDS", default=60.0)
FORGE_QUARANTINE_MAXIMUM_SECONDS = env.float("FORGE_QUARANTINE_MAXIMUM_SECONDS", default=86_400.0)

# How much of the runner API one runner may use, and how often one address may be wrong; for a
# few seconds several times as much (runners/quotas.py).
FORGE_RUNNER_REQUESTS_PER_SECOND = env.float("FORGE_RUNNER_REQUESTS_PER_SECOND", default=500.0)
FORGE_RUNNER_BYTES_PER_SECOND = env.int("FORGE_RUNNER_BYTES_PER_SECOND", default=32 * 1024**2)
FORGE_WRONG_TOKENS_PER_SECOND = env.float("FORGE_WRONG_TOKENS_PER_SECOND", default=5.0)

# Logs: how fast one runner may send them, and what is kept of one that is longer than both.
FORGE_RUNNER_LOG_BYTES_PER_SECOND = env.int(
    "FORGE_RUNNER_LOG_BYTES_PER_SECOND", default=32 * 1024**2
)
FORGE_LOG_HEAD_BYTES = max(env.int("FORGE_LOG_HEAD_BYTES", default=128 * 1024**2), 1)
FORGE_LOG_TAIL_BYTES = max(env.int("FORGE_LOG_TAIL_BYTES", default=16 * 1024**2), 0)

# How often somebody may be wrong about the password of one account, and from one address
# (forge/pages/sign_in.py).
FORGE_WRONG_PASSWORDS_PER_SECOND = env.float("FORGE_WRONG_PASSWORDS_PER_SECOND", default=0.1)
FORGE_WRONG_PASSWORDS_PER_ADDRESS_PER_SECOND = env.float(
    "FORGE_WRONG_PASSWORDS_PER_ADDRESS_PER_SECOND", default=0.5
)

# Periods, in seconds.
FORGE_HEARTBEAT_SECONDS = env.float("FORGE_HEARTBEAT_SECONDS", default=5.0)
FORGE_OFFLINE_SECONDS = env.float("FORGE_OFFLINE_SECONDS", default=30.0)
if FORGE_OFFLINE_SECONDS < 2 * FORGE_HEARTBEAT_SECONDS:
    raise ImproperlyConfigured(
        "FORGE_OFFLINE_SECONDS is shorter than twice FORGE_HEARTBEAT_SECONDS: healthy runners "
        "would be taken for silent ones. Make it longer."
    )
FORGE_UNREACHABLE_SECONDS = env.float("FORGE_UNREACHABLE_SECONDS", default=3600.0)
# How long a runner may go on with a task without an answer of Forge's, where the task may be
# tried again elsewhere.
FORGE_LEASE_SECONDS = env.float("FORGE_LEASE_SECONDS", default=60.0)
if FORGE_LEASE_SECONDS < 3 * FORGE_HEARTBEAT_SECONDS:
    raise ImproperlyConfigured(
        "FORGE_LEASE_SECONDS is shorter than three times FORGE_HEARTBEAT_SECONDS: one lost "
        "heartbeat would end tasks. Make it longer."
    )
FORGE_RECONCILE_SECONDS = env.float("FORGE_RECONCILE_SECONDS", default=2.0)

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
LOGIN_URL = "sign-in"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "sign-in"
# Over plain HTTP, as in the quick start on loopback, a secure cookie would never come back.
_secure = FORGE_URL.startswith("https://")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _secure
SECURE_HSTS_SECONDS = env.int("SECURE_HSTS_SECONDS", default=31_536_000 if _secure else 0)
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = _secure
SECURE_SSL_REDIRECT = env.bool("SECURE_SSL_REDIRECT", default=False)
# Who asks whether a process lives asks it directly, past the proxy.
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]
X_FRAME_OPTIONS = "DENY"
# With this prefix browsers take them only over TLS and from this very host, so that no
# neighbour below the same domain can put one in its place.
_prefix = "__Host-" if _secure else ""
SESSION_COOKIE_NAME = f"{_prefix}forge_session"
CSRF_COOKIE_NAME = f"{_prefix}forge_csrf"
SESSION_COOKIE_AGE = env.int("SESSION_COOKIE_AGE", default=14 * 24 * 3600)

LANGUAGE_CODE = "en"
USE_I18N = False
FORMAT_MODULE_PATH = "forge.formats"
USE_TZ = True
TIME_ZONE = str(env("TIME_ZONE", default="UTC"))

STATIC_URL = "/static/"
STATIC_ROOT = Path(env("STATIC_ROOT", default=str(BASE_DIR / "staticfiles")))
STATICFILES_DIRS = [BASE_DIR / "static"]

# A script may have 200,000 characters, a log upload 1 MiB of bytes in base64.
DATA_UPLOAD_MAX_MEMORY_SIZE = 4 * 1024 * 1024

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "projects.authentication.UserTokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_PAGINATION_CLASS": "projects.pagination.Pages",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "projects.api_errors.answer_for",
    "PAGE_SIZE": 50,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Forge",
    "DESCRIPTION": "Run operational tasks on project runners.",
    "VERSION": "1",
    "SCHEMA_PATH_PREFIX": r"/api/v1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "ENUM_NAME_OVERRIDES": {
        "RunnerStatus": "runners.status.RunnerStatus",
        "RegistrationStatus": "runners.status.RegistrationStatus",
    },
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "()": "forge.log_lines.Line",
            "format": "%(asctime)s %(levelname)s %(name)s: %(message)s",
        }
    },
    "filters": {
        "outage": {"()": "forge.outage.OutageInOneLine"},
        "once": {"()": "forge.outage.OnceAMinute"},
        "brief": {"()": "forge.log_lines.BriefRefusals"},
    },
    "handlers": {
        "stderr": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["outage"]},
        "suspicious": {"class": "forge.suspicious.SuspiciousHandler"},
    },
    "loggers": {
        "django.security": {"handlers": ["suspicious"], "propagate": False},
        "django.request": {"filters": ["brief"]},
        "psycopg.pool": {"filters": ["once"]},
    },
    "root": {"handlers": ["stderr"], "level": str(env("LOG_LEVEL", default="INFO"))},
}
