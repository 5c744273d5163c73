"""What the documentation shows: its pages, blocks and commands."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted(ROOT.glob('docs/*.md'))]


def blocks(page: Path, language: str) -> list[str]:
    """The texts of its code blocks of a language."""
    found = re.findall(r'^```(\w*)\n(.*?)^```$', page.read_text('utf-8'), re.S | re.M)
    return [text for kind, text in found if kind == language]


def commands(page: Path) -> list[str]:
    """Every line for a shell in its blocks; options in brackets as given, without comments."""
    shown = blocks(page, 'bash') + [t for t in blocks(page, '') if 'python tools/' in t]
    lines = '\n'.join(shown).replace('\\\n', ' ').splitlines()
    # A comment stands behind two blanks: in a command # may be anything.
    lines = [re.sub(r'(^|\s\s+)#\s.*', '', line).strip() for line in lines]
    return [re.sub(r'\[(-[^\]]*)\]', r'\1', line) for line in lines if line]


def commands_in_tables(page: Path) -> list[str]:
    """Those that stand in the cells of a table, in back quotes."""
    rows = [line for line in page.read_text('utf-8').splitlines() if line.startswith('| ')]
    return [text for row in rows for text in re.findall(r'`((?:\w+=\S+ )?python [^`]+)`', row)]
