"""The parts of the benchmark: the comparison, the table, and one small run."""

import pytest

from .conftest import write_data, write_squares

pytest.importorskip('onnxscript', reason="needs pip install 'mmdet_yolo2fl[export]'")
pytest.importorskip('onnxruntime', reason="needs pip install 'mmdet_yolo2fl[export]'")


def test_table(tool):
    module = tool('benchmark_deploy').__globals__
    text = module['markdown'](
        {
            'A, 32x32': {
                'torch': (40.0, 0.0),
                'onnxruntime': (10.0, 2e-6),
                'opencv': (25.0, 1e-6),
                'opencv-darknet': (20.0, 3e-6),
            },
            'B, 32x32': {'onnxruntime': (4.0, 1e-6), 'opencv': (2.0, 5e-6)},
        }
    )
    # Times as fast as the faster of OpenCV's two: 20 / 40, 20 / 10, 20 / 25; and 2 / 4.
    assert text.splitlines() == [
        '|  | A, 32x32 | B, 32x32 |',
        '|---|---|---|',
        '| PyTorch | 40.0 (0.50) |  |',
        '| ONNX Runtime | 10.0 (2.00) | 4.0 (0.50) |',
        '| OpenCV, of ONNX | 25.0 (0.80) | 2.0 (1.00) |',
        "| OpenCV, of Darknet's files | 20.0 (1.00) |  |",
        '',
        'Largest difference to PyTorch: PyTorch 0e+00, ONNX Runtime 2e-06, OpenCV, of ONNX 5e-06, '
        "OpenCV, of Darknet's files 3e-06",
    ]


def test_compares_before_it_times(tool, tmp_path, capsys, monkeypatch):
    main = tool('benchmark_deploy')
    module = main.__globals__
    config, checkpoint = write_squares(tmp_path, write_data(tmp_path / 'data'))
    made = []

    class Kept(module['Contestants']):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(self)

        def make_compile(self, threads):
            raise ImportError('no compiler\nat all')

    monkeypatch.setitem(module, 'Contestants', Kept)
    args = [str(config), '--checkpoints', str(checkpoint), '--threads', '1', '--repeat', '1']
    paths = ['torch', 'channels_last', 'compile', 'onnxruntime', 'onnxruntime-int8', 'opencv']
    main([*args, '--paths', *paths, 'opencv-darknet'])
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if line.startswith('| ')]
    assert lines[0] == '|  | squares, 96x64 |' and len(lines) == 7
    assert 'Not measured (squares, 96x64): torch.compile, frozen: no compiler' in printed

    expected = made[0].expected
    assert made[0].difference(expected) == 0
    changed = expected.copy()
    changed[0, 0, 0, 0] += abs(expected).max() / 4
    assert made[0].difference(changed) == pytest.approx(0.25, rel=1e-5)
    made[0].expected = changed
    with pytest.raises(SystemExit, match='PyTorch differs from PyTorch by 2.'):
        made[0].functions(['torch'], 1)


def test_usage_errors(tool, refused, tmp_path):
    main = tool('benchmark_deploy')
    assert 'no such config' in refused(main, tmp_path / 'none.py')
    config = tmp_path / 'some.py'
    config.write_text('')
    assert '--checkpoints: 2 for 1' in refused(main, config, '--checkpoints', 'a', 'b')
    assert '--repeat' in refused(main, config, '--repeat', '0')
    assert '--paths must have one of' in refused(main, config, '--paths', 'torch')
