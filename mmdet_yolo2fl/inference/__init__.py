from .inferencer import load_inferencer, reading_flag
from .sources import Source, find_sources, frames
from .writers import Writers

__all__ = ['Source', 'Writers', 'find_sources', 'frames', 'load_inferencer', 'reading_flag']
