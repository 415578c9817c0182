"""What `make` runs inside the environment: python .ci/tools.py test | readme | notebooks [NAME ...] | nbdev_export | nbdev_clean"""
import hashlib, os, re, shutil, subprocess, sys, tempfile, time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from house import CHECKS
from pages import reading_order

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
ENV = {**os.environ, 'PATH': f"{BIN}:{os.environ['PATH']}", 'PYTHONUTF8': '1'}
ENV.pop('MPLBACKEND', None)  # how the notebooks draw is theirs to say

def notebooks(names=()):
    "The notebooks in reading order, the proofs after the series; or those whose path contains one of `names`"
    paths = [ROOT/'nbs'/o for o in reading_order()]
    return [o for o in paths if not names or any(n in str(o.relative_to(ROOT/'nbs')) for n in names)]

def nbdev(cmd):
    "The words that run one of nbdev's commands, from a path with spaces, too (where pip's scripts may not find their Python)"
    return [sys.executable, BIN/cmd]

def sh(*cmd, **kw): return subprocess.run([str(o) for o in cmd], cwd=ROOT, env=ENV, text=True, encoding='utf-8', capture_output=True, **kw)

def readme_files():
    "README.md as nbs/index.ipynb gives it, and its pictures: hidden cells left out, directives stripped, outputs kept"
    import nbformat
    from nbconvert import MarkdownExporter
    nb = nbformat.read(ROOT/'nbs/index.ipynb', 4)
    nb.cells = [o for o in nb.cells if not re.search(r'^#\| *(hide|export|default_exp)\b', o.source, re.M)]
    nb.metadata.language_info = {'name': 'python'}
    alts = [re.search(r'^#\| *fig-alt: *(.*)$', o.source, re.M)[1] for o in nb.cells if any('image/png' in p.get('data', {}) for p in o.get('outputs', []))]
    for o in nb.cells: o.source = '' if re.search(r'^#\| *echo: *false', o.source, re.M) else re.sub(r'^#\|.*\n', '', o.source, flags=re.M)
    text, res = MarkdownExporter().from_notebook_node(nb)
    figures = {nm: f'nbs/images/readme_{i}.png' for i, nm in enumerate(res['outputs'], 1)}
    for (nm, path), alt in zip(figures.items(), alts, strict=True): text = text.replace(f'![png]({nm})', f'![{alt}]({path})')
    text = re.sub(r'\]\(((?:\w+/)*\w+\.ipynb(?:#[^)]*)?|images/\w+\.\w+)\)', r'](nbs/\1)', text)  # the notebook lies in nbs/, the README above it
    text = re.sub(r'\]\(\.\./([\w./-]+)\)', r'](\1)', text)
    text = text.replace('```python\n\n```\n', '')  # of cells that show their output alone
    notice = '<!-- Written by `make readme` from nbs/index.ipynb: edit that notebook, not this file -->\n\n'
    text = notice + re.sub(r'[ \t]+$', '', re.sub(r'\n{3,}', '\n\n', text), flags=re.M).strip() + '\n'
    return {'README.md': text.encode(), **{figures[nm]: data for nm, data in res['outputs'].items()}}

def readme():
    for path, data in readme_files().items(): (ROOT/path).write_bytes(data)

def readme_differs():
    different = [path for path, data in readme_files().items() if not (ROOT/path).exists() or (ROOT/path).read_bytes() != data]
    return f"{', '.join(different)}: not what nbs/index.ipynb gives; run make readme" if different else ''

def snapshot(*patterns): return {p: hashlib.sha256(p.read_bytes()).hexdigest() for o in patterns for p in ROOT.glob(o) if p.is_file()}

def changes(cmd, *patterns):
    "What running `cmd` changes among the files of `patterns`: '' when nothing"
    before, res = snapshot(*patterns), sh(*nbdev(cmd))
    after = snapshot(*patterns)
    diff = [str(p.relative_to(ROOT)) for p in sorted({*before, *after}) if before.get(p) != after.get(p)]
    if res.returncode: return res.stderr[-2000:]
    return f"{cmd} changed {', '.join(diff)}: look at the change and commit it" if diff else ''

def run_test(job):
    what, *cmds = job
    start, out = time.time(), ''
    for cmd in cmds:
        res = sh(*cmd)
        out += res.stdout + res.stderr
        if res.returncode: break
    return what, out if res.returncode else '', time.time() - start

def tests(names):
    "What is to pass: each notebook in nbdev's runner, and with no names the site, too, in a browser where there is one"
    for path in notebooks(names): yield path.relative_to(ROOT), [*nbdev('nbdev_test'), '--path', path, '--n_workers', '0', '--do_print']
    if names: return
    build, check = [sys.executable, '.ci/docs.py'], [sys.executable, '.ci/browser.py', 'site']
    yield ('the site, each page in a browser', build, check) if CHROMIUM else ('the site (no Chromium: not in a browser)', build)

def test(names):
    "The checks and the notebooks, two at a time; exit status 1 if anything fails"
    counts = [0, 0]
    def report(what, failure, seconds):
        counts[bool(failure)] += 1
        print(f"{'FAILED' if failure else 'ok'.ljust(6)} {what} ({seconds:.0f} s)" + (f'\n{failure}' if failure else ''), flush=True)
    if not names:
        checks = {'nbdev_clean changes nothing': lambda: changes('nbdev_clean', 'nbs/**/*.ipynb'),
                  'nbdev_export changes nothing': lambda: changes('nbdev_export', 'miniai/**/*.py', 'pyproject.toml'),
                  'README.md is nbs/index.ipynb': readme_differs,
                  **{what: lambda check=check: '\n'.join(check()) for what, check in CHECKS.items()}}
        for what, check in checks.items():
            start = time.time()
            report(what, check(), time.time() - start)
    with ThreadPoolExecutor(2) as ex, tempfile.TemporaryDirectory() as tmp:  # what tests leave in the place for temporary files goes with it
        ENV.update(OMP_NUM_THREADS=str(max(1, (os.cpu_count() or 2)//2)), TMPDIR=tmp)
        for what, failure, seconds in ex.map(run_test, tests(names)): report(what, failure[-6000:], seconds)
    print(f'{counts[0]} passed, {counts[1]} failed')
    sys.exit(counts[1] > 0)

def small_png(data):
    "A figure, base64, in 128 colours, or 16 where all are grey: a third of the size, and no difference to the eye"
    import base64, io
    from PIL import Image, ImageChops
    with Image.open(io.BytesIO(base64.b64decode(data))) as im:
        if im.mode == 'P': return data
        im = im.convert('RGB')
        coloured = ImageChops.difference(im, im.convert('L').convert('RGB')).getbbox()
        im.quantize(128 if coloured else 16).save(b := io.BytesIO(), 'PNG', optimize=True)
    return base64.b64encode(b.getvalue()).decode()

def run_notebooks(names):
    "Run notebooks from top to bottom in a Jupyter kernel, and store what they show"
    import nbformat, torch
    from nbclient import NotebookClient
    leave = r'^#\| *(eval: *false' + ('' if torch.cuda.is_available() else '|cuda') + ')'
    class Client(NotebookClient):
        async def async_execute_cell(self, cell, *args, **kwargs):
            return cell if re.search(leave, cell.source, re.M) else await super().async_execute_cell(cell, *args, **kwargs)
    os.environ.pop('MPLBACKEND', None)
    os.environ.update(ENV, MINIAI_STRICT='1')  # what is stored comes from the real data
    for path in notebooks(names):
        if path.stem == 'speed' and not names: continue  # `make bench` runs it, with the other libraries
        start, nb = time.time(), nbformat.read(path, 4)
        Client(nb, kernel_name='python3', timeout=None, coalesce_streams=True, extra_arguments=['--log-level=ERROR'],
               resources={'metadata': {'path': path.parent}}).execute()
        nb.metadata.pop('widgets', None)
        for o in (o for c in nb.cells for o in c.get('outputs', []) if 'image/png' in o.get('data', {})): o.data['image/png'] = small_png(o.data['image/png'])
        nbformat.write(nb, path)
        print(f'{path.relative_to(ROOT)}: {time.time() - start:.0f} s', flush=True)
    if find_spec('nbdev'): print(sh(*nbdev('nbdev_clean')).stderr, end='')  # `make bench` has none

if __name__ == '__main__':
    cmd, *names = sys.argv[1:] or ['']
    if cmd == 'test': test(names)
    elif cmd == 'readme': readme()
    elif cmd == 'notebooks': run_notebooks(names)
    elif cmd in ('nbdev_clean', 'nbdev_export'): sys.exit(subprocess.run(nbdev(cmd) + names, cwd=ROOT, env=ENV).returncode)
    else: sys.exit(__doc__)
