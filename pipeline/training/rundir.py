"""The directory of a run: whose it is, what came out of it.

run.json            what was asked, what it resolved to, how it ended
map.safetensors     the final map, with its configuration in the header
checkpoints/        the last few rounds
tracking.jsonl      everything that was recorded; tracking.json: how much of it MLflow has
history.safetensors a few moments of the map, predictions.csv a few answers, report.html and figures/ for the eye
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from pipeline.config import RunConfig
from pipeline.errors import OutputError, OutputLost, line_of
from pipeline.places import LOCK, check_writable, locked, refuse_in_data_set, write_atomically
from pipeline.tracking.stores import bare
from pipeline.training.checkpoint import TornCheckpoint, map_bytes, read_tensors
from somcore.config import GROWING, LATTICES, MapConfig
from somcore.state import MapState, digest_of

RUN, MAP, CHECKPOINTS = "run.json", "map.safetensors", "checkpoints"
VERSION = 1

# Settings that may differ when a run goes on: they cannot change its result. Of networks these two can.
_FREE = ("cluster.", "tracking.", "train.checkpoint", "train.keep_", "train.evaluate", "data.path")
_ROUNDING = ("cluster.threads", "cluster.device")


@dataclass(frozen=True)
class RunDirectory:
    """The directory of one run.

    Attributes:
        path: of the directory.
        held: its lock, as it was when this process took it (`alone`); None = not held.
    """

    path: Path
    held: os.stat_result | None = None

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints are."""
        return self.path / CHECKPOINTS

    @property
    def map_path(self) -> Path:
        """Where the final map is."""
        return self.path / MAP

    @property
    def record(self) -> dict[str, Any]:
        """What `run.json` holds; empty if there is none."""
        try:
            content = json.loads((self.path / RUN).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except (OSError, ValueError) as error:
            raise OutputError(f"{self.path / RUN} cannot be read: {error}.") from None
        if not isinstance(content, dict):
            raise OutputError(f"{self.path / RUN} cannot be read: it holds no record of a run.")
        return content

    def settings(self, given: Mapping[str, Any], resume: bool) -> dict[str, Any]:
        """The settings of a run to begin or to go on with, before anything is written.

        Args:
            given: flat keys that the user typed.
            resume: whether the user wants to go on.

        Returns:
            The given keys; with `resume`, over those the run was begun with.

        Raises:
            OutputError: the directory holds another run, or cannot be written.
        """
        known = self.record
        if known and known.get("version") != VERSION:
            raise OutputError(
                f"'{self.path}' was written by another version ({known.get('version')}, this is {VERSION}). "
                "Give another --out."
            )
        if known and not isinstance(known.get("settings"), dict):
            raise OutputError(
                f"'{self.path / RUN}' must have the settings of a run. It has none, so that nothing can go on with it. "
                "Remove it, or give another --out."
            )
        if known and not resume:
            raise self._taken(known)
        if not known:
            if resume and "data.path" not in given:
                raise OutputError(
                    f"'{self.path}' holds no run to go on with. Give the --out of one, or --data and --model to begin."
                )
            refuse_in_data_set(self.path)
            check_writable(self.path)
            return dict(given)
        stored = known["settings"]
        for key, value in given.items():
            if key in stored and stored[key] != value and not _may_differ(key, stored):
                raise OutputError(
                    f"{key} must be {stored[key]!r} to go on with the run in '{self.path}'. Got {value!r}. "
                    "Give another --out to start anew."
                )
        check_writable(self.path)
        return {**stored, **given}

    def _taken(self, known: Mapping[str, Any]) -> OutputError:
        model = known.get("settings", {}).get("train.model")
        return OutputError(
            f"'{self.path}' already holds a run ({model}, {known.get('status')}). "
            "Give another --out, or --resume to go on with it."
        )

    @contextlib.contextmanager
    def alone(self, resume: bool) -> Iterator[RunDirectory]:
        """Holds the directory; it is made if it is not there.

        Args:
            resume: whether it may hold a run. Another process may have trained one since `settings` looked.

        Yields:
            The same directory, which from now on refuses to be written if it `is_lost`.

        Raises:
            OutputError: another process trains in it, or has done so.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        busy = OutputError(f"'{self.path}' is in use by a run that goes on. Wait for its end, or give another --out.")
        with locked(self.path / LOCK, 0.0, busy):
            if not resume and (known := self.record):
                raise self._taken(known)
            yield dataclasses.replace(self, held=os.stat(self.path / LOCK))

    @property
    def is_lost(self) -> bool:
        """Whether somebody removed, moved or replaced the directory while it is held; no, where that cannot be seen."""
        if self.held is None:
            return False
        try:
            lock = _seen(self.path / LOCK)
            if lock is not None:
                return not os.path.samestat(self.held, lock)
            return _seen(self.path / RUN) is None  # without its lock alone it is still what it was
        except OSError:  # a shared folder that does not answer for a moment
            return False

    def refuse_lost(self) -> None:
        """Nothing is written where the directory was: a run half of which is gone looks like a whole one.

        Raises:
            OutputLost: it is lost.
        """
        if self.is_lost:
            raise OutputLost(
                f"'{self.path}' was removed, moved or replaced while its run went on. MLflow keeps what it was sent. "
                "--resume where it was moved to, or with a new --out where its checkpoints are elsewhere; else begin "
                "again."
            )

    def refuse_other(self, identity: Mapping[str, str], run: RunConfig) -> None:
        """A run that goes on must be the one that is here, also where no checkpoint is left to say so.

        Args:
            identity: hashes of data set and configuration of the run that is to go on.
            run: its settings.

        Raises:
            OutputError: the directory holds a run of other data or settings; names the key that differs.
        """
        known = self.record
        other = [name for name, value in identity.items() if known.get(name, value) != value]
        if not other:
            return
        hashes = f"{other[0]} {str(known[other[0]])[:12]}, this run {identity[other[0]][:12]}"
        if other[0] == "manifest_hash":
            raise OutputError(
                f"The run in '{self.path}' belongs to another data set than '{run.data.path}' ({hashes}). "
                "Give the same one to go on, or another --out to start anew."
            )
        before = {f"map.{name}": value for name, value in known.get("map", {}).items()} | known.get("settings", {})
        for key, value in json.loads(json.dumps(stored_settings(run), default=str)).items():
            if before.get(key) != value and not _may_differ(key, before):
                was = repr(before[key]) if key in before else "left out"
                raise OutputError(
                    f"{key} must be {was} to go on with the run in '{self.path}'. Got {value!r}. "
                    "Give another --out to start anew."
                )
        raise OutputError(
            f"The run in '{self.path}' belongs to another configuration ({hashes}), though its settings are the same: "
            "another version of the program began it. Give another --out to start anew."
        )

    def write(self, **content: Any) -> None:
        """Adds to `run.json`, atomically."""
        self.refuse_lost()
        record = {"version": VERSION, **self.record, **content}
        write_atomically(self.path / RUN, (json.dumps(record, indent=1, default=str) + "\n").encode())

    def end(self, status: str, run_id: str | None) -> None:
        """Notes how the run ended; where that fails, it does not hide why a run ended early."""
        try:
            self.write(status=status.lower(), run_id=run_id)
        except (OSError, OutputError, OutputLost):
            if status == "FINISHED":
                raise

    def save_map(
        self, state: MapState, config: MapConfig, about: Mapping[str, Any], more: Mapping[str, Tensor] | None = None
    ) -> Path:
        """Writes the final map, and more tensors beside it; returns its place."""
        header = {"config": json.dumps(config.to_dict()), "map_digest": state.digest()}
        if more:
            header["more_digest"] = digest_of(dict(sorted(more.items())))
        header |= {key: json.dumps(value) for key, value in about.items()}
        header["header_sha256"] = _sha256(header)
        self.refuse_lost()
        path = self.path / MAP
        write_atomically(path, map_bytes(state, header, more))
        return path

    def load_map(self) -> tuple[MapState, MapConfig, dict[str, Any]]:
        """The final map, its configuration, and what was said about it; `digest` is that of the whole model.

        Raises:
            OutputError: there is none, or it is not what was written.
        """
        path = self.path / MAP
        if not path.exists():
            raise OutputError(f"'{self.path}' must hold a trained map ({MAP}). It does not; train one first.")
        try:
            header, tensors = read_tensors(path)
            if header.pop("header_sha256", None) not in (None, _sha256(header)):  # None: of an earlier version
                raise TornCheckpoint("its header does not match its checksum")
            state = MapState.from_tensors(tensors)
            known, more = header.pop("map_digest", None), header.pop("more_digest", None)
            beside = {name: tensor for name, tensor in tensors.items() if name not in state.to_tensors()}
            if state.digest() != known or (more is not None and digest_of(dict(sorted(beside.items()))) != more):
                raise TornCheckpoint("its tensors do not match its digest")
            config = MapConfig.from_dict(json.loads(header.pop("config")))
            about = {"digest": known} | {key: json.loads(value) for key, value in header.items()}
        except (TornCheckpoint, ValueError, KeyError, TypeError, AttributeError) as error:
            raise OutputError(f"'{path}' cannot be used: {line_of(error)}.") from None
        return state, config, about


def _seen(path: Path) -> os.stat_result | None:
    """What is there; None where nothing is. Other faults, of a shared folder say, are raised."""
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _sha256(header: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(dict(header), sort_keys=True).encode()).hexdigest()


def _may_differ(key: str, settings: Mapping[str, Any]) -> bool:
    """Whether a run with these settings may go on with another value of this one."""
    return key.startswith(_FREE) and (key not in _ROUNDING or settings.get("train.model") in (*GROWING, *LATTICES))


def lasting(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those that must stay as they are where a run goes on."""
    return {key: value for key, value in settings.items() if not _may_differ(key, settings)}


def stored_settings(run: RunConfig) -> dict[str, Any]:
    """What `run.json` and MLflow keep of a configuration: plain values by flat key, without a login."""
    settings = {key: value for key, value in run.flat().items() if value is not None}
    return {key: bare(value) if key == "tracking.uri" else value for key, value in settings.items()}


def changed_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of stored settings that are not what the model has without being told; all where that cannot be known.

    Example:
        >>> changed_settings({"train.model": "sssom", "train.reduction": "exact", "train.seed": 3})
        {'train.seed': 3}
    """
    start = {"data.path": "", "train.model": settings.get("train.model")}
    try:
        run = RunConfig.build(start)
    except ValueError:  # of another version: a model that is not there any more
        return dict(settings)
    usual = {f"map.{key}": value for key, value in run.map_config().to_dict().items()} | run.flat() | start
    return {key: value for key, value in settings.items() if key not in usual or usual[key] != value}
