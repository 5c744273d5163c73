"""Searches gamma, alpha and the weight of a focal loss for your config and data, by Optuna.

python tools/tune_focal.py configs/bccd/yolov2_narrow_fl.py --trials 20
python tools/tune_focal.py CONFIG --trials 40 --epochs 20

Every trial trains the config and is valued by the best validation of its run; one that falls
behind the median of the others is stopped early. The first trials are the control (gamma 0; with
an alpha of 0.5 it is cross entropy) and the focal loss paper's choice (gamma 2, alpha 0.25), both
with the weight of the config, and then the config's own values. Start it again to go on where it
stopped; start it several times with one --storage (sqlite or any database URL) to search with
several processes or machines. It ends with the config lines of the best trial and plots.

The validation set of the config decides: do not let it be the test set that you report.
"""

import sys

try:
    from mmdet_yolo2fl.command_line import add_config_options, check_data, read_config
except ImportError as error:
    if error.name == 'mmdet_yolo2fl':
        sys.exit(
            'The package is not installed in this Python: `source .venv/bin/activate` after '
            '`make env` in its checkout, or `pip install -e .` there'
        )
    sys.exit(str(error))

import argparse
import traceback
from pathlib import Path

from filelock import FileLock

from mmdet_yolo2fl.checkpoints import load_only_weights
from mmdet_yolo2fl.study_budget import with_epochs
from mmdet_yolo2fl.whole_files import write_text

PARAMETERS = ('gamma', 'alpha', 'loss_weight')


def make_parser():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file, with a focal loss in its model')
    parser.add_argument('--trials', type=int, default=20, help='of the whole study')
    parser.add_argument(
        '--search',
        nargs='+',
        choices=PARAMETERS,
        help='default: all three, but no alpha where the config has one for each class',
    )
    parser.add_argument(
        '--loss', help='which loss, such as loss_cls; default: the first focal loss of the model'
    )
    parser.add_argument(
        '--epochs', type=int, help="of a trial, the schedule stretched to it; default: the config's"
    )
    parser.add_argument('--metric', help='of the validation; default: the first mAP')
    parser.add_argument('--work-dir', help='default: work_dirs/tune_<name of the config>')
    parser.add_argument(
        '--storage',
        help="database URL; default: a SQLite file in the folder. The study has the folder's name: "
        'machines that search together have folders of one name',
    )
    parser.add_argument(
        '--startup', type=int, default=5, help='trials at random, and before any is stopped early'
    )
    parser.add_argument(
        '--seed',
        type=int,
        help='of the search, another one for each process; that of training is in the config',
    )
    add_config_options(parser)
    return parser


class FailedTrialError(Exception):
    """Its training has failed; others may not."""


def attempt(study, trial, *args):
    """One trial. What may be its own fault, as too little memory, does not end the search, unless
    none has come to an end yet, or the two before have failed too."""
    from mmdet_yolo2fl import tuning

    # (Other processes may have some that run.)
    states = (one.state.name for one in study.trials if one.number < trial.number)
    before = [state for state in states if state not in ('RUNNING', 'WAITING')]
    try:
        return tuning.run_trial(trial, *args)
    except (RuntimeError, ValueError) as error:
        if not {'COMPLETE', 'PRUNED'}.intersection(before) or before[-2:] == ['FAIL', 'FAIL']:
            raise
        traceback.print_exc()
        text = f'{type(error).__name__}: {error}'
    # Not in there: the error would hold the network, and its memory.
    tuning.free_memory()
    raise FailedTrialError(text)


def main(args=None):
    parser = make_parser()
    args = parser.parse_args(args)
    try:
        import optuna

        from mmdet_yolo2fl import tuning
    except ImportError as error:
        parser.error(f"{error}: pip install 'mmdet_yolo2fl[tune]'")
    if args.trials < 1 or args.startup < 1:
        parser.error('--trials and --startup must be at least 1')
    cfg = read_config(args, parser, 'model', 'train_dataloader', 'train_cfg', 'val_dataloader')
    load_only_weights()
    try:
        loss_key, loss = tuning.find_loss(cfg, args.loss)
        space = tuning.space_of(loss)
    except ValueError as error:
        parser.error(str(error))
    if args.epochs is not None:
        if args.epochs < 1 or 'max_epochs' not in cfg.train_cfg:
            parser.error('--epochs must be at least 1, and the config count epochs')
        cfg = with_epochs(cfg, args.epochs)
    takes = [name for name in PARAMETERS if name in space]
    if set(args.search or ()) - set(takes):
        parser.error(
            f'--search: a {loss.__name__} finds its own gamma; there are {", ".join(takes)}'
        )
    args.search = args.search or tuning.searched(cfg, loss_key, takes)
    first = tuning.first_trials(tuning.loss_at(cfg, loss_key), args.search, space)
    check_data(cfg, parser, 'train', 'val')
    folder = Path(args.work_dir or f'work_dirs/tune_{Path(args.config).stem}').absolute()
    folder.mkdir(parents=True, exist_ok=True)
    storage = args.storage or f'sqlite:///{folder}/study.db'
    try:
        with FileLock(folder / 'study.lock'):
            study = tuning.make_study(folder.name, storage, args.startup, args.seed)
            search = ' '.join(sorted(args.search))
            tuning.remember(study, cfg, loss=loss_key, metric=args.metric, search=search)
            tuning.enqueue(study, first)
    except Exception as error:  # of any database driver, too
        parser.error(f'--storage {storage}: {error}')
    print(f'Searching {", ".join(args.search)} of {loss_key}; study {folder.name!r} in {storage}')
    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    finished = len(study.get_trials(states=states))
    if finished:
        print(f'{finished} trials are done already')
    try:
        study.optimize(
            lambda trial: attempt(
                study, trial, cfg, loss_key, args.search, args.metric, folder, space
            ),
            n_trials=max(args.trials - finished, 0),
            callbacks=[optuna.study.MaxTrialsCallback(args.trials, states=states)],
            catch=(FailedTrialError,),
        )
    except tuning.UnknownMetricError as error:
        parser.error(f'--metric: {error.args[0]}')
    if not study.get_trials(states=states[:1]):
        sys.exit(f'No trial came to its end; what happened is in {folder}')
    lines, text = tuning.best_lines(study, cfg, loss_key), tuning.table(study)
    metric = study.best_trial.user_attrs.get('metric') or args.metric or 'precision'
    plain = 'gamma' in args.search and space['gamma']['low'] == 0
    control = 'the control (gamma=0)' if plain else 'the config as it was'
    result = (
        f'{metric} {study.best_value:.4f} with\n\n```python\n{lines}\n```\n\n{text}\n'
        'One seed each: differences of a point may be chance. Train the best and '
        f'{control} with several seeds before you believe them.\n'
    )
    # Workers that end together would write the same files.
    with FileLock(folder / 'study.lock'):
        write_text(folder / 'results.md', result)
        paths = tuning.draw(study, folder)
    missing = args.trials - len(study.get_trials(states=states))
    if missing > 0:
        print(f'{missing} trials have failed (see above): the same command tries as many again.')
    print(f'\n{result}\nIn {folder}: results.md, {", ".join(path.name for path in paths)}')


if __name__ == '__main__':
    main()
