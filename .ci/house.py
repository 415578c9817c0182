"""The rules of the house, as a program sees them: python .ci/house.py [WORDS OF A CHECK]"""
import ast, json, re, subprocess, sys
from collections import Counter
from functools import cache
from itertools import dropwhile
from pathlib import Path
import host
from density import density
from pages import options, reading_order
from prose import counts, decimals

ROOT = host.ROOT
EXPORTED, KILOBYTES = .6, 420  # at most: share of exported cells, size of a notebook
THREADS = 2  # of the kernels that stored outputs come from; with another number whole runs differ
INSIDE = ('loop', 'learner')  # the modules that may touch what is private in a Learner

def shown(path): return path.relative_to(ROOT).as_posix()
@cache
def read(path): return Path(path).read_text(encoding='utf-8')
def first_line(text):
    lines = [o for o in text.splitlines() if o.strip() and not o.strip().startswith('#')]
    return lines[0][:60] if lines else ''
@cache
def parsed(text): return ast.parse(re.sub(r'^(\s*)[%!].*$', r'\1pass', text, flags=re.M))
def book(path): return json.loads(read(path))
def all_notebooks(): return [ROOT/'nbs'/o for o in reading_order()]
def sources(path, kind='code'):
    "The cells of a kind, as text"
    cells = [''.join(o['source']) for o in book(path)['cells'] if o['cell_type'] == kind]
    return [o for o in cells if o.strip()]
def is_exported(text): return bool(re.search(r'^#\| *exports?i?\b', text, re.M))

@cache
def series():
    "The notebooks that export: {module: (place in reading order, path, [(exported?, source) of a code cell])}"
    found = {}
    for path in all_notebooks():
        cells = sources(path)
        module = re.search(r'^#\| *default_exp +([\w.]+)', '\n'.join(cells), re.M)
        if not module or module[1] == 'all': continue
        found[module[1]] = len(found), path, [(is_exported(o), o) for o in cells]
    return found

def modules():
    "The modules of the package by name, as `loop`, `rules.data`"
    package = ROOT/'miniai'
    paths = [o for o in sorted(package.rglob('[!_]*.py')) if o.stem != 'all']
    return {'.'.join(o.relative_to(package).with_suffix('').parts): o for o in paths}

def imported_from(o, within):
    "(module, names) of `from … import …`; `within`: the sub-package that relative ones begin in"
    path, names = o.module or '', [a.name for a in o.names]
    if not o.level and path.split('.')[0] != 'miniai': return []
    module = path.removeprefix('miniai').lstrip('.')
    if o.level == 1 and within: module = f'{within}.{module}'.rstrip('.')
    if not module: return [(nm, []) for nm in names]
    return pages(module, names) or [(module, names)]

def pages(module, names):
    "The modules among the names, as in `from .rules import data`"
    return [(f'{module}.{nm}', []) for nm in names if f'{module}.{nm}' in modules()]

def imported_by_name(o):
    "(module, []) of `import_module('miniai.…')`"
    function = getattr(o.func, 'attr', getattr(o.func, 'id', ''))
    name = o.args[0].value if o.args and isinstance(o.args[0], ast.Constant) else ''
    known = function in ('import_module', '__import__') and str(name).startswith('miniai.')
    return [(name.removeprefix('miniai.'), [])] if known else []

def imports(tree, within=''):
    "(module of miniai, names) for each import, those within functions included"
    for o in ast.walk(tree):
        if isinstance(o, ast.ImportFrom): yield from imported_from(o, within)
        if isinstance(o, ast.Call): yield from imported_by_name(o)
        if isinstance(o, ast.Import):
            yield from ((a.name.removeprefix('miniai.'), []) for a in o.names if a.name.startswith('miniai.'))

def package_of(module): return module.rpartition('.')[0]

def all_code(nbs):
    "(file, module, code, the sub-package that relative imports begin in) of each code cell and each module"
    yield from ((shown(path), nm, text, '') for nm, (_, path, cells) in nbs.items() for _, text in cells)
    yield from ((shown(path), nm, read(path), package_of(nm)) for nm, path in modules().items() if nm in nbs)

def order():
    "Reading order is import order: a notebook and its module import from notebooks above alone"
    nbs = series()
    for where, module, text, within in all_code(nbs):
        for other, _ in imports(parsed(text), within):
            if other == module and where.startswith('nbs/'): continue  # its own tests
            place, path, _ = nbs.get(other, (-1, None, None))
            if not path: yield f'{where} imports miniai.{other}, which no notebook writes'
            elif place >= nbs[module][0]: yield f'{where} imports miniai.{other}: not above it: {shown(path)}'
    yield from (f'miniai/{o}.py: no notebook writes it' for o in modules() if o not in nbs)

def is_private_of_learner(o):
    if not isinstance(o, ast.Attribute) or not re.match(r'_(?!_)', o.attr): return False
    return 'learn' in (getattr(o.value, 'id', ''), getattr(o.value, 'attr', ''))

def borders():
    "Only public names cross a module's border"
    for module, path in modules().items():
        tree = parsed(read(path))
        for other, names in imports(tree, package_of(module)):
            private = [nm for nm in names if nm.startswith('_')]
            yield from (f'{shown(path)} imports {nm} from miniai.{other}' for nm in private)
        touched = [] if module in INSIDE else filter(is_private_of_learner, ast.walk(tree))
        yield from (f'{shown(path)}, line {o.lineno}: learn.{o.attr}' for o in touched)

def sizes():
    "Nothing is too large to be read in one sitting"
    for path in all_notebooks():
        size = path.stat().st_size/1024
        if size > KILOBYTES: yield f'{shown(path)}: {size:.0f} KB, more than {KILOBYTES}'
    for _, path, cells in series().values():
        share = sum(o for o, _ in cells)/len(cells)
        if share > EXPORTED: yield f'{shown(path)}: {share:.0%} of its cells are exported, not {EXPORTED:.0%}'

# what nbdev knows, and what Quarto's documentation has (a misspelt option is ignored without a word)
NBDEV = {'default_exp', 'export', 'exporti', 'exports', 'hide', 'cuda', 'slow'}
QUARTO = {'echo', 'eval', 'output', 'warning', 'error', 'include', 'label', 'column', 'tbl-cap',
          'layout-ncol', 'code-fold', 'code-summary', 'code-overflow', 'code-line-numbers',
          'fig-alt', 'fig-cap', 'fig-subcap', 'fig-width', 'fig-height'}
WORDS = {'fig-alt', 'fig-cap', 'tbl-cap', 'code-summary', 'label'}  # options whose value is text

def body_of(text):
    "The lines of a cell below its options"
    return dropwhile(lambda o: not o.strip() or o.startswith('#|'), text.splitlines())

def wrong_options(text):
    late = [o for o in body_of(text) if o.startswith('#|')]
    yield from (f'{o[:40]!r} does not stand at the head of the cell' for o in late)
    try: said = options(text)
    except Exception as e:
        yield f'not YAML ({str(e).splitlines()[0]}): put it in quotes'
        return
    for nm, value in said.items():
        known = NBDEV if isinstance(value, list) else QUARTO
        if nm not in known: yield f'{nm!r} is no option that nbdev or Quarto knows'
        if nm in WORDS and not isinstance(value, str): yield f'{nm} is {value!r}, not text: put it in quotes'

def cell_options():
    "Options of cells are YAML, and known"
    for path in all_notebooks():
        for text in sources(path):
            yield from (f'{shown(path)}, cell {first_line(text)!r}: {o}' for o in wrong_options(text))

ELSEWHERE = {'proofs/gpu'}  # stored on a computer with a GPU
def sets_threads(path): return path.parent.name == 'proofs' and 'torch.set_num_threads(' in read(path)

def threads():
    "Stored outputs come from kernels with the same number of threads, and say so: see `make notebooks`"
    for path in all_notebooks():
        nb = book(path)
        told = nb['metadata'].get('miniai', {}).get('threads')
        stored = any(o.get('outputs') for o in nb['cells'])
        if not stored or told == THREADS or sets_threads(path): continue
        name = path.relative_to(ROOT/'nbs').with_suffix('').as_posix()
        if name in ELSEWHERE: continue
        yield f'{shown(path)}: stored with {told or "unknown"} threads, not {THREADS}: run it again'

IMPORTS = (ast.Import, ast.ImportFrom)
def is_filter(o): return isinstance(o, ast.Expr) and ast.unparse(o).startswith('warnings.simplefilter(')

def mixes(text):
    "Imports and other code in one cell; a `with` around imports is none"
    tree = parsed(text)
    parts = [o for top in tree.body for o in (top.body if isinstance(top, ast.With) else [top])]
    alone = all(isinstance(o, IMPORTS) for o in parts if not is_filter(o))
    return not alone and any(isinstance(o, IMPORTS) for o in ast.walk(tree))

def apart():
    "Imports that are not exported stand apart: the site's build runs each cell with an import, and it alone"
    for _, path, cells in series().values():
        for exported, text in cells:
            if not exported and 'nbdev_export()' not in text and mixes(text):
                yield f'{shown(path)}: imports and code in one cell: {first_line(text)}'

TEXT = r'\.(md|ini|yml|toml|ipynb|py|txt|css|svg)$|(^|/)Makefile$'
def tracked():
    "The text files of the repository: what git knows, or what an archive of it holds"
    names = subprocess.run(['git', 'ls-files'], cwd=ROOT, text=True, capture_output=True).stdout.splitlines()
    if not names:
        built = r'(^|/)(\.venv|_docs|_proc|\.git/|.*\.egg-info)'
        paths = [o.relative_to(ROOT).as_posix() for o in ROOT.rglob('*')]
        names = [o for o in paths if not re.search(built, o)]
    return [o for o in names if re.search(TEXT, o) and (ROOT/o).is_file()]

# the account on the code host and the package on PyPI of this name belong to others; a clone installs itself
STRANGERS = (r'github\.com/miniai\b|miniai\.github\.io|\bminiai@|'
             r'pip install[^\n`]*?(?<![\w./-])miniai\b(?!/)|'
             r'git\+https?://[^\s\'"\\]*|git clone (?:https?|git)\S*')

def own_places():
    "What settings.ini says of where the repository is hosted, in all its forms"
    p = host.parts(host.address())
    places = [f"'miniai[nbs] @ git+{p['url']}'", p['url']] if p['url'] else []
    if p['host']:
        places += [f"{p['host']}{p['base']}", p['host'], f"github.com/{p['owner']}/{p['repo']}",
                   f"colab.research.google.com/github/{p['owner']}"]
    return places

def namespace():
    "Nothing points to a namespace that isn't ours: only to where settings.ini hosts the repository"
    for name in tracked():
        if name == '.ci/house.py': continue  # has the patterns themselves
        text = read(ROOT/name)
        for own in own_places(): text = text.replace(own, 'OURS')
        text = text.replace('git clone OURS', '')
        yield from (f'{name}: {o}' for o in sorted({m[0][:80] for m in re.finditer(STRANGERS, text)}))

def wrong_trip(path, text, clean, there, back, url):
    "What is wrong with one file, as it is and as `make host` leaves it: clean, hosted at `url`, and back"
    if clean != text: yield f'not as `make host URL={host.address()}` leaves it: run that'
    if host.hosted({path: there}, url)[path] != there: yield 'a second `make host` changes it again'
    if back != clean: yield 'set and unset, it is another'
    if path.suffix != '.ipynb':
        if url not in there: yield 'no address when hosted'
    elif '"cell_type": "code"' in text and there.count(host.BADGE) != 1: yield 'no badge when hosted'

def round_trip():
    "`make host` writes an address everywhere, and takes it back to the byte"
    texts, url = {o: read(o) for o in host.files()}, 'https://github.com/someone/something'
    clean = host.hosted(texts, host.address())
    there = host.hosted(clean, url)
    back = host.hosted(there, host.address())
    for path, text in texts.items():
        wrong = wrong_trip(path, text, clean[path], there[path], back[path], url)
        yield from (f'{shown(path)}: {o}' for o in wrong)

def constants(tree):
    "The names that a module sets, each as often as it is set"
    targets = (o for node in tree.body if isinstance(node, ast.Assign) for o in node.targets)
    return [o.id for t in targets for o in ast.walk(t) if isinstance(o, ast.Name) and isinstance(o.ctx, ast.Store)]

def twice():
    "A constant that is set twice: what is tested where it stands reads the last value in the package"
    for path in modules().values():
        again = [nm for nm, n in Counter(constants(parsed(read(path)))).items() if n > 1]
        yield from (f'{shown(path)}: {nm}' for nm in again if not nm.startswith('__'))

CHECKS = {'a notebook imports only from those above it': order,
          'only public names cross a border of modules': borders,
          'nothing is too large': sizes,
          'no module is dense': density,
          'options of cells are YAML, and known': cell_options,
          'a decimal number in the prose stands in an output': decimals,
          'numbers of rules and checks are printed, not told': counts,
          'stored outputs come from kernels with two threads': threads,
          'imports stand apart': apart,
          'no constant is set twice in a module': twice,
          "nothing points to a namespace that isn't ours": namespace,
          '`make host` can be taken back': round_trip}

def main(only=''):
    found = {what: list(check()) for what, check in CHECKS.items() if only in what}
    for what, bad in found.items():
        print(f"{'FAILED' if bad else 'ok    '} {what}", *bad, sep='\n       ')
    return any(found.values())

if __name__ == '__main__': sys.exit(main(*sys.argv[1:2]))
