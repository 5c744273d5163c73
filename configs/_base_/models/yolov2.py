# YOLOv2 (YOLO9000, section 2) on Darknet-19 with Darknet's own loss: squared errors, softmax.
model = dict(
    type='SingleStageDetector',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[0.0, 0.0, 0.0],
        std=[255.0, 255.0, 255.0],
        bgr_to_rgb=True,
        pad_size_divisor=32,
        # Multi-scale training: another size every 10 batches (YOLO9000, section 2). A config for
        # one size sets this to None.
        batch_augments=[
            dict(
                type='BatchSyncRandomResize',
                random_size_range=(320, 608),
                size_divisor=32,
                interval=10,
            )
        ],
    ),
    # From random weights. From Darknet's, of ImageNet (docs/darknet_recipe.md says where):
    # init_cfg=dict(type='PretrainedDarknet', checkpoint='weights/darknet19_448.conv.23')
    backbone=dict(type='Darknet19', out_indices=(4, 5)),
    neck=dict(
        type='YOLOV2Neck', in_channels=(512, 1024), out_channels=1024, passthrough_channels=64
    ),
    bbox_head=dict(
        type='YOLOV2Head',
        num_classes=20,
        in_channels=1280,  # 4 * 64 from the pass-through, 1024 from the coarse map
        feat_channels=1024,
        anchor_generator=dict(
            type='YOLOV2AnchorGenerator',
            anchors=[  # yolov2-voc.cfg; in grid cells
                (1.3221, 1.73145),
                (3.19275, 4.00944),
                (5.05587, 8.09892),
                (9.47112, 4.84053),
                (11.2364, 10.0071),
            ],
        ),
        # MSELoss has no factor 1/2, hence the halves.
        loss_obj=dict(type='MSELoss', loss_weight=0.5),
        loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False),
        loss_xy=dict(type='MSELoss', loss_weight=0.5),
        loss_wh=dict(type='MSELoss', loss_weight=0.5),
        object_scale=5.0,
        noobject_scale=1.0,
        rescore=True,
        class_scale=1.0,
        coord_scale=1.0,
        coord_area_weight=True,
        coord_prefill=12800,  # images: every slot is pulled towards its prior at first
        normalizer='batch',
        prior_prob=None,
    ),
    train_cfg=dict(assigner=dict(type='YOLOV2Assigner', ignore_iou_thr=0.6)),
    test_cfg=dict(
        score_thr=0.005,  # as Darknet's `valid`; raise it for pictures
        nms_pre=1000,
        min_bbox_size=0,
        nms=dict(type='nms', iou_threshold=0.45),
        max_per_img=100,
    ),
)
