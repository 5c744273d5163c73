"""The script that runs the documentation leaves nothing out in silence, and reports failures."""

import re

import pytest

from tests import run_documentation
from tests.documentation import PAGES
from tests.run_documentation import LEFT_OUT, REPLACED, lines_of, main, prepared, run_lines

LINES = [line for page in PAGES for line in lines_of(page)]


def test_every_rule_is_of_use():
    assert len(LINES) > 60
    for pattern in LEFT_OUT:
        assert any(re.search(pattern, line) for line in LINES), pattern
    for pattern, text in REPLACED:
        shortened = '--cfg-options' in text or '--repeat' in text  # after other rules, perhaps
        assert shortened or any(re.search(pattern, line) for line in LINES), pattern
    left_out = [line for line in LINES if prepared(line) is None]
    assert len(left_out) < len(LINES) / 5
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
    page.write_text(f'Text\n\n```bash\npip install it   # first\n{command}\n```\n\n```\nno\n```\n')
    config = tmp_path / 'kept/template/configs/yolov2_fl.py'

    def make_template(folder):
        config.parent.mkdir()
        config.touch()

    monkeypatch.setattr(run_documentation, 'PAGES', [page])
    monkeypatch.setattr(run_documentation, 'NEEDED', ())
    monkeypatch.setattr(run_documentation, 'make_template', make_template)
    if good:
        main([str(page), '--keep', str(tmp_path / 'kept')])
    else:
        with pytest.raises(SystemExit, match=r"Commands of \['page.md'\] failed"):
            main([str(page), '--keep', str(tmp_path / 'kept')])
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith('left out') and printed[0].endswith(
        '(would change what is installed)'
    )
    assert printed[1].startswith('ok' if good else 'FAILED') and command in printed[1]
