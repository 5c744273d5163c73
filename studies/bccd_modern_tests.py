# All that helped together, without training again: the detectors of `CIoU loss besides` in
# studies/bccd_modern.py (train those first), with soft NMS, and tested larger than trained.
_base_ = './bccd_tests.py'
import copy

checkpoint = '../work_dirs/study/bccd_modern/CIoU_loss_besides/seed_{seed}/epoch_30.pth'
baseline = 'CIoU loss besides'
_larger = copy.deepcopy(_base_.rows['at 416 x 320'])
_larger.test_dataloader.dataset.pipeline[1].scale = (448, 352)
rows = {
    '_delete_': True,
    'CIoU loss besides': dict(),
    'soft NMS': _base_.rows['soft NMS'],
    'at 384 x 320': _base_.rows['at 384 x 320'],
    'at 416 x 320': _base_.rows['at 416 x 320'],
    'at 448 x 352': _larger,
    'at 416 x 320, soft NMS': _base_.rows['at 416 x 320, soft NMS'],
}
