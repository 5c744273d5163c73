# The loss of AlexeyAB's fork: coordinates weigh the same whatever the size of the box.
_base_ = './yolov2.py'
model = dict(bbox_head=dict(coord_area_weight=False))
