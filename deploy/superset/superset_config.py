"""Superset for Voltlake: everything that differs from one installation to the next comes from the environment, and what is missing ends it at once."""
import os
import time

# Gold's minutes are UTC without a zone; "last day" is reckoned in the zone of the process.
os.environ["TZ"] = "UTC"
time.tzset()

SECRET_KEY = os.environ["SUPERSET_SECRET_KEY"]
SQLALCHEMY_DATABASE_URI = os.environ["SUPERSET_DATABASE_URL"]

# Up to this moment; by default a range that is said in words ends at midnight, before all that is live.
DEFAULT_RELATIVE_START_TIME = "now"
DEFAULT_RELATIVE_END_TIME = "now"

# The page that logs in, and every change, carry a token; pages may load nothing from elsewhere.
WTF_CSRF_ENABLED = True
TALISMAN_ENABLED = True
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
# True behind a proxy that speaks TLS. Loopback does not.
SESSION_COOKIE_SECURE = os.environ.get("SUPERSET_TLS", "") == "true"
ENABLE_PROXY_FIX = SESSION_COOKIE_SECURE

# One machine: what a second process of Superset would have to share is in the database anyway.
RATELIMIT_STORAGE_URI = "memory://"
SQLLAB_CTAS_NO_LIMIT = False
LOG_LEVEL = os.environ.get("SUPERSET_LOG_LEVEL", "WARNING")
