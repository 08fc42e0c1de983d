"""Checkpoints: atomic, tensors only, verified by digest.

One file each, `round-0000000123.safetensors`: the tensors of the map, and a JSON record (version, whose
run it is, round, digest, progress of the epoch) in the header, under a checksum of its own. They lie in a directory
of any filesystem (`pipeline.places`), where a crash leaves either the old or the new one. Nothing is unpickled.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.deep.network import NetworkState
from pipeline.errors import OutputError, line_of, must
from pipeline.places import Place
from pipeline.tracking.stores import bare
from somcore.state import MapState, digest_of

VERSION = 1
_PATTERN, _PART = "round-*.safetensors", ".round-*.part"
_NETWORK, _MEMORY = "network.", "memory."


class TornCheckpoint(Exception):
    """The file cannot be trusted: cut short, altered, or not a checkpoint."""


@dataclass(frozen=True)
class Snapshot:
    """The map after some round, and what was tallied since the epoch began.

    Attributes:
        state: the map.
        tallies: sums over the rounds of the running epoch, for tracking only.
        extra: anything JSON can hold that should come back with the checkpoint.
        network: encoder and optimiser of a deep run.
        memory: what a rival remembers between rounds beside it: pseudo-labels, targets, codebooks.
    """

    state: MapState
    tallies: dict[str, float] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    network: NetworkState | None = None
    memory: dict[str, Tensor] = field(default_factory=dict)

    def digest(self) -> str:
        """sha256 of the map; in deep runs of map and network, and of what is remembered beside them."""
        if self.network is None:
            return self.state.digest()
        return digest_of(dict(sorted(self.memory.items())), f"{self.state.digest()} {self.network.digest()}")

    def to(self, device: torch.device | str) -> Snapshot:
        """The same snapshot on another device."""
        network = None if self.network is None else self.network.to(device)
        memory = {name: tensor.to(device) for name, tensor in self.memory.items()}
        return dataclasses.replace(self, state=self.state.to(device), network=network, memory=memory)


def refuse_shared(settings: Mapping[str, Any]) -> None:
    """Settings of several runs must not name one place for the checkpoints of all.

    Raises:
        UserError: they do.
    """
    if (place := settings.get("train.checkpoints")) is not None:
        requirement = "left out where several runs are trained, for it is the place of one"
        raise must(
            "train.checkpoints", requirement, bare(str(place)), remedy="Each keeps its checkpoints in its own folder."
        )


class CheckpointStore:
    """The checkpoints of one run, in one directory.

    Args:
        directory: path or URI; is made when the first checkpoint is saved.
        identity: what must be equal to go on from a checkpoint: hashes of configuration and data set.
        keep: how many are kept.
    """

    def __init__(self, directory: str | Path | Place, identity: Mapping[str, str], keep: int) -> None:
        self.directory = directory
        self.identity = dict(identity)
        self.keep = keep
        self._place = Place.of(directory)
        self._seen: set[str] = set()  # names that are known to be of this run

    def save(self, snapshot: Snapshot) -> str:
        """Writes the newest checkpoint and drops those beyond the last `keep`; returns its name.

        Raises:
            OutputError: another run has begun to write there, too.
        """
        record = {
            "version": VERSION,
            **self.identity,
            "round": snapshot.state.round,
            "digest": snapshot.digest(),
            "tallies": snapshot.tallies,
            "extra": snapshot.extra,
        }
        name = f"round-{snapshot.state.round:010d}.safetensors"
        for strange in set(self._names()) - self._seen:
            with contextlib.suppress(TornCheckpoint), self._place.fetched(strange) as path:
                self._refuse_foreign(strange, read(path)[1])
        self._place.write(name, _to_bytes(snapshot, record))
        past = [one for one in self._names() if one <= name]  # a later one is torn: this run went on from before it
        for old in past[self.keep :] + self._names(_PART):
            self._place.delete(old)
        self._seen = set(self._names())
        return name

    def refuse_used(self) -> None:
        """A new run must not begin among the checkpoints of another one.

        Raises:
            OutputError: there are some.
        """
        if names := self._names():
            raise OutputError(
                f"train.checkpoints must be a directory without checkpoints. '{self.directory}' holds {names[0]}. "
                "Give another one, or --resume to go on from it."
            )

    def begin(self, first: Snapshot) -> None:
        """The first checkpoint of a new run: from now on another run refuses this directory.

        Raises:
            OutputError: another run has begun there.
        """
        self.refuse_used()
        self.save(first)
        self.load_newest()  # of two runs that began at the same moment, the one that wrote first gives way

    def load_newest(self, say: Callable[[str], None] = lambda line: None) -> Snapshot | None:
        """The newest checkpoint that can be trusted; None if there is none at all.

        Args:
            say: told in one line about each checkpoint that had to be passed over.

        Raises:
            OutputError: a checkpoint is of another version, configuration or data set, or none can be read.
        """
        names = self._names()
        self._seen = set(names)
        for name in names:
            try:
                with self._place.fetched(name) as path:
                    snapshot, record = read(path)
            except TornCheckpoint as torn:
                say(f"Checkpoint {name} is torn ({torn}). Using the one before.")
                continue
            self._refuse_foreign(name, record)
            return snapshot
        if names:
            raise OutputError(
                f"None of the {len(names)} checkpoints in '{self.directory}' can be read. "
                "Remove the directory to start again."
            )
        return None

    def _names(self, pattern: str = _PATTERN) -> list[str]:
        """Files that match, the newest first."""
        return sorted(fnmatch.filter(self._place.sizes(), pattern), reverse=True)

    def _refuse_foreign(self, checkpoint: str, record: Mapping[str, Any]) -> None:
        names = {"manifest_hash": "data set", "config_hash": "configuration"}
        for name, value in self.identity.items():
            if record.get(name) != value:
                what = names.get(name, name)
                raise OutputError(
                    f"Checkpoint {checkpoint} belongs to another {what} "
                    f"({name} {str(record.get(name))[:12]}, this run {value[:12]}). "
                    "Give the same one to go on, or another --out to start anew (and other train.checkpoints, if any)."
                )


def read(path: Path) -> tuple[Snapshot, dict[str, Any]]:
    """The content and the record of one checkpoint.

    Raises:
        TornCheckpoint: the file cannot be trusted.
        OutputError: it was written by another version.
    """
    header, tensors = read_tensors(path)
    text = header.get("record", "")
    if hashlib.sha256(text.encode()).hexdigest() != header.get("record_sha256"):
        raise TornCheckpoint("its record does not match its checksum")
    record = json.loads(text)
    if record["version"] != VERSION:
        raise OutputError(
            f"Checkpoint {path.name} has version {record['version']}, this program writes and reads version "
            f"{VERSION}. Go on with the program that wrote it, or give another --out to start anew."
        )
    try:
        state = MapState.from_tensors(tensors)
        inner = {name.removeprefix(_NETWORK): t for name, t in tensors.items() if name.startswith(_NETWORK)}
        network = NetworkState.from_tensors(inner) if inner else None
    except ValueError as error:
        raise TornCheckpoint(str(error)) from None
    memory = {name.removeprefix(_MEMORY): t for name, t in tensors.items() if name.startswith(_MEMORY)}
    snapshot = Snapshot(state, record["tallies"], record["extra"], network, memory)
    if snapshot.digest() != record["digest"]:
        raise TornCheckpoint("its tensors do not match its digest")
    return snapshot, record


def read_tensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Header and tensors of a file of safetensors, by their names.

    Raises:
        TornCheckpoint: it is none, or cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            return dict(file.metadata() or {}), tensors
    except (SafetensorError, OSError, ValueError) as error:
        raise TornCheckpoint(line_of(error).rstrip(".")) from None


def _to_bytes(snapshot: Snapshot, record: Mapping[str, Any]) -> bytes:
    text = json.dumps(record, sort_keys=True)
    network = {} if snapshot.network is None else snapshot.network.to_tensors()
    more = {f"{_NETWORK}{name}": tensor for name, tensor in network.items()}
    more |= {f"{_MEMORY}{name}": tensor for name, tensor in snapshot.memory.items()}
    header = {"record": text, "record_sha256": hashlib.sha256(text.encode()).hexdigest()}
    return map_bytes(snapshot.state, header, more)


def map_bytes(state: MapState, header: Mapping[str, str], more: Mapping[str, Tensor] | None) -> bytes:
    """A map, and more tensors, in the format of safetensors; copies, because fields may share their memory."""
    from safetensors.torch import save

    everything = state.to_tensors() | dict(more or {})
    tensors = {name: tensor.cpu().contiguous().clone() for name, tensor in everything.items()}
    return save(tensors, dict(header))
