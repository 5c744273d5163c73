"""MMEngine's files, there whole or not at all."""

from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from ..whole_files import write_bytes


@register_backend('atomic_local')
class AtomicLocalBackend(LocalBackend):
    """MMEngine's backend for local files, with writes that a crash cannot cut short.

    For any ``backend_args=dict(backend='atomic_local')``. A file is written under another name,
    brought to the disk, then renamed, which replaces a former one in a single step. If that fails,
    the former one stays, and nothing of the new one.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write a file.

        Args:
            obj (bytes): Its content.
            filepath (str | Path): Where to; missing folders are made.

        Raises:
            OSError: If it cannot be written; names the file.
        """
        write_bytes(filepath, obj)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write a text file.

        Args:
            obj (str): Its content.
            filepath (str | Path): Where to; missing folders are made.
            encoding (str): Defaults to 'utf-8'.
        """
        self.put(obj.encode(encoding), filepath)
