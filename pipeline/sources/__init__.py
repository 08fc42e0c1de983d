"""Raw data of every kind as streams of batches: `open_source(name, root, options)`."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import DataError, must
from pipeline.sources.base import Batch, Source, SourceOptions, SourceSpec, Undecoded, required_root

SOURCES = ("digits", "mnist", "fashion-mnist", "svhn", "cifar10", "images", "table", "audio")
MOST_PIXELS = 2**26

__all__ = ["SOURCES", "Batch", "Source", "SourceOptions", "SourceSpec", "Undecoded", "open_source"]


def open_source(name: str, root: str | Path | None = None, options: SourceOptions | None = None) -> Source:
    """Open raw data.

    Args:
        name: one of `SOURCES`.
        root: file or folder with the raw data; not needed for digits.
        options: see `SourceOptions`.

    Returns:
        The source; nothing but its outline has been read.

    Raises:
        UserError: unknown name, missing or unreadable data, an option the source does not understand.

    Example:
        >>> open_source("digits").spec.shape
        (1, 8, 8)
    """
    options = options or SourceOptions()
    path = None if root is None else Path(root)
    if options.test_fraction is not None and not 0 <= options.test_fraction < 1:
        raise must("--test-fraction", "in [0, 1)", options.test_fraction)
    if not 0 <= options.seed < 2**31:
        raise must("--seed", "an integer in [0, 2**31)", options.seed)
    if options.size is not None and options.size[0] * options.size[1] > MOST_PIXELS:
        height, width = options.size
        raise must("--size", f"at most {MOST_PIXELS} pixels, such as 8192x8192", f"{height}x{width}")
    if options.channels not in (None, 1, 3):
        raise must("--channels", "1 or 3", options.channels)
    if name in ("digits", "mnist", "fashion-mnist", "svhn"):
        from pipeline.sources.classic import Digits, Mnist, Svhn

        if name == "digits":
            return Digits(path, options)
        return Svhn(path, options) if name == "svhn" else Mnist(path, options, name)
    if name == "cifar10":
        return _open_cifar10(path, options)
    if name == "images":
        return _open_images(path, options)
    if name == "table":
        from pipeline.sources.table import Table

        return Table(path, options)
    if name == "audio":
        from pipeline.sources.audio import open_audio

        return open_audio(path, options)
    raise must("SOURCE", f"one of {', '.join(SOURCES)}", name)


def _open_cifar10(root: Path | None, options: SourceOptions) -> Source:
    """torchvision's layout if it is there, otherwise parquet with encoded images."""
    from pipeline.sources.classic import CifarPython
    from pipeline.sources.images import ImageParquet

    root = required_root(root, "cifar10")
    if root.is_file():
        return ImageParquet([root], options, "cifar10")
    for folder in (root, root / "cifar-10-batches-py", root / "cifar10" / "cifar-10-batches-py"):
        if (folder / "test_batch").exists():
            return CifarPython(folder, options)
    for folder in (root, root / "cifar10"):
        files = sorted(folder.glob("*.parquet"))
        if files:
            return ImageParquet(files, options, "cifar10")
    raise DataError(f"--root must hold cifar-10-batches-py or a parquet file with images. Not found in {root}.")


def _open_images(root: Path | None, options: SourceOptions) -> Source:
    from pipeline.sources.images import ImageFolder, ImageNpz, ImageParquet

    root = required_root(root, "images")
    if root.is_dir():
        files = sorted(root.glob("*.parquet"))
        archives = sorted(root.glob("*.npz"))
        if not files and len(archives) == 1:
            return ImageNpz(archives[0], options)
        return ImageParquet(files, options, folder=root) if files else ImageFolder(root, options)
    if root.suffix == ".npz":
        return ImageNpz(root, options)
    if root.suffix == ".parquet":
        return ImageParquet([root], options)
    raise must("--root", "a folder per class, a .parquet or an .npz file", root.name)
