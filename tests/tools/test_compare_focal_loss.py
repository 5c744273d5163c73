import numpy as np

from mmdet_yolo2fl.focal_analysis import History, bin_edges, save_histories


def write_run(folder, seed):
    rng = np.random.default_rng(seed)
    shape = (3, 2, len(bin_edges(0.9)) + 1)
    iters = list(range(50, 450, 50))
    history = History(0.9, iters=iters, tables=list(rng.uniform(0, 9, (8, *shape))))
    (folder / 'focal_loss').mkdir(parents=True)
    save_histories(folder / 'focal_loss/history.json', {'bbox_head.loss_obj': history})
    return history


def test_table_and_picture(tool, tmp_path, capsys):
    first, second = write_run(tmp_path / 'a', 0), write_run(tmp_path / 'b', 1)
    tool('compare_focal_loss')(
        [f'focal={tmp_path / "a"}', str(tmp_path / 'b'), '--out', str(tmp_path / 'c.png')]
    )
    printed = capsys.readouterr().out
    values = [history.shares()['easy_negative_loss'][-2:].mean() for history in (first, second)]
    assert '| last quarter | focal | b |' in printed
    assert f'| easy negative loss | {values[0]:.4f} | {values[1]:.4f} |' in printed
    assert (tmp_path / 'c.png').stat().st_size > 20_000


def test_runs_of_one_name(tool, refused, tmp_path, capsys):
    folders = [tmp_path / name / 'seed_0' for name in ('focal', 'plain')]
    for seed, folder in enumerate(folders):
        write_run(folder, seed)
    main, out = tool('compare_focal_loss'), ['--out', str(tmp_path / 'c.png')]
    main([*map(str, folders), *out])
    assert f'| last quarter | {folders[0]} | {folders[1]} |' in capsys.readouterr().out
    message = refused(main, f'a={folders[0]}', f'a={folders[1]}', *out)
    assert 'each run needs a name of its own, NAME=RUN; got a, a' in message


def test_a_run_with_its_setting_in_its_name(tool, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / 'runs/lr=0.01', 0)
    write_run(tmp_path / 'runs/lr=0.1', 1)
    tool('compare_focal_loss')(['runs/lr=0.01', 'fast=runs/lr=0.1', '--out', 'c.png'])
    assert '| last quarter | lr=0.01 | fast |' in capsys.readouterr().out


def test_usage_errors(tool, refused, tmp_path):
    main = tool('compare_focal_loss')
    assert 'FocalLossAnalysisHook' in refused(main, tmp_path)
    write_run(tmp_path / 'a', 0)
    assert 'it has bbox_head.loss_obj' in refused(main, tmp_path / 'a', '--loss', 'loss_cls')
    (tmp_path / 'a/focal_loss/history.json').write_text('[')
    assert 'not written by' in refused(main, tmp_path / 'a')
