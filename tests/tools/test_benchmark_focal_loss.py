def test_prints_a_table_for_each_type(tool, capsys):
    sizes = ['--images', '1', '--anchors', '300', '--classes', '4', '--repeat', '1']
    tool('benchmark_focal_loss')([*sizes, '--device', 'cpu', '--positives', '0.1'])
    said = capsys.readouterr().out
    assert '1 images x 300 anchors x 4 classes' in said
    rows = [line.split('|') for line in said.splitlines() if line.startswith('| ')]
    values = {row[1].strip(): row[2:-1] for row in rows if 'median' not in row[2]}
    assert set(values) == {
        'MMDetection py_sigmoid_focal_loss',
        "torchvision's formula",
        'plain formula of this project',
        'BalancedFocalLoss',
    }
    assert len(rows) == 2 * (len(values) + 1)
    for row in values.values():  # bfloat16, the last table
        assert float(row[0]) > 0 and float(row[6]) < 0.02
