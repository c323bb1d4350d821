"""The environment of the tests, set before Django reads it. Loaded by `-p tests.plugin`."""

from __future__ import annotations

import os

os.environ.setdefault("SECRET_KEY", "only-for-tests-" + "x" * 40)
os.environ.setdefault("DATABASE_URL", "sqlite:///:memory:")
os.environ.setdefault("FORGE_SECRETS_KEY", "only-for-tests-this-is-32-bytes-in-base64xx=")
# Nothing listens there: what needs a broker starts its own.
os.environ.setdefault("REDIS_URL", "redis://127.0.0.1:1/0")
os.environ.setdefault("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
