"""What both builds of the site do to the notebooks that nbdev processed, and to the pages that Quarto made.
Quarto runs it by itself (`pre-render`, `post-render` in _quarto.yml), with any Python and no package.

    python .ci/pages.py prepare | tidy"""
import ast, html, io, json, os, re, shutil, sys, tokenize
from configparser import ConfigParser
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin

ROOT = Path(__file__).resolve().parent.parent
GUIDES = ('what_can_go_wrong', 'nothing_found', 'glossary', 'notation', 'coming_from', 'recipes', 'in_100_lines')  # what a search should find first

@cache
def settings():
    config = ConfigParser(delimiters=['='], interpolation=None)
    config.read(ROOT/'settings.ini', encoding='utf-8')
    return config['DEFAULT']

def notebooks(folder):
    "The notebooks of a folder, by the name that prose gives them: `loop/04_loop`, `proofs/speed`"
    paths = [o.relative_to(folder).as_posix() for o in folder.rglob('*.ipynb')]
    return {o.removesuffix('.ipynb'): o for o in sorted(paths) if '.ipynb_checkpoints' not in o}

def reading_order():
    "The paths of all notebooks in nbs/, in the order of the sidebar of _quarto.yml"
    sidebar = (ROOT/'_quarto.yml').read_text(encoding='utf-8').partition('\n  sidebar:')[2]
    return re.findall(r'[\w/]+\.ipynb', sidebar)

def read(path): return json.loads(Path(path).read_text(encoding='utf-8'))
def source(cell): return ''.join(cell['source'])
def markdown(src): return dict(cell_type='markdown', id='notebook', metadata={}, source=src)

def options(src):
    "{option: value} of the leading `#|` lines: Quarto's as YAML (which may raise), nbdev's as a list of words"
    import yaml  # not needed where Quarto runs this file
    said, flags = [], {}
    for line in src.splitlines():
        if line.strip() and not line.startswith('#|'): break
        text = line.removeprefix('#|').removeprefix(' ')
        name, *words = text.split() or ['']
        if said and text.startswith(' ') or re.match(r'[\w-]+:( |$)', text): said.append(text)
        elif name: flags[name] = words
    found = yaml.safe_load('\n'.join(said)) or {}
    return {**flags, **found}

def outside_code(f, text):
    "Apply `f` to what is not a block of code"
    parts = re.split(r'(^```.*?^```[ ]*$)', text, flags=re.M | re.S)
    return ''.join(o if o.startswith('```') else f(o) for o in parts)

# --- what show_doc wrote, as a table: parameter, type, default, meaning

FUNCTIONS = ast.FunctionDef, ast.AsyncFunctionDef

def comments(src):
    "The comments of a module, by line"
    tokens = tokenize.generate_tokens(io.StringIO(src).readline)
    return {o.start[0]: o.string.lstrip('# ') for o in tokens if o.type == tokenize.COMMENT}

def parameters(fn, bound):
    "(parameter, default or None) of a function, without `self` if `bound`"
    a = fn.args
    args = a.posonlyargs + a.args
    defaults = [None]*(len(args) - len(a.defaults)) + a.defaults
    rows = list(zip(args, defaults))[bound:]
    if a.vararg: rows.append((a.vararg, None))
    rows += zip(a.kwonlyargs, a.kw_defaults)
    if a.kwarg: rows.append((a.kwarg, None))
    return rows

def meaning(p, fn, said, last):
    "The comment of a parameter: on its line, if it is the `last` one there; else those on the lines above"
    if last[p.lineno] is not p or p.lineno >= fn.body[0].lineno: return ''
    if p.lineno in said: return said[p.lineno]
    above, line = [], p.lineno - 1
    while line in said and line not in last and line > fn.lineno:
        above.insert(0, said[line])
        line -= 1
    return ' '.join(above)

def returned(fn, said, last):
    "(type, meaning) of what a function returns"
    if not fn.returns: return None
    line = fn.returns.end_lineno
    own = line not in last and line < fn.body[0].lineno
    return ast.unparse(fn.returns), said.get(line, '') if own else ''

def text_of(tree): return ast.unparse(tree) if tree else ''

def signature(fn, said, bound):
    "(as it is called, a row for each parameter, what it returns) of a function, as its source says"
    a, rows = fn.args, parameters(fn, bound)
    last = {p.lineno: p for p, _ in rows}
    star = {id(a.vararg): '*', id(a.kwarg): '**'}
    table = []
    for p, default in rows:
        nm = star.get(id(p), '') + p.arg
        table.append((nm, text_of(p.annotation), text_of(default), meaning(p, fn, said, last)))
    call = [f'{nm}={default}' if default else nm for nm, _, default, _ in table]
    if a.kwonlyargs and not a.vararg: call.insert(len(a.posonlyargs + a.args) - bound, '*')
    return ', '.join(call), table, returned(fn, said, last)

def decorators(o): return [ast.unparse(d).split('(')[0].split('.')[-1] for d in o.decorator_list]

def of_function(o, said):
    "(name, entry) of a function, or of what it adds as a method to each class that it patches"
    patched = 'patch' in decorators(o)
    kind = 'property' if 'property' in text_of_list(o.decorator_list) else 'method' if patched else 'function'
    classes = [c for c in ast.walk(o.args.args[0].annotation) if isinstance(c, ast.Name)] if patched else []
    names = [f'{ast.unparse(c)}.{o.name}' for c in classes] or [o.name]
    yield from ((nm, (kind, *signature(o, said, patched))) for nm in names)

def text_of_list(trees): return ' '.join(map(ast.unparse, trees))

def of_methods(o, said):
    "(name, entry) of each method of a class"
    for m in (m for m in o.body if isinstance(m, FUNCTIONS)):
        kind = 'property' if {'property', 'cached_property'} & {*decorators(m)} else 'method'
        yield f'{o.name}.{m.name}', (kind, *signature(m, said, 'staticmethod' not in decorators(m)))

def of_fields(o, said):
    "The signature of a dataclass"
    fields = [m for m in o.body if isinstance(m, ast.AnnAssign)] if 'dataclass' in decorators(o) else []
    rows = [(m.target.id, text_of(m.annotation), text_of(m.value), said.get(m.lineno, '')) for m in fields]
    call = ', '.join(f'{nm}={default}' if default else nm for nm, _, default, _ in rows)
    return (call, rows, None) if fields else None

def inherited(nm, classes):
    "The signature of a class, its own or the nearest base's, as far as the package knows"
    _, init, todo = classes[nm]
    while not init and todo:
        _, init, more = classes.get(todo[0], (None, None, []))
        todo = more + todo[1:]
    return init or (None, [], None)

@cache
def api():
    "(module, name) -> (class or function, signature, rows, returns), for all that miniai/ defines"
    classes, found, package = {}, {}, ROOT/settings()['lib_path']
    for path in sorted(package.rglob('[!_]*.py')):
        src = path.read_text(encoding='utf-8')
        said, module = comments(src), '.'.join(path.relative_to(package).with_suffix('').parts)
        for o in ast.parse(src).body:
            if isinstance(o, FUNCTIONS): found.update({(module, nm): v for nm, v in of_function(o, said)})
            if not isinstance(o, ast.ClassDef): continue
            methods = dict(of_methods(o, said))
            found.update({(module, nm): v for nm, v in methods.items()})
            init = methods.get(f'{o.name}.__init__', (None, None))[1:]
            bases = [ast.unparse(b).split('.')[-1] for b in o.bases]
            classes[o.name] = module, of_fields(o, said) or (init if len(init) == 3 else None), bases
    found.update({(classes[nm][0], nm): ('class', *inherited(nm, classes)) for nm in classes})
    return found

@cache
def symbols():
    "name -> (page, anchor) of all that has an entry on the site"
    code = (ROOT/settings()['lib_path']/'_modidx.py').read_text(encoding='utf-8')
    index = ast.literal_eval(ast.parse(code).body[0].value)
    return {nm.removeprefix(f'{module}.'): tuple(where[0].split('#'))
            for module, names in index['syms'].items() for nm, where in names.items()}

def linked(text, up):
    "Names in back-quotes as links to their entries, unless a method has a function's name, or it is private"
    def link(m):
        nm = m[1].removesuffix('()')
        private = nm.startswith('_')
        if nm not in symbols() or private or any(o.endswith(f'.{nm}') for o in symbols()): return m[0]
        page, anchor = symbols()[nm]
        return f'[{m[0]}]({up}{page}#{anchor})'
    return re.sub(r'(?<!\[)`([\w.]+(?:\(\))?)`(?!\])', link, text)

def in_cell(text):
    "Text within a row of a table: no bar may end the cell"
    text = re.sub(r'`([^`]*\|[^`]*)`', lambda m: f'<code>{html.escape(m[1])}</code>', text)
    return text.replace('|', '&#124;')

def quoted(text): return f'`{text}`' if text else ''

def found_entry(text, name, module):
    "What `api` has for the name that show_doc wrote, in this module first"
    # `Learner.summary = _learn_summary` has the name of the function
    made = re.search(r'```python\n(?:async )?def (\w+)\(', text)[1]
    at = sorted(api().items(), key=lambda kv: kv[0][0] != module)
    return next((v for nm in (name, made) for (_, o), v in at if o == nm), None)

def table_of(rows, gives, up):
    "The parameters as a Markdown table, without columns that would be empty"
    cells = [(quoted(nm), quoted(typ), quoted(default), linked(said, up)) for nm, typ, default, said in rows]
    if gives: cells.append(('returns', quoted(gives[0]), '', linked(gives[1], up)))
    if not any(o[1] or o[3] for o in cells): return ''
    columns = [i for i in range(4) if i in (0, 3) or any(o[i] for o in cells)]
    table = [['parameter', 'type', 'default', 'meaning'], [':--', ':--', ':--', ':------'], *cells]
    return '\n'.join('| ' + ' | '.join(in_cell(o[i]) for i in columns) + ' |' for o in table)

ENTRY = (r'(?:---\n+)?(?P<src>\[source\].*\n+)?(?P<head>#+ (?P<name>\S+))\n+'
         r'```python\n.*?\n```\n*(?P<doc>.*)')

def entry(text, module, up):
    "What show_doc wrote (heading, code, docstring) with a call that wraps, and a table of the parameters"
    parts, hosted = re.match(ENTRY, text, re.S), settings()['git_url']
    name = parts and parts['name'].split('(')[0]
    known = name and found_entry(text, name, module)
    if not known: return text if hosted else re.sub(r'\[source\].*\n+', '', text)
    kind, call, rows, gives = known
    if rows and rows[0][0] == 'learn' and '.' in name:
        rows, call = rows[1:], call.removeprefix('learn').removeprefix(', ')
    src = parts['src'] if hosted and parts['src'] else ''
    sig = name if kind == 'property' or call is None else f'{name}({call})'
    kind = f'<span class="api-kind">{kind}</span>'
    said = [f'---\n\n{src}'.strip(), parts['head'], f'{kind} `{sig}`', parts['doc'].strip()]
    return '\n\n'.join(filter(None, [*said, table_of(rows, gives, up)]))

# --- a processed notebook, before either build

def local_links(text, stem, names):
    "Links that nbdev made, relative; names of notebooks, and files of a hosted repository, as links"
    cfg, up = settings(), '../'*stem.count('/')
    prefix = re.escape(urljoin(urljoin(cfg['doc_host'] + '/', cfg['doc_baseurl']) + '/', 'x')[:-1])
    repo = f"{cfg['git_url']}/blob/{cfg['branch']}" if cfg['git_url'] else ''
    def relative(m): return linked(m[1], up)
    def page(m):
        known = m[1] in names and m[1] not in (stem, 'index')
        return f'[{m[0]}]({up}{names[m[1]]})' if known else m[0]
    def file(m): return f'[{m[1]}]({repo}/{m[2]})' if repo else m[1]
    text = re.sub(rf'\[(`[^`]+`)\]\({prefix}[\w/]+\.html#[^)\s]*\)', relative, text)
    text = re.sub(r'(?<!\[)`([\w/]+)`(?!\])', page, text)
    files = r'\[([^\]]+)\]\((?:\.\./)+([\w/.-]+\.(?:md|py|ini|yml|toml|txt))\)'
    return re.sub(files, file, text)

def callouts(text):
    "Quotes that begin with **What to notice.**, as Quarto's callouts; elsewhere they are quotes"
    def draw(m):
        said = re.sub('^> ', '', m[1], flags=re.M).strip()
        return f'::: {{.callout-tip title="What to notice"}}\n{said}\n:::\n'
    return re.sub(r'^> \*\*What to notice\.\*\* ((?:.*\n?)(?:^> .*\n?)*)', draw, text, flags=re.M)

def labelled(table):
    "A table with pictures: each cell with the head of its column, which a narrow screen shows before it"
    table = re.sub(r'(<th\b[^>]*>)\s*(</th>\s*</tr>)', r'\1picture\2', table)
    heads = [re.sub('<.*?>', '', o) for o in re.findall(r'<th\b.*?>(.*?)</th>', table, re.S)]
    heads = [o.strip().capitalize() for o in heads]
    def row(m):
        cells = iter(heads)
        def cell(n):
            head = next(cells, '')
            plain = head in ('', 'Picture', heads[0])
            return n[0] if plain else f'<td data-label="{html.escape(head)}"{n[1]}>'
        return re.sub(r'<td\b([^>]*)>', cell, m[0])
    return re.sub(r'<tr\b.*?</tr>', row, table, flags=re.S)

def shown_html(text):
    if not all(o in text for o in ('<table', '<img', '<th')): return text
    def findings(m): return f'<div class="findings">\n{labelled(m[0])}\n</div>'
    return re.sub(r'<table\b.*?</table>', findings, text, flags=re.S)

def front_matter(front):
    "What nbdev wrote above a page, with the title that a browser's tab shows"
    def said(key):
        found = re.search(rf'^{key}: (.*(?:\n  .*)*)', front, re.M)
        return re.sub(r'\s+', ' ', found[1]).strip("'\"").replace("''", "'") if found else ''
    title, about = said('title'), said('description')
    page = json.dumps(f'{title}: {about}', ensure_ascii=False)
    return front.rstrip().removesuffix('---').rstrip() + f'\npagetitle: {page}\n---\n'

def shown_output(o, stem, names, module, documents):
    "An output as the site has it; `documents`: it comes from show_doc"
    data = o.get('data', {})
    if 'text/markdown' in data:
        said = ''.join(data['text/markdown'])
        if documents: said = entry(said, module, '../'*stem.count('/'))
        data['text/markdown'] = local_links(said, stem, names)
    if 'text/html' in data: data['text/html'] = shown_html(''.join(data['text/html']))
    if 'image/png' in data: data.pop('text/plain', None)  # no `<Figure size 432x230 with 1 Axes>` beside it

def is_widget(o): return 'application/vnd.jupyter.widget-view+json' in o.get('data', {})

def raise_headings(cells):
    "Below the title (h1) comes h2: an h3 that stands before the first h2 is raised to one"
    def raised(text):
        nonlocal first
        def up(m): return m[0] if first else m[0][1:]
        out = []
        for line in re.split(r'(?<=\n)', text):
            first = first or line.startswith('## ')
            out.append(re.sub(r'^###(?= )', up, line))
        return ''.join(out)
    first = False
    for c in cells:
        if c['cell_type'] == 'markdown': c['source'] = outside_code(raised, source(c))
        for data in (o.get('data', {}) for o in c.get('outputs', [])):
            text = ''.join(data.get('text/markdown', ''))
            if text: data['text/markdown'] = outside_code(raised, text)

NAMED = 3  # of what a folded cell defines, so many names stand in its summary

def defined(text):
    "The names that a cell defines"
    try: tree = ast.parse(re.sub(r'^(\s*)[%!].*$', r'\1pass', text, flags=re.M))
    except SyntaxError: return
    for o in tree.body:
        if isinstance(o, (*FUNCTIONS, ast.ClassDef)): yield o.name
        if isinstance(o, ast.Assign): yield from (t.id for t in o.targets if isinstance(t, ast.Name))

def summarised(text):
    "A folded cell with a summary of what it defines: `Code: Stream, lazy_loader, …`, not `Code` alone"
    if not re.search(r'^#\| *code-fold: *true', text, re.M) or 'code-summary:' in text: return text
    names = [o for o in dict.fromkeys(defined(text)) if not o.startswith('_')]
    said = ', '.join(names[:NAMED] + (['…'] if len(names) > NAMED else []))
    return f'#| code-summary: "Code: {said}"\n{text}' if said else text

BADGE = r'\[!\[Open in Colab\].*\n*'

def prepared(nb, stem, names, module):
    "A processed notebook, ready for either build"
    front, cells, badge = nb['cells'][0], [], ''
    front['source'] = front_matter(source(front))
    nb['metadata'].pop('widgets', None)  # nbdev's empty state, for which Quarto would load three scripts
    for c in nb['cells'][1:]:
        text = source(c)
        if c['cell_type'] == 'markdown':
            if m := re.match(BADGE, text): badge, text = m[0].strip(), text[m.end():]
            c['source'] = callouts(outside_code(lambda o: local_links(o, stem, names), text))
            if not c['source'].strip(): continue
        else: c['source'] = summarised(text)
        if 'outputs' in c: c['outputs'] = [o for o in c['outputs'] if not is_widget(o)]
        for o in c.get('outputs', []): shown_output(o, stem, names, module, 'show_doc' in text)
        cells.append(c)
    about = f'[`{stem}`]{{.notebook}} {badge}'.strip()  # the link is made where the site is: see `tidy`
    raise_headings(cells)
    nb['cells'] = [front, markdown(about), *cells]
    # a list of lines: of one string, which the format allows, Quarto loses every line break
    for c in nb['cells']: c['source'] = source(c).splitlines(keepends=True)
    nb['metadata']['prepared'] = True
    return nb

def prepare(folder=ROOT/'_proc'):
    names = notebooks(ROOT/'nbs')
    for stem, path in notebooks(folder).items():
        nb = read(folder/path)
        if 'prepared' in nb['metadata']: continue
        raw = (ROOT/'nbs'/path).read_text(encoding='utf-8')
        module = re.search(r'"#\| *default_exp +([\w.]+)', raw)
        text = json.dumps(prepared(nb, stem, names, module and module[1]), ensure_ascii=False, indent=1)
        (folder/path).write_text(text, encoding='utf-8')

# --- the pages, after the build

# scripts from elsewhere (jQuery and RequireJS for widgets, which no page has), and what would wait for them
FOREIGN = (r'<script[^>]*\bsrc="https?://[^"]*"[^>]*>\s*</script>\s*|'
           r'<script[^>]*>define\(.jquery.*?</script>\s*')
# a picture for those who link to a page has to have a whole address
NO_ADDRESS = r'<meta (?:property|name)="(?:og|twitter):image"\s+content="(?!https?:)[^"]*"\s*/?>\s*'
FONTS = r'''@import\s*(?:url\(\s*["']?https?://[^)"']*["']?\s*\)|["']https?://[^"']*["'])[^;]*;'''
FITS = 88  # characters of code in a line that fit on a page: see site.css

def download(stem, up): return f'<a href="{up}notebooks/{stem}.ipynb" download>Download this notebook</a>'

def copy_notebooks(docs):
    for path in notebooks(ROOT/'nbs').values():
        (docs/'notebooks'/path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT/'nbs'/path, docs/'notebooks'/path)

class Sections(HTMLParser):
    "The prose of a page by section: {id: [level, title, text without code, ids of the sections within]}"
    SKIPPED = {'pre', 'script', 'style', 'svg', 'math'}
    def __init__(self, text):
        super().__init__()
        self.found, self.open, self.skip, self.heading = {}, [], 0, False
        self.feed(text)
    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag in self.SKIPPED: self.skip += 1
        if tag in ('h1', 'h2', 'h3', 'h4'): self.heading = True
        if tag != 'section': return
        level = re.search(r'\blevel(\d)', attrs.get('class') or '')
        nm = attrs.get('id') if level else None
        if nm:
            for o in filter(None, self.open): self.found[o][3].append(nm)
            self.found[nm] = [int(level[1]), '', '', []]
        self.open.append(nm)
    def handle_endtag(self, tag):
        if tag in self.SKIPPED: self.skip = max(0, self.skip - 1)
        if tag in ('h1', 'h2', 'h3', 'h4'): self.heading = False
        if tag == 'section' and self.open: self.open.pop()
    def handle_data(self, data):
        here = next(filter(None, reversed(self.open)), None)
        if here and not self.skip: self.found[here][1 if self.heading else 2] += data

def squeezed(text): return html.escape(re.sub(r'\s+', ' ', text).strip(), quote=False)

def without_code(text, page):
    "What Quarto's index has of a page, without its blocks of code: it holds them with `<` as `&lt;`"
    for o in re.findall(r'<pre\b.*?</pre>', page, re.S):
        code = html.unescape(re.sub('<[^>]*>', '', o)).strip()
        if len(code) < 12: continue  # `0.5` would take such a number out of the prose, too
        for form in (code, html.escape(code, quote=False), html.escape(code)): text = text.replace(form, ' ')
    return text

def entries(item, sections, split):
    "The entries of the search for one of Quarto's (an h2): prose alone, and if `split` an entry for each h3"
    page, _, anchor = item['href'].partition('#')
    if anchor not in sections: return [item]
    _, _, text, within = sections[anchor]
    parts = [(o, *sections[o][1:3]) for o in within]
    whole = ' '.join([text, *(f'{title} {said}' for _, title, said in parts)])
    if not split: return [{**item, 'text': squeezed(whole)}]
    made = [{**item, 'text': squeezed(text)}]
    for o, title, said in parts:
        place = dict(objectID=f'{page}#{o}', href=f'{page}#{o}')
        made.append({**item, **place, 'section': squeezed(title), 'text': squeezed(said)})
    return made

def search_index(docs):
    "Quarto's search: without code, the guides first, with an entry for each symptom and each term"
    index = docs/'search.json'
    if not index.exists(): return
    made, pages = [], {}
    for item in json.loads(index.read_text(encoding='utf-8')):
        path, _, anchor = item['href'].partition('#')
        if path not in pages:
            text = (docs/path).read_text(encoding='utf-8') if (docs/path).is_file() else ''
            pages[path] = text, Sections(text).found
        text, sections = pages[path]
        guide = Path(path).stem in GUIDES
        if guide and sections.get(anchor, [2])[0] > 2: continue  # made before: `tidy` may run twice
        if anchor: made += entries(item, sections, guide)
        else: made.append({**item, 'text': without_code(item['text'], text)})
    made.sort(key=lambda o: Path(o['href'].split('#')[0]).stem not in GUIDES)
    index.write_text(json.dumps(made, ensure_ascii=False, indent=1), encoding='utf-8')

def reachable(m):
    "A block that may have to scroll can be reached by keyboard"
    longest = max(map(len, html.unescape(re.sub('<[^>]*>', '', m[0])).splitlines()), default=0)
    fine = longest <= FITS or 'tabindex' in m[0].split('>')[0]
    return m[0] if fine else m[0].replace('<pre', '<pre tabindex="0"', 1)

def changed(path, f):
    text = path.read_text(encoding='utf-8')
    if (new := f(text)) != text: path.write_text(new, encoding='utf-8')

def tidy(docs=None):
    "The pages that Quarto made: nothing loaded from elsewhere, links to the notebooks, a search of prose"
    docs = docs or ROOT/'_proc'/os.environ.get('QUARTO_PROJECT_OUTPUT_DIR', '_docs')
    copy_notebooks(docs)
    for path in docs.rglob('*.html'):
        up = '../'*(len(path.relative_to(docs).parts) - 1)
        def named(m): return f'{m[1]}<code>{m[2]}</code> · {download(m[2], up)}</span>'
        def better(text):
            text = re.sub(NO_ADDRESS, '', re.sub(FOREIGN, '', text, flags=re.S))
            text = re.sub(r'<pre\b.*?</pre>', reachable, text, flags=re.S)
            return re.sub(r'(<span class="notebook">)<code>(.*?)</code></span>', named, text)
        changed(path, better)
    for path in docs.rglob('*.css'): changed(path, lambda text: re.sub(FONTS, '', text))  # the theme's fonts
    search_index(docs)

if __name__ == '__main__': {'prepare': prepare, 'tidy': tidy}[sys.argv[1]]()
