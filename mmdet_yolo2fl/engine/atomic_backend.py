"""Files that are there whole or not at all."""

import os
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend


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
        filepath = Path(filepath)
        filepath.parent.mkdir(parents=True, exist_ok=True)
        # A fixed name: what an interrupted write left behind is overwritten by the next.
        unfinished = filepath.with_name(filepath.name + '.tmp')
        try:
            with open(unfinished, 'wb') as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:  # of a full disk, without the name of the file
            unfinished.unlink(missing_ok=True)
            raise OSError(error.errno, error.strerror or str(error), str(filepath)) from error
        os.replace(unfinished, filepath)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write a text file.

        Args:
            obj (str): Its content.
            filepath (str | Path): Where to; missing folders are made.
            encoding (str): Defaults to 'utf-8'.
        """
        self.put(obj.encode(encoding), filepath)
