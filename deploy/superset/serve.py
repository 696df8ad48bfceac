"""Makes Superset ready and serves it at SUPERSET_BIND, by default 127.0.0.1:8088."""
import os
import subprocess
import sys
from pathlib import Path

# A process of its own: the server begins without what the preparations loaded.
subprocess.run([sys.executable, str(Path(__file__).parent / "bootstrap.py")], check=True)

os.execv(sys.executable, [
    sys.executable, "-m", "gunicorn",
    "--bind", os.environ.get("SUPERSET_BIND", "127.0.0.1:8088"),
    "--workers", "1",
    "--worker-class", "gthread",
    "--threads", "16",
    "--timeout", "120",
    "--graceful-timeout", "10",
    "--worker-tmp-dir", "/tmp",
    "--log-level", "warning",
    "superset.app:create_app()",
])
