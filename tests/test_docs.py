"""What the documentation shows exists: commands with their options, configs, files, names."""

import argparse
import ast
import importlib.util
import re
import shlex

import pytest
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager
from mmdet.registry import MODELS, TRANSFORMS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from tests.documentation import PAGES, ROOT, blocks, commands

# Written by a run, or the user's own.
OWN = ('configs/mine', 'configs/my', 'studies/mine', 'data/', 'tools/analysis_tools', '$MIM')


def python_blocks():
    for page in PAGES:
        for number, text in enumerate(blocks(page, 'python')):
            yield pytest.param(text, id=f'{page.name}-{number}')


def all_commands():
    for page in PAGES:
        shown = commands(page)
        # In a sentence a command may be broken, or be only a name.
        inline = re.findall(r'`((?:python tools/|make |pip install )[^`]+)`', page.read_text())
        shown += [' '.join(c.split()) for c in inline if len(c.split()) > 2 or c[:4] == 'make']
        for line in shown:
            words = shlex.split(re.sub(r'\[(-[^\]]*)\]', r'\1', line), comments=True)
            while words and re.fullmatch(r'[A-Z_]+=.*', words[0]):
                words.pop(0)  # variables of the shell
            words = [word for word in words if word != '...']
            if words:
                yield pytest.param(words, id=f'{page.name}: {" ".join(words)[:60]}')


class ParsedError(Exception):
    pass


@pytest.mark.parametrize('words', list(all_commands()))
def test_commands(words, monkeypatch):
    """The tools know the options; targets, extras, modules and files are there."""
    for word in words:
        if re.match(r'(configs|tools|studies|examples|docs)/[\w/.]+$', word):
            assert word.startswith(OWN) or (ROOT / word).exists(), word
    if words[0] == 'make':
        targets = re.findall(r'^(\w+):', (ROOT / 'Makefile').read_text(), re.M)
        assert set(words[1:]) <= {*targets}
    elif words[:2] == ['pip', 'install']:
        metadata = ProjectMetadata(str(ROOT), PluginManager())
        for extras in re.findall(r'(?:mmdet_yolo2fl|\.)\[(.*?)\]', ' '.join(words)):
            assert {*extras.split(',')} <= {*metadata.core.optional_dependencies}
    elif words[:2] == ['python', '-m']:
        assert importlib.util.find_spec(words[2])
    elif words[0].startswith('python') and words[1].startswith('tools/'):
        spec = importlib.util.spec_from_file_location('documented', ROOT / words[1])
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        parse = argparse.ArgumentParser.parse_args

        def parse_only(parser, *args, **kwargs):
            raise ParsedError(parse(parser, *args, **kwargs))

        monkeypatch.setattr(argparse.ArgumentParser, 'parse_args', parse_only)
        monkeypatch.chdir(ROOT)
        with pytest.raises((ParsedError, SystemExit)) as end:
            module.main(words[2:])
        assert end.type is ParsedError or end.value.code == 0  # --help


@pytest.mark.parametrize('text', list(python_blocks()))
def test_python(text, tmp_path):
    """Configs load; fragments are valid Python."""
    if '_base_' in text:
        text = text.replace("'configs/", f"'{ROOT}/configs/").replace("'../", f"'{ROOT}/configs/")
        path = tmp_path / 'config.py'
        path.write_text(text)
        Config.fromfile(path)
    else:
        # Keyword arguments, as they stand in a dict(...), are statements as well.
        compile(text, 'documentation', 'exec')


def fragments():
    """Parts of configs on pages about YOLOv2 itself: by their names, or steps of a pipeline."""
    for name in ('parts', 'darknet', 'darknet_recipe', 'focal_loss'):
        for text in blocks(ROOT / f'docs/{name}.md', 'python'):
            for node in ast.parse(text).body if '_base_' not in text else ():
                part = node.targets[0].id if isinstance(node, ast.Assign) else 'step'
                code = ast.unparse(node.value)
                yield pytest.param(part, code, id=f'{name} {part} {code[:60]}')


@pytest.mark.parametrize('part, code', list(fragments()))
def test_fragments_build(part, code):
    value = eval(code)
    init_default_scope('mmdet')
    if part == 'step':
        TRANSFORMS.build(value)
    elif part.startswith('loss'):
        MODELS.build(value)
    else:
        config = Config.fromfile(ROOT / 'configs/voc0712/yolov2_fl.py')
        config.merge_from_dict(dict(model=value if part == 'model' else {part: value}))
        MODELS.build(config.model)


def test_enough_fragments():
    parts = [parameter.values[0] for parameter in fragments()]
    assert parts.count('bbox_head') == 3 and parts.count('step') == 2 and len(parts) >= 9


def slugs(page):
    """What GitHub calls the headings of a page."""
    text = re.sub(r'```.*?```', '', page.read_text(), flags=re.S)
    titles = [
        re.sub(r'\[(.*?)\]\(.*?\)', r'\1', line) for line in re.findall('^#+ (.*)$', text, re.M)
    ]
    return [re.sub(r'[^\w -]', '', title.lower()).replace(' ', '-') for title in titles]


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_links(page):
    for target in re.findall(r'\]\(([^)\s]+)', page.read_text()):
        if not re.match(r'https?:|mailto:', target):
            file, _, anchor = target.partition('#')
            other = page.parent / file if file else page
            assert other.exists(), target
            if anchor:
                assert anchor in slugs(other), target


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_paths_in_the_text(page):
    """Names of files in back quotes."""
    pattern = (
        r'`((?:configs|tools|tests|studies|examples|docs|mmdet_yolo2fl)/[\w/]*\w\.(?:py|md|sh))`'
    )
    for target in re.findall(pattern, page.read_text()):
        if not target.startswith(OWN) and 'NAME' not in target:
            assert (ROOT / target).exists(), target


def templates():
    """Every error text of the package, as a pattern with … for what varies."""

    def text(node):
        if isinstance(node, ast.Constant):
            return str(node.value)
        if isinstance(node, ast.JoinedStr):
            return ''.join(map(text, node.values))
        if isinstance(node, ast.BinOp):
            return text(node.left) + text(node.right)
        return '…'

    for path in sorted(ROOT.glob('mmdet_yolo2fl/**/*.py')):
        for node in ast.walk(ast.parse(path.read_text())):
            call = node.exc if isinstance(node, ast.Raise) else node
            if not isinstance(call, ast.Call) or not call.args:
                continue
            name = ast.unparse(call.func)
            # (Optuna ends a trial by one that is no error.)
            if name == 'parser.error' or (isinstance(node, ast.Raise) and 'Pruned' not in name):
                template = text(call.args[0])
                if re.search(r'\w{3}', template):  # else all of it comes from elsewhere
                    yield path.name, template


def test_every_error_has_its_cure():
    page = (ROOT / 'docs/troubleshooting.md').read_text().split('## Every error text')[1]
    rows = [row.split(' | ')[0] for row in page.splitlines() if row.startswith('| `')]
    # A text may hold a back quote: texts end where the next one begins.
    known = [text.strip('`') for row in rows for text in row[2:].split('`, `')]
    patterns = [re.compile('.*'.join(map(re.escape, text.split('…'))), re.S) for text in known]
    found = list(templates())
    assert len(found) > 200
    missing = [pair for pair in found if not any(p.fullmatch(pair[1]) for p in patterns)]
    assert not missing
    unused = [k for k, p in zip(known, patterns) if not any(p.fullmatch(text) for _, text in found)]
    assert not unused
