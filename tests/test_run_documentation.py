"""The script that runs the documentation leaves nothing out in silence, and reports failures."""

import re
import subprocess

import pytest

from tests import documentation_files, run_documentation
from tests.documentation import PAGES
from tests.run_documentation import LEFT_OUT, REPLACED, lines_of, main, prepared, run_lines

LINES = [line for page in PAGES for line in lines_of(page)]


def test_every_rule_is_of_use(monkeypatch):
    assert len(LINES) > 60
    for pattern in LEFT_OUT:
        assert any(re.search(pattern, line) for line in LINES), pattern
    commands = [prepared(line) for line in LINES]
    for rule in REPLACED:  # without it something else would run
        rest = [other for other in REPLACED if other is not rule]
        monkeypatch.setattr(run_documentation, 'REPLACED', rest)
        assert [prepared(line) for line in LINES] != commands, rule
    monkeypatch.undo()
    assert sum(prepared(line) is None for line in LINES) < len(LINES) / 15
    # What stands for something of the reader's.
    names = r'(?<![$\w])(CONFIG|CHECKPOINT|NAME|RUN)\b(?!=)'
    assert not any(re.search(names, prepared(line) or '') for line in LINES)


def test_one_shell_for_all_lines(tmp_path):
    lines = ['X=1', 'test $X = 1', 'test $X = 2', 'no_such_command', 'echo done']
    codes = [code for code, _ in run_lines(lines, tmp_path, tmp_path / 'log')]
    assert codes == [0, 0, 1, 127, 0]
    assert (tmp_path / 'log').read_text().endswith('$ echo done\ndone\n')
    codes = [code for code, _ in run_lines(['true', 'exit 0', 'true'], tmp_path, tmp_path / 'log')]
    assert codes == [0, 1, 1]


@pytest.mark.parametrize('command, good', [('test -f CONFIG', True), ('test -f missing', False)])
def test_a_failure_is_one(command, good, tmp_path, monkeypatch, capsys):
    page = tmp_path / 'page.md'
    page.write_text(f'Text\n\n```bash\nmake test   # first\n{command}\n```\n\n```\nno\n```\n')

    def make_template(folder):
        (folder / 'configs').mkdir()
        (folder / 'configs/yolov2_fl.py').touch()

    monkeypatch.setattr(run_documentation, 'PAGES', [page])
    monkeypatch.setattr(run_documentation, 'NEEDED', ())
    monkeypatch.setattr(run_documentation, 'make_template', make_template)
    if good:
        main([str(page), '--keep', str(tmp_path / 'kept')])
    else:
        with pytest.raises(SystemExit, match=r"Commands of \['page.md'\] failed"):
            main([str(page), '--keep', str(tmp_path / 'kept')])
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith('left out') and printed[0].endswith('(run by .ci/run)')
    assert printed[1].startswith('ok' if good else 'FAILED') and command in printed[1]
    assert ('$ test' in printed[2]) is not good  # the log's last lines
    assert printed[-1].startswith(f'1 left out, 1 {"ok" if good else "FAILED"} in ')
    assert (tmp_path / 'kept/page.log').exists()


def test_keep_deletes_nothing_else(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run_documentation, 'NEEDED', ())
    (tmp_path / 'study').mkdir()
    for folder in (tmp_path, __file__):
        with pytest.raises(SystemExit):
            main(['--keep', str(folder)])
        assert 'is neither empty nor from an earlier run' in capsys.readouterr().err


def test_only_and_list(capsys):
    main(['--only', 'darknet2coco.py data/obj.data', '--list'])
    (line,) = capsys.readouterr().out.splitlines()
    assert line == 'darknet_data.md: python tools/darknet2coco.py data/obj.data data/mine'
    main(['--only', 'predict.py configs/mine.py', '--list'])
    printed = capsys.readouterr().out.splitlines()  # and what it needs
    assert len(printed) == 4 and 'train.py configs/mine.py --cfg-options' in printed[1]
    with pytest.raises(SystemExit):
        main(['--only', 'no such command'])
    assert "No command of these pages has 'no such command'" in capsys.readouterr().err


@pytest.mark.parametrize('git', [True, False])
def test_copy_of_the_project(git, tmp_path, monkeypatch):
    root = tmp_path / 'root'
    for name in ('tools/a.py', 'data/big.jpg', '.venv/b.py', 'kept/README/c.py', '.gitignore'):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text('/data/\n.venv/\n')
    if git:
        subprocess.run(['git', 'init', '--quiet'], cwd=root, check=True)
    monkeypatch.setattr(documentation_files, 'ROOT', root)
    monkeypatch.setenv('GIT_CEILING_DIRECTORIES', str(tmp_path))
    folder = root / 'kept/template'  # inside, as --keep may say
    folder.mkdir(parents=True)
    documentation_files.copy_project(folder)
    found = {str(p.relative_to(folder)) for p in folder.rglob('*') if p.is_file()}
    assert found - {'.gitignore'} == {'tools/a.py'}
