"""An S3-compatible store on this machine: moto's server, spoken to over HTTP as any other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote


class Store:
    """A bucket of a running server."""

    def __init__(self, bucket: str = "bucket") -> None:
        from moto.server import ThreadedMotoServer

        self._server, self.bucket = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False), bucket
        self._server.start()
        _, self._port = self._server.get_host_and_port()

    def uri(self, path: str, **options: str) -> str:
        """Address of a place in the bucket."""
        asked = {"scheme": "http", "endpoint_override": f"127.0.0.1:{self._port}", "region": "us-east-1", **options}
        return f"s3://{self.bucket}/{path}?" + "&".join(f"{key}={quote(value)}" for key, value in asked.items())

    def upload(self, folder: os.PathLike[str], path: str) -> str:
        """Copies a folder into the bucket, without what is hidden; returns its address."""
        import pyarrow.fs as fs

        remote, base = fs.FileSystem.from_uri(self.uri(path))
        for here, _, names in os.walk(folder):
            below = os.path.relpath(here, folder)
            if not below.startswith(".") or below == ".":
                for name in names:
                    target = os.path.normpath(f"{base}/{below}/{name}")
                    fs.copy_files(f"{here}/{name}", target, destination_filesystem=remote)
        return self.uri(path)

    def stop(self) -> None:
        """Nobody answers any more."""
        self._server.stop()


@contextmanager
def s3_store() -> Iterator[Store]:
    """A server with an empty bucket; the keys for it are in the environment of all tests."""
    import pyarrow.fs as fs

    store = Store()
    try:
        made, base = fs.FileSystem.from_uri(store.uri("", allow_bucket_creation="true"))
        made.create_dir(base.strip("/"))
        yield store
    finally:
        store.stop()
