"""Settings: the same environment variables as the product's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass


class SettingsError(Exception):
    """A setting is absent; the message names it."""


@dataclass(frozen=True)
class Settings:
    """Where the log, the tables and gold are."""

    bootstrap_servers: str
    topic: str
    postgres_url: str
    s3: Mapping[str, str]

    @property
    def sqlalchemy_url(self) -> str:
        """The database's address with the driver that PyIceberg's catalog takes."""
        return "postgresql+psycopg2://" + self.postgres_url.split("://", 1)[1]


def from_environment(environment: Mapping[str, str] = os.environ) -> Settings:
    """Reads all settings; names every absent one at once."""
    needed = ["KAFKA_BOOTSTRAP_SERVERS", "POSTGRES_URL"]
    if environment.get("WAREHOUSE", "").startswith("s3://"):
        needed += ["S3_ENDPOINT", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
    absent = [name for name in needed if not environment.get(name)]
    if absent:
        raise SettingsError(f"not set: {', '.join(absent)}")
    s3 = {
        "s3.endpoint": environment.get("S3_ENDPOINT", ""),
        "s3.access-key-id": environment.get("AWS_ACCESS_KEY_ID", ""),
        "s3.secret-access-key": environment.get("AWS_SECRET_ACCESS_KEY", ""),
        "s3.region": environment.get("AWS_REGION") or "us-east-1",
    }
    return Settings(
        bootstrap_servers=environment["KAFKA_BOOTSTRAP_SERVERS"],
        topic=environment.get("KAFKA_TOPIC") or "telemetry_raw",
        postgres_url=environment["POSTGRES_URL"],
        s3={name: value for name, value in s3.items() if value},
    )
