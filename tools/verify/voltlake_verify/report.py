"""What was compared, and what was found wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

SHOWN_MAX = 20


@dataclass
class Check:
    """One question, over many rows."""

    compared: int = 0
    found: int = 0
    first: list[dict[str, Any]] = field(default_factory=list)


class Report:
    """Checks by name, in the order in which they were first asked."""

    def __init__(self) -> None:
        self.checks: dict[str, Check] = {}
        self.events = 0

    def compared(self, check: str, count: int) -> None:
        """Says that a check looked at so many things."""
        self._check(check).compared += int(count)

    def problem(self, check: str, what: str, count: int = 1, **where: Any) -> None:
        """Something is wrong, at a place."""
        found = self._check(check)
        found.found += int(count)
        if len(found.first) < SHOWN_MAX:
            found.first.append({"what": what, **where})

    def problems_at(self, check: str, what: str, partition: str, offsets: Any) -> None:
        """The same thing is wrong at each of these offsets."""
        for offset in offsets[:SHOWN_MAX]:
            self.problem(check, what, partition=partition, offset=int(offset))
        if len(offsets) > SHOWN_MAX:
            self.problem(check, what, count=len(offsets) - SHOWN_MAX, partition=partition, further=len(offsets) - SHOWN_MAX)

    @property
    def ok(self) -> bool:
        """Whether nothing at all is wrong."""
        return all(check.found == 0 for check in self.checks.values())

    def to_json(self) -> dict[str, Any]:
        """The report as one document."""
        return {
            "ok": self.ok,
            "events": self.events,
            "checks": {name: {"ok": c.found == 0, "compared": c.compared, "problems": c.found} for name, c in self.checks.items()},
            "problems": {name: c.first for name, c in self.checks.items() if c.found},
        }

    def to_text(self) -> str:
        """The report as a table, and below it what is wrong."""
        width = max((len(name) for name in self.checks), default=0)
        lines = [
            f"{name.ljust(width)}  {check.compared:>10} compared  {'ok' if check.found == 0 else f'{check.found} WRONG'}"
            for name, check in self.checks.items()
        ]
        for name, check in self.checks.items():
            for one in check.first:
                where = ", ".join(f"{key} {value}" for key, value in one.items() if key != "what")
                lines.append(f"{name}: {one['what']}" + (f" ({where})" if where else ""))
        return "\n".join(lines)

    def _check(self, name: str) -> Check:
        return self.checks.setdefault(name, Check())
