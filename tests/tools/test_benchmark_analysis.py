import re

from tests.tools.conftest import ROOT


def test_prints_the_share(tool, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv('MMDET_YOLO2FL_DATA', str(tmp_path))
    tool('benchmark_analysis')(
        [
            str(ROOT / 'configs/yolov2_fl.py'),
            '--interval',
            '2',
            '--cfg-options',
            'train_dataloader.dataset.num_images=8',
            'train_dataloader.num_workers=0',
            'train_dataloader.persistent_workers=False',
            'train_cfg.max_epochs=1',
            'optim_wrapper.type=OptimWrapper',
        ]
    )
    found = re.search(
        r'2 iterations in ([\d.]+) s; the hook, every 2: ([\d.]+) s', capsys.readouterr().out
    )
    assert 0 < float(found[2]) < float(found[1])
