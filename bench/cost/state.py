"""What a race has measured so far, kept after each round so that a stopped run goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import fgmclip
from fgmclip.bench.cost.race import Round, Turn
from fgmclip.bench.cost.report import Entry
from fgmclip.bench.machine import describe_machine
from fgmclip.storage.atomic import write_text

STATE_FILE = "latency-state.json"

_SOURCES = (".py", ".cpp", ".cu", ".cuh", ".h", ".hpp", ".pbtxt", "CMakeLists.txt")


@dataclass(slots=True)
class RaceState:
    """Rounds of one race.

    Attributes:
        key: Of what is raced, as `state_key` returns it.
        started: When its first run began, ISO 8601, UTC.
        rounds: In the order of measuring.
    """

    key: str
    started: str
    rounds: list[Round] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write it; a reader sees the old or the new state, never half of one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        rounds = [
            {key: [turn.milliseconds, turn.foreign] for key, turn in turns.items()}
            for turns in self.rounds
        ]
        state = {"key": self.key, "started": self.started, "rounds": rounds}
        write_text(path, json.dumps(state))

    @classmethod
    def resumed(cls, path: Path, key: str, started: str) -> RaceState:
        """Return the state of a stopped run of the very same race; a new one if there is none."""
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            if fields["key"] != key:
                return cls(key, started)
            rounds = [
                {name: Turn(tuple(times), foreign) for name, (times, foreign) in turns.items()}
                for turns in fields["rounds"]
            ]
            return cls(key, fields["started"], rounds)
        except (OSError, KeyError, TypeError, ValueError):
            # A state is worth minutes, a report with doubtful figures nothing.
            return cls(key, started)


def state_key(entries: Sequence[Entry], facts: Mapping[str, str]) -> str:
    """Return a hash of everything that rounds must share to be counted together.

    Args:
        entries: What takes part.
        facts: How: settings of the run.
    """
    content: dict[str, Any] = {
        "entries": [asdict(entry) for entry in entries],
        "facts": dict(facts),
        "machine": describe_machine(),
        "code": code_version(),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def code_version(rooms: Sequence[str] = ()) -> str:
    """Return a hash of this package's source.

    Args:
        rooms: Folders of it that count; all if none is named.
    """
    root = Path(fgmclip.__file__).resolve().parent
    digest = hashlib.sha256()
    # Room by room: a search from the top does not follow the links that rooms are.
    for room in rooms or sorted(path.name for path in root.iterdir() if path.is_dir()):
        files = (file for file in (root / room).rglob("*") if file.name.endswith(_SOURCES))
        for file in sorted(files):
            digest.update(f"{room}/{file.relative_to(root / room)}".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()
