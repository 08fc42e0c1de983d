"""Saved maps: one file of tensors with a JSON header; reading one executes nothing.

The file is in safetensors format. Its metadata hold one JSON document and the sha256 over the document and every
tensor. It is written beside its final place and moved there, so a reader sees the old file or the new one.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

FORMAT, FORMAT_VERSION = "somgrad.estimator", 1


def write_map(path: str | os.PathLike[str], document: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write a document of JSON values and tensors to one file, atomically.

    Args:
        path: the file; replaced if it exists.
        document: JSON values.
        tensors: name -> tensor.

    Raises:
        ValueError: the path is a folder, or its folder does not exist.
    """
    target = Path(path)
    if target.is_dir() or not target.parent.is_dir():
        raise ValueError(f"path must be a file in an existing folder. Got '{target}'.")
    text = json.dumps({"format": FORMAT, "format_version": FORMAT_VERSION} | document, sort_keys=True)
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    content = to_bytes(plain, metadata={"document": text, "digest": _digest(text, plain)})
    draft = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.part")
    try:
        with open(draft, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, target)
    finally:
        draft.unlink(missing_ok=True)


def read_map(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read what `write_map` wrote.

    Returns:
        The document and the tensors.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not a saved map, of another version, or damaged.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no saved map at '{path}'.")
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        text = metadata["document"]
        document = json.loads(text)
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise KeyError("format")
    except (SafetensorError, KeyError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"'{path}' must be a map saved by somgrad's estimators. It cannot be read as one; that of a run is "
            "opened by pipeline.predictor.Predictor.load."
        ) from error
    version = document.get("format_version")
    if version != FORMAT_VERSION:
        raise ValueError(f"'{path}' must have format version {FORMAT_VERSION}. Got {version!r}; save it anew.")
    if metadata.get("digest") != _digest(text, tensors):
        raise ValueError(f"'{path}' is damaged: its content does not match its digest. Restore it from a copy.")
    return document, tensors


def saved_indices(tensors: dict[str, Tensor], name: str, allowed: np.ndarray) -> np.ndarray:
    """A saved int64 vector whose values are among the allowed ones, or -1."""
    values = tensors[name]
    if values.dtype != torch.int64 or values.ndim != 1 or not np.isin(values.numpy(), np.append(allowed, -1)).all():
        raise ValueError(f"'{name}' of the saved map must hold {len(allowed)} known numbers, or -1. It does not.")
    return values.numpy()


def _digest(text: str, tensors: dict[str, Tensor]) -> str:
    sha = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        sha.update(f";{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        sha.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()
