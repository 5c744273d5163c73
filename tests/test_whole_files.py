import errno

import pytest
from matplotlib.figure import Figure
from PIL import Image

from mmdet_yolo2fl.whole_files import write_all, write_bytes, write_png, write_text


def test_text_and_pictures(tmp_path):
    write_text(tmp_path / 'new/text.md', 'größer\n\udcff')  # a name that is no text
    assert (tmp_path / 'new/text.md').read_bytes() == 'größer\n\\udcff'.encode()
    figure = Figure(figsize=(3, 2))
    figure.subplots()
    write_png(tmp_path / 'picture.png', figure, dpi=50)
    assert Image.open(tmp_path / 'picture.png').size == (150, 100)
    assert sorted(file.name for file in tmp_path.iterdir()) == ['new', 'picture.png']


def test_all_or_none(tmp_path, monkeypatch):
    first, second = tmp_path / 'first', tmp_path / 'second'
    write_all({first: b'1', second: b'2'})
    calls = []

    def full_disk(number):
        calls.append(number)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr('os.fsync', full_disk)
    with pytest.raises(OSError, match='No space left on device') as caught:
        write_all({first: b'new', second: b'new'})
    assert caught.value.filename == str(second)
    assert first.read_bytes() == b'1' and second.read_bytes() == b'2'
    assert len(list(tmp_path.iterdir())) == 2


def test_without_waiting_for_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr('os.fsync', lambda number: pytest.fail('it waits'))
    write_bytes(tmp_path / 'x/crop.jpg', b'1', durable=False)
    assert [file.name for file in (tmp_path / 'x').iterdir()] == ['crop.jpg']


def test_a_file_in_place_of_the_folder_is_named(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(FileExistsError) as caught:
        write_text(tmp_path / 'file/x.md', '')
    assert caught.value.filename == str(tmp_path / 'file')
