"""What a commit of ours says about itself, in its own log entry.

It is enough to write the materialization event again when the process died before it was sent.
"""

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline_assets.delta.decide import Mode, Name, Pin, Pins

FORMAT = 1
ADOPTED_BY_HAND = "adopted"
"""The engine of what a person has adopted: what is there, from whatever it was made."""
MAKES_DATA = frozenset({"write", "restore", "adopt"})
VACUUM, VACUUMED = "vacuum", "vacuumed"
"""Kinds of the commits around a VACUUM of ours, as delta-rs's START and END."""


def chain_id(run_id: str) -> int:
    """The chain that a run begins, as a number: the low 63 bits of the run's UUID (of a hash where it is none)."""
    try:
        number = uuid.UUID(run_id).int
    except ValueError:
        number = int.from_bytes(hashlib.blake2b(run_id.encode(), digest_size=16).digest(), "big")
    return number & (2**63 - 1)


@dataclass(frozen=True)
class Part:
    """One partition's checkpoint: who made it, from what, and how many rows (all counts in rows).

    chain: id of the chain's first run. attempt: when the attempt began, ms; 0 where only the chain is known. pins: for each
    input the version read. rows_in: what the function returned; = rows + quarantined + dropped.
    """

    chain: str
    attempt: int
    pins: Pins = field(default_factory=dict)
    rows: int = 0
    rows_in: int = 0
    quarantined: int = 0
    dropped: int = 0
    engine: str = "polars"
    run: str = ""
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_known(self) -> bool:
        """Whether more is known than whose it is: log clean-up may have taken the rest before there was an event."""
        return self.attempt > 0

    def name(self, output: str, partition: str) -> Name:
        """The checkpoint's name."""
        return Name(output, partition, chain_id(self.chain), self.attempt)

    def as_json(self) -> dict[str, Any]:
        """All fields, pins as `[table id, version]`."""
        pins = {name: [pin.table_id, pin.version] for name, pin in self.pins.items()}
        return {**self.__dict__, "pins": pins, "notes": dict(self.notes)}

    @classmethod
    def of_json(cls, fields: Mapping[str, Any]) -> "Part":
        """The inverse of `as_json`; what a newer format adds is left out."""
        known = {name: fields[name] for name in cls.__dataclass_fields__ if name in fields}
        pins = {name: Pin(table, version) for name, (table, version) in fields.get("pins", {}).items()}
        return cls(**{**known, "pins": pins})


@dataclass(frozen=True)
class Record:
    """A commit of ours: `write`, `restore` and `adopt` make data live, `create`, `columns`, `fence`, `hold`, `lift` do not.

    Nor do `note`, a row of the rollback table, `properties`, and `vacuum` and `vacuumed`.

    parts: for each partition the checkpoint that is live from this version on; None where a restore left nothing.
    table_id: the Delta table's; empty where the commit creates it. undone: the checkpoints that a restore takes back.
    token: tells this commit from every other.
    """

    kind: str
    output: str
    table_id: str
    parts: Mapping[str, Part | None] = field(default_factory=dict)
    mode: Mode = Mode.OVERWRITE
    undone: tuple[Name, ...] = ()
    rollback: int = 0
    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    def as_json(self) -> dict[str, Any]:
        """As it stands in the commit's metadata; what all partitions share is written once."""
        parts = {key: part and part.as_json() for key, part in self.parts.items()}
        present = [part for part in parts.values() if part]
        shared = {
            name: value
            for name, value in (present[0] if present else {}).items()
            if all(p[name] == value for p in present)
        }
        own = {
            key: part and {name: value for name, value in part.items() if name not in shared}
            for key, part in parts.items()
        }
        return {
            "format": FORMAT,
            "kind": self.kind,
            "output": self.output,
            "table": self.table_id,
            "mode": self.mode.value,
            "token": self.token,
            "rollback": self.rollback,
            "undone": [[n.output, n.partition, n.chain, n.attempt] for n in self.undone],
            "shared": shared,
            "partitions": own,
        }

    @classmethod
    def of_json(cls, fields: Mapping[str, Any]) -> "Record":
        """The inverse of `as_json`."""
        shared = fields.get("shared", {})
        parts = {
            key: None if own is None else Part.of_json({**shared, **own})
            for key, own in fields.get("partitions", {}).items()
        }
        return cls(
            kind=fields["kind"],
            output=fields["output"],
            table_id=fields["table"],
            parts=parts,
            mode=Mode(fields.get("mode", "overwrite")),
            undone=tuple(Name(*name) for name in fields.get("undone", ())),
            rollback=fields.get("rollback", 0),
            token=fields.get("token", ""),
        )
