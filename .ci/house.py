"""The rules of the house, as far as a program can see them: python .ci/house.py lists what falls short. `make test` asks, too."""
import ast, json, re, subprocess, sys
from pathlib import Path
import host
from pages import reading_order

ROOT = host.ROOT
EXPORTED, KILOBYTES, CELL, MODULE = .45, 400, 25, 300  # at most: share of exported cells, size of a notebook, lines of an exported cell, of a module
INSIDE = ('loop', 'learner')  # the modules that may touch what is private in a Learner

def shown(path): return path.relative_to(ROOT).as_posix()
def read(path): return Path(path).read_text(encoding='utf-8')
def code(text): return [o for o in text.splitlines() if o.strip() and not o.strip().startswith('#')]
def parsed(text): return ast.parse(re.sub(r'^(\s*)[%!].*$', r'\1pass', text, flags=re.M))

def series():
    "The notebooks that export: {module: (place in the reading order, path, [(exported?, source) of each code cell])}"
    found = {}
    for path in (ROOT/'nbs'/o for o in reading_order()):
        cells = [''.join(o['source']) for o in json.loads(read(path))['cells'] if o['cell_type'] == 'code']
        cells = [o for o in cells if o.strip()]
        module = re.search(r'^#\| *default_exp +([\w.]+)', '\n'.join(cells), re.M)
        if module and module[1] != 'all': found[module[1]] = len(found), path, [(bool(re.search(r'^#\| *exports?i?\b', o, re.M)), o) for o in cells]
    return found

def modules():
    "The modules of the package by name, as `loop`, `rules.data`"
    paths = {'.'.join(o.relative_to(ROOT/'miniai').with_suffix('').parts): o for o in sorted((ROOT/'miniai').rglob('[!_]*.py'))}
    return {nm: o for nm, o in paths.items() if nm != 'all'}

def imports(tree, within=''):
    "(module of miniai, names) for each import, those within functions included; `within`: the sub-package that relative ones begin in"
    for o in ast.walk(tree):
        if isinstance(o, ast.ImportFrom) and (o.level or (o.module or '').split('.')[0] == 'miniai'):
            module = (o.module or '').removeprefix('miniai').lstrip('.')
            if o.level == 1 and within: module = f'{within}.{module}'.rstrip('.')
            yield from [(module, [a.name for a in o.names])] if module else [(a.name, []) for a in o.names]
        if isinstance(o, ast.Import): yield from ((a.name.removeprefix('miniai.'), []) for a in o.names if a.name.startswith('miniai.'))

def order():
    "Reading order is import order: a notebook and its module import from notebooks above alone, so there is no circle"
    nbs = series()
    texts = [(shown(path), module, text) for module, (_, path, cells) in nbs.items() for _, text in cells]
    texts += [(f'miniai/{module}.py', module, read(path)) for module, path in modules().items() if module in nbs]
    for where, module, text in texts:
        for other, _ in imports(parsed(text), module.rpartition('.')[0] if where.startswith('miniai/') else ''):
            if other == module and where.startswith('nbs/'): continue  # its own tests
            if other not in nbs: yield f'{where} imports miniai.{other}, which no notebook writes'
            elif nbs[other][0] >= nbs[module][0]: yield f'{where} imports miniai.{other}, which is {shown(nbs[other][1])}: not above it'
    yield from (f'miniai/{o}.py: no notebook writes it' for o in modules() if o not in nbs)

def borders():
    "Only public names cross a module's border"
    for module, path in modules().items():
        tree = ast.parse(read(path))
        for other, names in imports(tree, module.rpartition('.')[0]): yield from (f'miniai/{module}.py imports {nm} from miniai.{other}' for nm in names if nm.startswith('_'))
        for o in ast.walk(tree) if module not in INSIDE else ():
            learn = isinstance(o, ast.Attribute) and (getattr(o.value, 'id', '') == 'learn' or getattr(o.value, 'attr', '') == 'learn')
            if learn and re.match(r'_(?!_)', o.attr): yield f'miniai/{module}.py, line {o.lineno}: learn.{o.attr}'

def sizes():
    "Nothing is too large to be read in one sitting"
    for path in (ROOT/'nbs'/o for o in reading_order()):
        if path.stat().st_size > KILOBYTES*1024: yield f'{shown(path)}: {path.stat().st_size/1024:.0f} KB, more than {KILOBYTES}'
    for _, path, cells in series().values():
        share = sum(o for o, _ in cells)/len(cells)
        if share > EXPORTED: yield f'{shown(path)}: {share:.0%} of its code cells are exported, more than {EXPORTED:.0%}'
        for exported, text in cells:
            n = len([o for o in text.splitlines() if o.strip() and not o.startswith('#|')])
            if exported and n > CELL: yield f"{shown(path)}: an exported cell of {n} lines, more than {CELL}: {code(text)[0][:60]}"
    for module, path in modules().items():
        if (n := len(code(read(path)))) > MODULE: yield f'miniai/{module}.py: {n} lines of code, more than {MODULE}'

def is_filter(o): return isinstance(o, ast.Expr) and ast.unparse(o).startswith('warnings.simplefilter(')

def apart():
    "Imports that are not exported, those within functions too, stand in a cell of their own: the site's build runs each cell with an import, and it alone"
    for _, path, cells in series().values():
        for exported, text in cells:
            tree, kinds = parsed(text), (ast.Import, ast.ImportFrom)
            alone = all(isinstance(o, kinds) for top in tree.body for o in (top.body if isinstance(top, ast.With) else [top]) if not is_filter(o))
            if not exported and not alone and any(isinstance(o, kinds) for o in ast.walk(tree)) and 'nbdev_export()' not in text: yield f'{shown(path)}: imports and code in one cell: {code(text)[0][:60]}'

def tracked():
    "The text files of the repository: what git knows, or what an archive of it holds"
    names = subprocess.run(['git', 'ls-files'], cwd=ROOT, text=True, capture_output=True).stdout.splitlines()
    names = names or [o.relative_to(ROOT).as_posix() for o in ROOT.rglob('*') if not re.search(r'(^|/)(\.venv|_docs|_proc|\.git/|.*\.egg-info)', o.relative_to(ROOT).as_posix())]
    return [o for o in names if re.search(r'\.(md|ini|yml|toml|ipynb|py|txt|css|svg)$|(^|/)Makefile$', o) and (ROOT/o).is_file()]

# the account on the code host and the package on PyPI that have this name belong to others; a clone installs itself (`pip install -e .`)
STRANGERS = r'github\.com/miniai\b|miniai\.github\.io|\bminiai@|pip install[^\n`]*?(?<![\w./-])miniai\b(?!/)|git\+https?://[^\s\'"\\]*|git clone (?:https?|git)\S*'

def namespace():
    "Nothing points to a namespace that isn't ours: only to where settings.ini says that the repository is hosted"
    p = host.parts(host.address())
    for name in tracked():
        if name == '.ci/house.py': continue  # has the patterns themselves
        text = read(ROOT/name)
        for own in filter(None, (f"'miniai[nbs] @ git+{p['url']}'" if p['url'] else '', p['url'], f"{p['host']}{p['base']}", p['host'],
                                 f"github.com/{p['owner']}/{p['repo']}" if p['host'] else '', f"colab.research.google.com/github/{p['owner']}" if p['host'] else '')): text = text.replace(own, 'OURS')
        text = text.replace('git clone OURS', '')
        yield from (f'{name}: {o}' for o in sorted({m[0][:80] for m in re.finditer(STRANGERS, text)}))

def round_trip():
    "`make host` writes an address everywhere, and takes it back to the byte"
    texts = {o: read(o) for o in host.files()}
    now, url = host.address(), 'https://github.com/someone/something'
    clean = host.hosted(texts, now)
    there = host.hosted(clean, url)
    back = host.hosted(there, now)
    for path, text in texts.items():
        name = path.relative_to(ROOT)
        if clean[path] != text: yield f'{name}: not as `make host URL={now}` leaves it: run that'
        if host.hosted({path: there[path]}, url)[path] != there[path]: yield f'{name}: a second `make host` changes it again'
        if back[path] != clean[path]: yield f'{name}: set and unset, it is another'
        if path.suffix == '.ipynb' and '"cell_type": "code"' in text and there[path].count(host.BADGE) != 1: yield f'{name}: no badge when hosted'
        if path.suffix != '.ipynb' and url not in there[path]: yield f'{name}: no address when hosted'

CHECKS = {'a notebook imports only from those above it': order, 'only public names cross a border of modules': borders, 'nothing is too large': sizes,
          'imports stand apart': apart, "nothing points to a namespace that isn't ours": namespace, '`make host` can be taken back': round_trip}

if __name__ == '__main__':
    found = {what: list(check()) for what, check in CHECKS.items()}
    for what, bad in found.items(): print(f"{'FAILED' if bad else 'ok    '} {what}" + ''.join(f'\n       {o}' for o in bad))
    sys.exit(any(found.values()))
