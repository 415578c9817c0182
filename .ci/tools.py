"""What `make` runs inside the environment:

    python .ci/tools.py test | readme | notebooks [NAME ...] | nbdev_export | nbdev_clean"""
import base64, gc, hashlib, io, json, multiprocessing, os, re, shutil, subprocess, sys, tempfile, time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from house import CHECKS, THREADS
from pages import options, reading_order

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
BROWSERS = 'chromium', 'chromium-browser', 'google-chrome'
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
ENV = {**os.environ, 'PATH': f"{BIN}:{os.environ['PATH']}", 'PYTHONUTF8': '1'}
ENV.pop('MPLBACKEND', None)  # how the notebooks draw is theirs to say

def notebooks(names=()):
    "The notebooks in reading order, the proofs after the series; or those whose path contains one of `names`"
    return [ROOT/'nbs'/o for o in reading_order() if not names or any(nm in o for nm in names)]

def nbdev(cmd):
    "The words that run a command of nbdev; where a path has spaces, pip's scripts may not find their Python"
    return [sys.executable, BIN/cmd]

def sh(*cmd):
    words = [str(o) for o in cmd]
    return subprocess.run(words, cwd=ROOT, env=ENV, text=True, encoding='utf-8', capture_output=True)

def has_figure(cell): return any('image/png' in o.get('data', {}) for o in cell.get('outputs', []))

def for_readme(cell):
    "The source of a cell without its options; of some, the output alone"
    if cell.cell_type != 'code': return cell.source
    shown = options(cell.source).get('echo') is not False
    return re.sub(r'^#\|.*\n', '', cell.source, flags=re.M) if shown else ''

def readme_links(text):
    "Links from a notebook in nbs/, as links from the folder above it"
    text = re.sub(r'\]\(((?:\w+/)*\w+\.ipynb(?:#[^)]*)?|images/\w+\.\w+)\)', r'](nbs/\1)', text)
    return re.sub(r'\]\(\.\./([\w./-]+)\)', r'](\1)', text)

def readme_files():
    "README.md as nbs/index.ipynb gives it, and its pictures: without hidden cells and options, with outputs"
    import nbformat
    from nbconvert import MarkdownExporter
    nb = nbformat.read(ROOT/'nbs/index.ipynb', 4)
    nb.cells = [o for o in nb.cells if not re.search(r'^#\| *(hide|export|default_exp)\b', o.source, re.M)]
    nb.metadata.language_info = {'name': 'python'}
    alts = [options(o.source)['fig-alt'] for o in nb.cells if has_figure(o)]
    for o in nb.cells: o.source = for_readme(o)
    text, res = MarkdownExporter().from_notebook_node(nb)
    figures = {nm: f'nbs/images/readme_{i}.png' for i, nm in enumerate(res['outputs'], 1)}
    for (nm, path), alt in zip(figures.items(), alts, strict=True):
        text = text.replace(f'![png]({nm})', f'![{alt}]({path})')
    text = readme_links(text).replace('```python\n\n```\n', '')  # of cells that show their output alone
    notice = '<!-- Written by `make readme` from nbs/index.ipynb: edit that notebook, not this file -->\n\n'
    text = re.sub(r'[ \t]+$', '', re.sub(r'\n{3,}', '\n\n', text), flags=re.M)
    pictures = {figures[nm]: data for nm, data in res['outputs'].items()}
    return {'README.md': f'{notice}{text.strip()}\n'.encode(), **pictures, 'miniai/recipes.json': recipes()}

def recipes():
    "The code of each section of nbs/recipes.ipynb by its title, for the command `miniai-recipe`"
    import nbformat
    found, title, begin = {}, None, ''
    for o in nbformat.read(ROOT/'nbs/recipes.ipynb', 4).cells:
        if o.cell_type == 'markdown' and o.source.startswith('## '): title = o.source.splitlines()[0][3:]
        if o.cell_type != 'code' or '#| hide' in o.source: continue
        code = re.sub(r'^#\|.*\n', '', o.source, flags=re.M)
        if title is None: begin += code
        else: found[title] = f'{found.get(title, begin)}\n\n{code}'
    return f'{json.dumps(found, indent=1, ensure_ascii=False)}\n'.encode()

def readme():
    for path, data in readme_files().items(): (ROOT/path).write_bytes(data)

def readme_differs():
    def same(path, data): return (ROOT/path).exists() and (ROOT/path).read_bytes() == data
    different = [path for path, data in readme_files().items() if not same(path, data)]
    return f"{', '.join(different)}: not what nbs/index.ipynb and nbs/recipes.ipynb give; run make readme" if different else ''

def snapshot(*patterns):
    files = [p for o in patterns for p in ROOT.glob(o) if p.is_file()]
    return {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}

def changes(cmd, *patterns):
    "What running `cmd` changes among the files of `patterns`: '' when nothing"
    before, res = snapshot(*patterns), sh(*nbdev(cmd))
    after = snapshot(*patterns)
    diff = [str(p.relative_to(ROOT)) for p in sorted({*before, *after}) if before.get(p) != after.get(p)]
    if res.returncode: return res.stderr[-2000:]
    return f"{cmd} changed {', '.join(diff)}: look at the change and commit it" if diff else ''

def run_words(cmds):
    "Run commands until one fails; what they said if one did"
    out = ''
    for cmd in cmds:
        res = sh(*cmd)
        out += res.stdout + res.stderr
        if res.returncode: return out
    return ''

FORKS = multiprocessing.get_context('forkserver')
PRELOADED = ['torchvision', 'matplotlib.pyplot', 'pandas', 'nbdev.test']

def notebook_in_fork(path, said):
    "What a fork does: a notebook in nbdev's runner; what it says goes to the file `said`"
    fd = os.open(said, os.O_WRONLY | os.O_CREAT)
    for stream in (1, 2): os.dup2(fd, stream)
    gc.freeze()  # what is loaded stays, and need not be searched again and again
    multiprocessing.set_start_method(None, force=True)  # workers of a notebook start as they do elsewhere
    from nbdev.test import nbdev_test
    nbdev_test(path=str(path), n_workers=0, do_print=True)
    said.with_name('passed').touch()  # threads that wait for several forks may miss an exit status

def run_fork(path):
    "Test a notebook in a fork of a process that has imported PyTorch once for all; what it said if it failed"
    with tempfile.TemporaryDirectory() as d:
        said = Path(d)/'said'
        (p := FORKS.Process(target=notebook_in_fork, args=(path, said))).start()
        p.join()
        if said.with_name('passed').exists(): return ''
        told = said.read_text('utf-8', errors='replace') if said.exists() else ''
        return f'{told}exit status {p.exitcode}'

def run_test(job):
    what, run, *args = job
    start = time.time()
    return what, run(*args), time.time() - start

def tests(names):
    "What is to pass: with no names the site, in a browser where there is one, and each notebook in nbdev's runner"
    if not names:  # first, since nothing else takes so long
        build, check = [sys.executable, '.ci/docs.py'], [sys.executable, '.ci/browser.py', 'site']
        if CHROMIUM: yield 'the site, each page in a browser', run_words, [build, check]
        else: yield 'the site (no Chromium: not in a browser)', run_words, [build]
    for path in notebooks(names): yield path.relative_to(ROOT), run_fork, path

def checks():
    "{what: a function that returns what falls short}: the checks of the repository as a whole"
    def listed(check): return lambda: '\n'.join(check())
    return {'nbdev_clean changes nothing': lambda: changes('nbdev_clean', 'nbs/**/*.ipynb'),
            'nbdev_export changes nothing': lambda: changes('nbdev_export', 'miniai/**/*.py', 'pyproject.toml'),
            'README.md is nbs/index.ipynb': readme_differs,
            **{what: listed(check) for what, check in CHECKS.items()}}

def test(names):
    "The checks and the notebooks, two at a time; exit status 1 if anything fails"
    counts = [0, 0]
    def report(what, failure, seconds):
        counts[bool(failure)] += 1
        print(f"{'FAILED' if failure else 'ok    '} {what} ({seconds:.0f} s)", flush=True)
        if failure: print(failure, flush=True)
    for what, check in ({} if names else checks()).items():
        start = time.time()
        report(what, check(), time.time() - start)
    # what tests leave in the place for temporary files goes with it
    with ThreadPoolExecutor(2) as ex, tempfile.TemporaryDirectory() as tmp:
        ENV.update(OMP_NUM_THREADS=str(max(1, (os.cpu_count() or 2)//2)), TMPDIR=tmp)
        os.environ.pop('MPLBACKEND', None)
        os.environ.update(ENV)  # the forks are of a process that is started now
        FORKS.set_forkserver_preload(PRELOADED)
        for what, failure, seconds in ex.map(run_test, tests(names)): report(what, failure[-6000:], seconds)
    print(f'{counts[0]} passed, {counts[1]} failed')
    sys.exit(counts[1] > 0)

def small_png(data):
    "A figure, base64, in 128 colours, or 16 where all are grey: a third of the size, alike to the eye"
    from PIL import Image, ImageChops
    with Image.open(io.BytesIO(base64.b64decode(data))) as im:
        if im.mode == 'P': return data
        im = im.convert('RGB')
        coloured = ImageChops.difference(im, im.convert('L').convert('RGB')).getbbox()
        im.quantize(128 if coloured else 16).save(b := io.BytesIO(), 'PNG', optimize=True)
    return base64.b64encode(b.getvalue()).decode()

def client(nb, path):
    "Runs the cells of a notebook, but for those that say `eval: false`, and for a GPU where there is none"
    import torch
    from nbclient import NotebookClient
    leave = r'^#\| *(eval: *false' + ('' if torch.cuda.is_available() else '|cuda') + ')'
    class Client(NotebookClient):
        async def async_execute_cell(self, cell, *args, **kwargs):
            if re.search(leave, cell.source, re.M): return cell
            return await super().async_execute_cell(cell, *args, **kwargs)
    where = {'metadata': {'path': path.parent}}
    return Client(nb, kernel_name='python3', timeout=None, coalesce_streams=True, resources=where,
                  extra_arguments=['--log-level=ERROR'])

def run_notebook(path):
    "Run a notebook from top to bottom in a Jupyter kernel, and store what it shows"
    import nbformat, torch
    nb = nbformat.read(path, 4)
    client(nb, path).execute()
    nb.metadata.pop('widgets', None)
    # what the kernel began with
    nb.metadata['miniai'] = dict(threads=THREADS, torch=torch.__version__.split('+')[0])
    for data in (o.get('data', {}) for c in nb.cells for o in c.get('outputs', [])):
        if 'image/png' in data: data['image/png'] = small_png(data['image/png'])
    nbformat.write(nb, path)

# what is stored of these comes from a long form or from a GPU: a run of all notebooks leaves it
LONG = {'speed': 'make bench', 'trainers': 'make trainers', 'rivals': 'make trainers',
        'kill': 'make torture',
        'gpu': 'make notebooks T=proofs/gpu, with a GPU',
        'verdicts': 'MINIAI_SEEDS=5 make notebooks T=proofs/verdicts',
        'outside': 'MINIAI_SEEDS=2 make notebooks T=proofs/outside',
        'training': 'MINIAI_SEEDS=5 make notebooks T=proofs/training'}

def run_notebooks(names):
    "Run notebooks, the real data beside them, with the same number of threads everywhere"
    os.environ.pop('MPLBACKEND', None)
    os.environ.update(ENV, MINIAI_STRICT='1', OMP_NUM_THREADS=str(THREADS))
    # the guides come first, and show what later notebooks export; `make bench` has no nbdev
    if has_nbdev := find_spec('nbdev') is not None: print(sh(*nbdev('nbdev_export')).stderr, end='')
    for path in notebooks(names):
        if path.parent.name == 'proofs' and path.stem in LONG and not names:
            print(f'{path.relative_to(ROOT)}: left as it is; {LONG[path.stem]} runs it')
            continue
        start = time.time()
        run_notebook(path)
        print(f'{path.relative_to(ROOT)}: {time.time() - start:.0f} s', flush=True)
    if has_nbdev: print(sh(*nbdev('nbdev_clean')).stderr, end='')

if __name__ == '__main__':
    cmd, *names = sys.argv[1:] or ['']
    if cmd == 'test': test(names)
    elif cmd == 'readme': readme()
    elif cmd == 'notebooks': run_notebooks(names)
    elif cmd in ('nbdev_clean', 'nbdev_export'):
        sys.exit(subprocess.run(nbdev(cmd) + names, cwd=ROOT, env=ENV).returncode)
    else: sys.exit(__doc__)
