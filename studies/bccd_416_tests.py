# How large to test what was trained at 416 x 320: `416 x 320` of studies/bccd_modern.py (train it
# first). By this the size of configs/study/bccd_final.py was chosen.
_base_ = './bccd_modern.py'
import copy

checkpoint = '../work_dirs/study/bccd_modern/416_x_320/seed_{seed}/epoch_30.pth'
seeds = [0]
baseline = 'at 416 x 320'


def _at(width, height):
    row = copy.deepcopy(_base_.rows['416 x 320'])
    row.test_dataloader = copy.deepcopy(row.val_dataloader)
    row.test_dataloader.dataset.pipeline[1].scale = (width, height)
    return row


rows = {
    '_delete_': True,
    'at 416 x 320': _at(416, 320),
    'at 480 x 384': _at(480, 384),
    'at 544 x 416': _at(544, 416),
    'at 608 x 448': _at(608, 448),
}
