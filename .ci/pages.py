"""What both builds of the site do to the notebooks that nbdev processed, and what is done to the pages that Quarto made of them.
Quarto runs it by itself (`pre-render`, `post-render` in _quarto.yml), with any Python: nothing but the standard library.

    python .ci/pages.py prepare | tidy"""
import ast, html, io, json, os, re, shutil, sys, tokenize
from configparser import ConfigParser
from functools import cache
from pathlib import Path
from urllib.parse import urljoin

ROOT = Path(__file__).resolve().parent.parent
GUIDES = ('what_can_go_wrong', 'glossary', 'coming_from', 'recipes')  # what a search should find first

@cache
def settings():
    config = ConfigParser(delimiters=['='], interpolation=None)
    config.read(ROOT/'settings.ini', encoding='utf-8')
    return config['DEFAULT']

def notebooks(folder):
    "The notebooks of a folder, by the name that prose gives them: `loop/04_loop`, `proofs/speed`"
    paths = [o.relative_to(folder).as_posix() for o in folder.rglob('*.ipynb') if '.ipynb_checkpoints' not in o.parts]
    return {o.removesuffix('.ipynb'): o for o in sorted(paths)}

def reading_order():
    "The paths of all notebooks in nbs/, in the order of the sidebar of _quarto.yml: the guides, the wings, the proofs"
    sidebar = (ROOT/'_quarto.yml').read_text(encoding='utf-8').partition('\n  sidebar:')[2]
    return re.findall(r'[\w/]+\.ipynb', sidebar)

def read(path): return json.loads(Path(path).read_text(encoding='utf-8'))
def source(cell): return ''.join(cell['source'])
def directive(src, name):
    found = re.search(rf'^#\| *{name}: *(.*)$', src, re.M)
    return found and found[1].strip()
def markdown(src): return dict(cell_type='markdown', id='notebook', metadata={}, source=src)
def outside_code(f, text):
    "Apply `f` to what is not a block of code"
    return ''.join(o if o.startswith('```') else f(o) for o in re.split(r'(^```.*?^```[ ]*$)', text, flags=re.M | re.S))

# --- what show_doc wrote, as a table: parameter, type, default, meaning

def comments(src):
    "The comments of a module, by line"
    return {o.start[0]: o.string.lstrip('# ') for o in tokenize.generate_tokens(io.StringIO(src).readline) if o.type == tokenize.COMMENT}

def signature(fn, said, bound):
    "(as it is called, a row for each parameter, what it returns) of a function: what the source says, and nothing guessed"
    a = fn.args
    args = a.posonlyargs + a.args
    rows = list(zip(args, [None]*(len(args) - len(a.defaults)) + a.defaults))[bound:]
    rows += [(a.vararg, None)] if a.vararg else []
    rows += [*zip(a.kwonlyargs, a.kw_defaults)] + ([(a.kwarg, None)] if a.kwarg else [])
    last, body = {p.lineno: p for p, _ in rows}, fn.body[0].lineno
    def meaning(p):  # a comment on the parameter's line belongs to the last one there; else those on the lines above
        if last[p.lineno] is not p or p.lineno >= body: return ''
        if p.lineno in said: return said[p.lineno]
        above, line = [], p.lineno - 1
        while line in said and line not in last and line > fn.lineno: above, line = [said[line], *above], line - 1
        return ' '.join(above)
    star = {id(a.vararg): '*', id(a.kwarg): '**'}
    table = [(star.get(id(p), '') + p.arg, ast.unparse(p.annotation) if p.annotation else '', ast.unparse(d) if d else '', meaning(p)) for p, d in rows]
    call = [f'{nm}={default}' if default else nm for nm, _, default, _ in table]
    if a.kwonlyargs and not a.vararg: call.insert(len(args) - bound, '*')
    gives = (ast.unparse(fn.returns), said.get(fn.returns.end_lineno, '') if fn.returns.end_lineno not in last and fn.returns.end_lineno < body else '') if fn.returns else None
    return ', '.join(call), table, gives

@cache
def api():
    "(module, name) -> (class or function, signature, rows, returns), for all that miniai/ defines"
    classes, found = {}, {}
    def decorators(o): return [ast.unparse(d).split('(')[0].split('.')[-1] for d in o.decorator_list]
    defs = ast.FunctionDef, ast.AsyncFunctionDef
    for path in sorted((ROOT/settings()['lib_path']).rglob('[!_]*.py')):
        src = path.read_text(encoding='utf-8')
        said, module = comments(src), '.'.join(path.relative_to(ROOT/settings()['lib_path']).with_suffix('').parts)
        for o in ast.parse(src).body:
            if isinstance(o, defs):
                patched = 'patch' in decorators(o)
                on = [ast.unparse(c) for c in ast.walk(o.args.args[0].annotation) if isinstance(c, ast.Name)] if patched else []
                for nm in [f'{c}.{o.name}' for c in on] or [o.name]: found[module, nm] = ('property' if 'property' in ast.unparse(o.decorator_list) else 'method' if patched else 'function', *signature(o, said, patched))
            if isinstance(o, ast.ClassDef):
                init = None
                for m in (m for m in o.body if isinstance(m, defs)):
                    sig = signature(m, said, 'staticmethod' not in decorators(m))
                    if m.name == '__init__': init = sig
                    kind = 'property' if {'property', 'cached_property'} & {*decorators(m)} else 'method'
                    found[module, f'{o.name}.{m.name}'] = (kind, *sig)
                fields = [m for m in o.body if isinstance(m, ast.AnnAssign)] if 'dataclass' in decorators(o) else []
                if fields:
                    rows = [(m.target.id, ast.unparse(m.annotation), ast.unparse(m.value) if m.value else '', said.get(m.lineno, '')) for m in fields]
                    init = ', '.join(f'{nm}={d}' if d else nm for nm, _, d, _ in rows), rows, None
                classes[o.name] = module, init, [ast.unparse(b).split('.')[-1] for b in o.bases]
    for nm, (module, init, bases) in classes.items():
        todo = list(bases)
        while not init and todo:  # inherited, as far as the package knows
            _, init, more = classes.get(todo.pop(0), (None, None, []))
            todo = more + todo
        found[module, nm] = ('class', *(init or (None, [], None)))
    return found

@cache
def symbols():
    "name -> (page, anchor) of all that has an entry on the site"
    code = (ROOT/settings()['lib_path']/'_modidx.py').read_text(encoding='utf-8')
    index = ast.literal_eval(ast.parse(code).body[0].value)
    return {nm.removeprefix(f'{module}.'): tuple(where[0].split('#')) for module, names in index['syms'].items() for nm, where in names.items()}

def linked(text, up):
    "Names in back-quotes as links to their entries, unless a method has the same name as a function, or it is private"
    def link(m):
        nm = m[1].removesuffix('()')
        known = nm in symbols() and not nm.startswith('_') and not any(o.endswith(f'.{nm}') for o in symbols())
        return f'[{m[0]}]({up}{symbols()[nm][0]}#{symbols()[nm][1]})' if known else m[0]
    return re.sub(r'(?<!\[)`([\w.]+(?:\(\))?)`(?!\])', link, text)

def in_cell(text):
    "Text within a row of a table: no bar may end the cell"
    text = re.sub(r'`([^`]*\|[^`]*)`', lambda m: f'<code>{html.escape(m[1])}</code>', text)
    return text.replace('|', '&#124;')

def entry(text, module, up):
    "What show_doc wrote (heading, a block of code, docstring) with a call that wraps, and a table of the parameters"
    parts = re.match(r'(?:---\n+)?(?P<src>\[source\].*\n+)?(?P<head>#+ (?P<name>\S+))\n+```python\n.*?\n```\n*(?P<doc>.*)', text, re.S)
    name = parts and parts['name'].split('(')[0]
    made = name and re.search(r'```python\n(?:async )?def (\w+)\(', text)[1]  # `Learner.summary = _learn_summary` has the name of the function
    known = name and next((v for nm in (name, made) for (mod, o), v in sorted(api().items(), key=lambda kv: kv[0][0] != module) if o == nm), None)
    if not known: return text if settings()['git_url'] else re.sub(r'\[source\].*\n+', '', text)
    kind, call, rows, gives = known
    if rows and rows[0][0] == 'learn' and '.' in name: rows, call = rows[1:], call.removeprefix('learn').removeprefix(', ')
    rows = [(f'`{nm}`', f'`{typ}`' if typ else '', f'`{default}`' if default else '', linked(said, up)) for nm, typ, default, said in rows]
    if gives: rows.append(('returns', f'`{gives[0]}`', '', linked(gives[1], up)))
    columns = [i for i in range(4) if i in (0, 3) or any(r[i] for r in rows)]
    table = [['parameter', 'type', 'default', 'meaning'], [':--', ':--', ':--', ':------'], *rows] if any(r[1] or r[3] for r in rows) else []
    src = parts['src'] if settings()['git_url'] and parts['src'] else ''
    sig = name if kind == 'property' or call is None else f'{name}({call})'
    return '\n\n'.join(filter(None, [f"---\n\n{src}".strip(), parts['head'], f'<span class="api-kind">{kind}</span> `{sig}`', parts['doc'].strip(),
                                     '\n'.join('| ' + ' | '.join(in_cell(r[i]) for i in columns) + ' |' for r in table)]))

# --- a processed notebook, before either build

def local_links(text, stem, names):
    "Links that nbdev made, relative; names of notebooks in back-quotes, as links; files beside nbs/, where the repository is, if it is anywhere"
    cfg, up = settings(), '../'*stem.count('/')
    prefix = re.escape(urljoin(urljoin(cfg['doc_host'] + '/', cfg['doc_baseurl']) + '/', 'x')[:-1])
    def relative(m): return linked(m[1], up)
    text = re.sub(rf'\[(`[^`]+`)\]\({prefix}[\w/]+\.html#[^)\s]*\)', relative, text)
    def page(m): return f'[{m[0]}]({up}{names[m[1]]})' if m[1] in names and m[1] not in (stem, 'index') else m[0]
    text = re.sub(r'(?<!\[)`([\w/]+)`(?!\])', page, text)
    repo = f"{cfg['git_url']}/blob/{cfg['branch']}" if cfg['git_url'] else ''
    return re.sub(r'\[([^\]]+)\]\((?:\.\./)+([\w/.-]+\.(?:md|py|ini|yml|toml|txt))\)', lambda m: f'[{m[1]}]({repo}/{m[2]})' if repo else m[1], text)

def callouts(text):
    "Quotes that begin with **What to notice.**, as Quarto's callouts; where nothing draws them they are quotes"
    def draw(m): return f'''::: {{.callout-tip title="What to notice"}}\n{re.sub('^> ', '', m[1], flags=re.M).strip()}\n:::\n'''
    return re.sub(r'^> \*\*What to notice\.\*\* ((?:.*\n?)(?:^> .*\n?)*)', draw, text, flags=re.M)

def labelled(table):
    "A table with pictures: each cell with the head of its column, which a narrow screen shows before it"
    heads = [re.sub('<.*?>', '', o).strip().capitalize() for o in re.findall(r'<th\b.*?>(.*?)</th>', table, re.S)]
    def row(m):
        cells = iter(heads)
        def cell(n):
            head = next(cells, '')
            return f'<td data-label="{html.escape(head)}"{n[1]}>' if head and head != heads[0] else n[0]
        return re.sub(r'<td\b([^>]*)>', cell, m[0])
    return re.sub(r'<tr\b.*?</tr>', row, table, flags=re.S)

def shown_html(text):
    if '<table' not in text or '<img' not in text or '<th' not in text: return text
    return re.sub(r'<table\b.*?</table>', lambda m: f'<div class="findings">\n{labelled(m[0])}\n</div>', text, flags=re.S)

def prepared(nb, stem, names, module):
    "A processed notebook, ready for either build"
    up, cells, badge = '../'*stem.count('/'), [], ''
    front = source(nb['cells'][0])
    title, about = (re.search(rf'^{k}: (.*(?:\n  .*)*)', front, re.M) for k in ('title', 'description'))
    title, about = (re.sub(r'\s+', ' ', o[1]).strip("'\"").replace("''", "'") if o else '' for o in (title, about))
    nb['cells'][0]['source'] = front.rstrip().removesuffix('---').rstrip() + f'\npagetitle: {json.dumps(f"{title}: {about}", ensure_ascii=False)}\n---\n'
    nb['metadata'].pop('widgets', None)  # nbdev writes an empty state of widgets, for which Quarto would load three scripts from elsewhere
    for c in nb['cells'][1:]:
        text = source(c)
        if c['cell_type'] == 'markdown':
            if (m := re.match(r'\[!\[Open in Colab\].*\n*', text)): badge, text = m[0].strip(), text[m.end():]
            c['source'] = callouts(outside_code(lambda o: local_links(o, stem, names), text))
            if not c['source'].strip(): continue
        for o in c.get('outputs', []):
            data = o.get('data', {})
            if 'text/markdown' in data:
                said = ''.join(data['text/markdown'])
                data['text/markdown'] = local_links(entry(said, module, up) if 'show_doc' in text else said, stem, names)
            if 'text/html' in data: data['text/html'] = shown_html(''.join(data['text/html']))
            if 'image/png' in data: data.pop('text/plain', None)  # a figure needs no `<Figure size 432x230 with 1 Axes>` beside it
        if 'outputs' in c: c['outputs'] = [o for o in c['outputs'] if 'application/vnd.jupyter.widget-view+json' not in o.get('data', {})]
        cells.append(c)
    about = f"[`{stem}`]{{.notebook}} {badge}".strip()  # the link is made where the site is: see `tidy`
    nb['cells'] = [nb['cells'][0], markdown(about), *cells]
    nb['metadata']['prepared'] = True
    return nb

def prepare(folder=ROOT/'_proc'):
    names = notebooks(ROOT/'nbs')
    for stem, path in notebooks(folder).items():
        nb = read(folder/path)
        if 'prepared' in nb['metadata']: continue
        raw = (ROOT/'nbs'/path).read_text(encoding='utf-8')
        module = re.search(r'"#\| *default_exp +([\w.]+)', raw)
        (folder/path).write_text(json.dumps(prepared(nb, stem, names, module and module[1]), ensure_ascii=False, indent=1), encoding='utf-8')

# --- the pages, after the build

THIRD_PARTY = r'<script[^>]*\bsrc="https?://(?:cdnjs\.cloudflare\.com/[^"]*(?:require|jquery)|unpkg\.com)[^"]*"[^>]*>\s*</script>\s*|<script[^>]*>define\(.jquery.*?</script>\s*'
def download(stem, up): return f'<a href="{up}notebooks/{stem}.ipynb" download>Download this notebook</a>'

def copy_notebooks(docs):
    for path in notebooks(ROOT/'nbs').values():
        (docs/'notebooks'/path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT/'nbs'/path, docs/'notebooks'/path)

def search_index(docs):
    "Quarto's search: without what is code, and with the guides first"
    index = docs/'search.json'
    if not index.exists(): return
    items = json.loads(index.read_text(encoding='utf-8'))
    for path in {o['href'].split('#')[0] for o in items}:
        page = (docs/path).read_text(encoding='utf-8') if (docs/path).is_file() else ''
        codes = [html.unescape(re.sub('<[^>]*>', '', o)) for o in re.findall(r'<pre\b.*?</pre>', page, re.S)]
        for o in (o for o in items if o['href'].split('#')[0] == path):
            for code in filter(str.strip, codes): o['text'] = o['text'].replace(code.strip(), ' ')
    items.sort(key=lambda o: Path(o['href'].split('#')[0]).stem not in GUIDES)
    index.write_text(json.dumps(items, ensure_ascii=False, indent=1), encoding='utf-8')

def tidy(docs=None):
    "The pages that Quarto made: nothing loaded from elsewhere, links to the notebooks themselves, a search that knows prose from code"
    docs = docs or ROOT/'_proc'/os.environ.get('QUARTO_PROJECT_OUTPUT_DIR', '_docs')
    copy_notebooks(docs)
    for path in docs.rglob('*.html'):
        text, up = path.read_text(encoding='utf-8'), '../'*(len(path.relative_to(docs).parts) - 1)
        new = re.sub(THIRD_PARTY, '', text, flags=re.S)
        new = re.sub(r'(<span class="notebook">)<code>(.*?)</code></span>', lambda m: f'{m[1]}<code>{m[2]}</code> · {download(m[2], up)}</span>', new)
        if new != text: path.write_text(new, encoding='utf-8')
    for path in docs.rglob('*.css'):  # the theme's fonts
        text = path.read_text(encoding='utf-8')
        new = re.sub(r'''@import\s*(?:url\(\s*["']?https?://[^)"']*["']?\s*\)|["']https?://[^"']*["'])[^;]*;''', '', text)
        if new != text: path.write_text(new, encoding='utf-8')
    search_index(docs)

if __name__ == '__main__': {'prepare': prepare, 'tidy': tidy}[sys.argv[1]]()
