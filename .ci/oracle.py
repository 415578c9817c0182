"""What `check` and `diagnose` say of every situation of the proofs, to the word:

    python .ci/oracle.py store | compare [FILE] [--every K] [--only NAME] [--runs DIR]

A refactoring leaves it as it is. `store` writes the file, `compare` makes the same runs and lists what differs
(on one machine: on another processor numbers differ in their last digits). `--every K` compares one run in K.
`--runs DIR` keeps each run there, so that rules alone can be compared in seconds: `rules FILE --runs DIR`."""
import argparse, gzip, json, os, pickle, sys, warnings
from multiprocessing import get_context
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FIXTURE = ROOT/'.ci/oracle.json.gz'
# what stands in these cells and above defines the runs
UNTIL = dict(outside='0a500031', questions='9b000020', verdicts='e3020b24+1')

def definitions(name):
    "The names that the code cells of a proof define, up to where its runs begin"
    path = next((ROOT/'nbs').rglob(f'{name}.ipynb'))
    until, more = (UNTIL[name] + '+0').split('+')[:2]
    cells = json.loads(path.read_text(encoding='utf-8'))['cells']
    end = next(i for i, c in enumerate(cells) if c['id'] == until) + int(more) + 1
    env, here = dict(__name__=name), os.getcwd()
    os.chdir(path.parent)
    try:
        for c in cells[:end]:
            if c['cell_type'] == 'code': exec(compile(''.join(c['source']), f'{name}.ipynb', 'exec'), env)
    finally: os.chdir(here)
    return env

def of_outside(env):
    "Each situation as it is, and with faults: each in every fifth situation that it fits, at least three"
    kinds = {}
    for nm in env['SITUATIONS']:
        env['set_seed'](1000)
        kinds[nm] = env['SITUATIONS'][nm]()['kind']
        yield nm, ''
    for i, (f, fault) in enumerate(env['FAULTS'].items()):
        fits = [nm for nm in kinds if fault.fits(nm, kinds[nm])]
        yield from ((nm, f) for nm in (fits[i % 5::5] if len(fits) > 15 else fits[:3]))

def of_questions(env):
    for nm in env['QUESTIONS']: yield from ((nm, seed, fixed) for seed in range(2) for fixed in (False, True))

def of_verdicts(env):
    for kind in env['FAULTS']:
        strengths = range(len(env['FAULTS'][kind]))
        yield from ((kind, arch, s) for arch in env['ARCHS'] if env['applies'](kind, arch) for s in strengths)
    yield from (('', arch, lr) for arch in env['ARCHS'] for lr in (1, 1.5))

ENVS, KEYS = {}, dict(outside=of_outside, questions=of_questions, verdicts=of_verdicts)

def learner(proof, key):
    "A Learner and its number of epochs; or one that was trained already, and None"
    env = ENVS[proof]
    if proof == 'outside': return env['make'](key[0], 0, key[1] or None)
    if proof == 'verdicts':
        kind, arch, s = key
        return env['train'](arch, 100, **(env['FAULTS'][kind][s] if kind else dict(lr=s))), None
    nm, seed, fixed = key
    f, _, repair = env['QUESTIONS'][nm]
    env['set_seed'](seed)
    d = f(**repair) if fixed else f()
    Own, TensorLoader = env['TrainLearner'], env['TensorLoader']
    if d.get('no_zero_grad'): Own = type('NoZero', (Own,), dict(zero_grad=lambda self: None))
    train = TensorLoader(*d['train'], bs=d['bs'], shuffle=d['shuffle'])
    dls = [train, TensorLoader(*d['valid'], bs=256)]
    cbs = [env['MetricsCB'](quiet=True), env['DiagnoseCB']()]
    return Own(d['model'], dls, d['loss'], d['lr'], cbs, d['opt']), d['epochs']

def says_of(findings):
    return [[f.severity, f.kind, f.layer, f.first_batch, f.evidence, f.cause, f.advice] for f in findings]

def told(job):
    "What is said of one run"
    import torch
    proof, key, runs = job
    torch.set_num_threads(1)
    warnings.filterwarnings('ignore')
    name = '/'.join(map(str, (proof, *key)))
    try:
        learn, epochs = learner(proof, key)
        checks = [] if epochs is None else [[v.name, v.ok, v.evidence, v.advice] for v in learn.check()]
        if epochs is not None: learn.fit(epochs)
        found = says_of(learn.diagnose())
        if runs:
            run = next(cb for cb in learn.cbs if type(cb).__name__ == 'DiagnoseCB').run(learn.loss_func)
            (Path(runs)/(name.replace('/', '~') + '.pkl')).write_bytes(pickle.dumps(run))
    except Exception as e: return name, dict(error=f'{type(e).__name__}: {e}')
    return name, dict(checks=checks, found=found)

def told_again(path):
    "What the rules say of a run that was kept"
    from miniai.diagnose import apply_rules
    name = path.name.removesuffix('.pkl').replace('~', '/')
    try: return name, dict(found=says_of(apply_rules(pickle.loads(path.read_bytes()))))
    except Exception as e: return name, dict(error=f'{type(e).__name__}: {e}')

def without(a, b): return [o for o in a if o not in b]

def of_run(name, a, b):
    "What differs in one run"
    if a == b: return
    if a is None or 'error' in {**a, **b}:
        yield f'{name}\n  - {a}\n  + {b}'
        return
    for part in b:
        if a[part] == b[part]: continue
        lost, new = without(a[part], b[part]), without(b[part], a[part])
        order = '' if lost or new else ': another order'
        yield '\n'.join([f'{name}: {part}{order}', *(f'  - {o}' for o in lost), *(f'  + {o}' for o in new)])

def differences(before, now): return [d for name in now for d in of_run(name, before.get(name), now[name])]

def arguments():
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument('what', choices=('store', 'compare', 'rules'))
    parser.add_argument('file', nargs='?', default=FIXTURE, type=Path)
    parser.add_argument('--every', type=int, default=1, help='one run in so many')
    parser.add_argument('--only', default='', help='runs whose name contains this')
    parser.add_argument('--runs', help='folder to keep the runs in, or to take them from')
    return parser.parse_args()

def all_runs(args):
    ENVS.update({nm: definitions(nm) for nm in UNTIL})
    found = ((nm, key, args.runs) for nm in UNTIL for key in list(KEYS[nm](ENVS[nm]))[::args.every])
    return [o for o in found if args.only in '/'.join(map(str, (o[0], *o[1])))]

def main():
    args = arguments()
    import miniai.all  # all methods of a Learner
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    os.environ['MINIAI_STRICT'] = '1'
    if args.runs: Path(args.runs).mkdir(exist_ok=True, parents=True)
    kept = sorted(Path(args.runs).glob('*.pkl')) if args.what == 'rules' else []
    f, todo = (told_again, [o for o in kept if args.only in o.name]) if kept else (told, all_runs(args))
    with get_context('fork').Pool(2) as pool: now = dict(pool.imap_unordered(f, todo, chunksize=1))
    print(len(now), 'runs,', sum('error' in o for o in now.values()), 'of which raise')
    if args.what == 'store':
        if args.only: now = {**json.loads(gzip.decompress(args.file.read_bytes())), **now}  # renews those alone
        args.file.write_bytes(gzip.compress(json.dumps(now, indent=0, sort_keys=True).encode(), mtime=0))
        return
    found = differences(json.loads(gzip.decompress(args.file.read_bytes())), now)
    print('\n'.join([*found[:60], f'{len(found)} differ']))
    sys.exit(bool(found))

if __name__ == '__main__': main()
