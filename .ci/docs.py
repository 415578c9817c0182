"""`make docs`: the site in _docs/. With Quarto where it is installed, else with MkDocs; from the same
processed notebooks, in the order of _quarto.yml"""
import html, json, logging, os, re, shutil, subprocess, sys, textwrap, warnings
from pathlib import Path
import nbformat, yaml
from latex2mathml.converter import convert
from mkdocs.commands.build import build
from mkdocs.config import load_config
from nbconvert import MarkdownExporter
from nbdev.serve import proc_nbs
from pages import GUIDES, copy_notebooks, download, notebooks, options, prepare, tidy
from tools import ENV, ROOT

CONFIG = yaml.safe_load((ROOT/'_quarto.yml').read_text(encoding='utf-8'))
SITE = CONFIG['website']
TEMPLATE = r"""{% extends 'markdown/index.md.j2' %}
{% block input %}{% if cell.metadata.fold -%}
<details markdown="1"><summary>{{ cell.metadata.summary }}</summary>
{% endif %}{% if cell.metadata.shown %}

``` { .python data-search-exclude="true" }
{{ cell.source }}
```
{% endif %}{% if cell.metadata.fold %}</details>
{% endif %}{% endblock input %}
{% block stream %}
``` { .text .output data-search-exclude="true" }
{{ output.text | strip_ansi | trim('\n') }}
```
{% endblock stream %}
{% block data_text %}
``` { .text .output data-search-exclude="true" }
{{ output.data['text/plain'] | trim('\n') }}
```
{% endblock data_text %}
{% block data_html %}
<div class="html-output" markdown="0">
{{ output.data['text/html'] | replace('\n\n', '\n') }}
</div>
{% endblock data_html %}
{% block data_png %}
{% set file = output.metadata.filenames['image/png'] | path2url -%}
[![{{ cell.metadata.alt }}]({{ file }}){ loading=lazy }]({{ file }}){ title="Open at full size" }
{% endblock data_png %}
"""
HEAD = """{% extends "base.html" %}
{% set meta = page.meta if page and page.meta else {} %}
{% block htmltitle %}<title>{{ meta.pagetitle or config.site_name }}</title>{% endblock %}
{% block extrahead %}
<meta property="og:title" content="{{ meta.pagetitle or config.site_name }}">
<meta property="og:description" content="{{ meta.description or config.site_description }}">
{% if config.site_url %}<meta property="og:image" content="{{ config.site_url.rstrip('/') }}/CARD">
<meta name="twitter:card" content="summary_large_image">{% endif %}
{% endblock %}
"""
# what _quarto.yml may say: options in Quarto's documentation (a misspelt one is ignored without a word)
KNOWN = {'': 'project format website execute',
         'project': 'type output-dir pre-render post-render preview', 'execute': 'enabled', 'format': 'html',
         'format.html': 'theme respect-user-color-scheme css grid toc code-tools code-block-bg code-fold '
                        'fig-responsive lightbox html-table-processing html-math-method',
         'website': 'title description favicon site-url repo-url repo-branch repo-subdir repo-actions '
                    'open-graph twitter-card search page-navigation navbar sidebar',
         'website.navbar': 'background logo logo-alt search right',
         'website.sidebar': 'style collapse-level contents'}

def in_order(contents):
    "The sidebar of _quarto.yml, flattened: (section or None, path of a notebook in nbs/)"
    for o in contents:
        if isinstance(o, str): yield None, o
        elif 'href' in o: yield None, o['href']
        else: yield from ((o['section'], path) for path in o['contents'])

def wrong_settings():
    "What is wrong with _quarto.yml, as far as it can be seen without Quarto"
    for where, known in KNOWN.items():
        part = CONFIG
        for k in filter(None, where.split('.')): part = part.get(k, {})
        for k in part:
            if k not in known.split(): yield f'_quarto.yml: {where} has {k!r}, which KNOWN in docs.py has not'
    listed = [path for _, path in in_order(SITE['sidebar']['contents'])]
    there = set(notebooks(ROOT/'nbs').values())
    yield from (f'_quarto.yml: the sidebar names {o}, which is not in nbs/' for o in listed if o not in there)
    yield from (f'_quarto.yml: nbs/{o} is missing from the sidebar' for o in sorted(there - {*listed}))

def wrong_pictures(cell):
    outputs = [o.get('data', {}) for o in cell.get('outputs', [])]
    figure = any('image/png' in o for o in outputs)
    if figure and not options(cell.source).get('fig-alt'): yield 'a figure without fig-alt'
    pictures = [h for o in outputs for h in re.findall(r'<img\b[^>]*>', ''.join(o.get('text/html', '')))]
    if any(not re.search(r'\balt="[^"]', o) for o in pictures): yield 'a picture without alt'

def wrong_text(cell, path, there):
    if '![](' in cell.source: yield 'a picture without words'
    for link in re.findall(r'\]\(([^():#\s]+\.ipynb)', cell.source):
        target = os.path.normpath(Path(path).parent/link)
        if target not in there: yield f'a link to {link}, which is not in nbs/,'

def wrong_notebooks():
    "What is wrong with the prepared notebooks: pictures without words, links to nowhere"
    there = set(notebooks(ROOT/'nbs').values())
    for path in sorted(there):
        for c in nbformat.read(ROOT/'_proc'/path, 4).cells:
            wrong = wrong_text(c, path, there) if c.cell_type == 'markdown' else wrong_pictures(c)
            yield from (f'{path}: {o} in {c.source[:60]!r}' for o in wrong)

def name(path): return re.sub(r'^\d+\w?_', '', Path(path).stem)  # as nbdev names pages
def key(path): return '-'.join(Path(path).with_name(name(path)).parts)

def links(text, path, pages):
    "Links to notebooks, and to the pages that they make, as links between Markdown files"
    up, here = '../'*(len(Path(path).parts) - 1), Path(path).parent
    by_page = {Path(o).with_suffix('.html').as_posix(): o for o in pages.values()}
    def local(m):
        url, anchor = os.path.normpath(here/m[1]), m[2] or ''
        if url in by_page: return f'({up}{by_page[url]}{anchor.lower()})'
        return f'({up}{pages[url]}{anchor})' if url in pages else m[0]
    text = re.sub(r'\[(`_\w+`)\]\([^)]*\)', r'\1', text)  # what is private has no entry to link to
    return re.sub(r'\(([^()\s#:]+\.(?:ipynb|html))(#[^()\s]*)?\)', local, text)

def material_box(text):
    "Quarto's callouts, as Material draws them"
    def draw(m): return '!!! tip "What to notice"\n\n' + textwrap.indent(m[1], '    ')
    return re.sub(r'^::: \{\.callout-tip [^}]*\}\n(.*?)\n:::$', draw, text, flags=re.M | re.S)

def shown_code(cell):
    "A code cell with what TEMPLATE asks for"
    said = options(cell.source)
    alt = str(said.get('fig-alt', '')).replace('[', '(').replace(']', ')')
    fold, shown = said.get('code-fold') is True, said.get('echo') is not False
    if said.get('output') is False: cell.outputs = []
    cell.source = re.sub(r'^#\|.*\n?', '', cell.source, flags=re.M).strip()
    summary = html.escape(str(said.get('code-summary', 'Code')))
    about = dict(alt=alt, fold=fold, summary=summary, shown=shown and bool(cell.source))
    cell.metadata = nbformat.from_dict(about)
    return cell

def cells_of(nb, path):
    "The cells of a prepared notebook, as MkDocs' Markdown"
    up, taken = '../'*(len(Path(path).parts) - 1), set()
    def anchor(m):  # the name in lower case; the second of two that differ in case gets a number from MkDocs
        if (nm := m[2].lower()) in taken: return m[0]
        taken.add(nm)
        return f'{m[0]} {{ #{nm} }}'
    def notebook(m): return f'<span class="notebook"><code>{m[1]}</code> · {download(m[1], up)}</span>'
    for c in nb.cells[1:]:
        if c.cell_type == 'markdown':
            if 'AUTOGENERATED' in c.source: continue
            text = material_box(c.source).replace('<details>', '<details markdown="1">')  # folded answers
            c.source = re.sub(r'\[`([^`]+)`\]\{\.notebook\}', notebook, text)
            yield c
        elif options(c.source).get('output') == 'asis':  # what show_doc wrote
            text = c.outputs[0].data['text/markdown']
            yield nbformat.v4.new_markdown_cell(re.sub(r'^(#+) (\S+)$', anchor, text, flags=re.M))
        else: yield shown_code(c)

def page(path, pages):
    "A prepared notebook as Markdown, its title, and its figures"
    nb = nbformat.read(ROOT/'_proc'/path, 4)
    front = yaml.safe_load(nb.cells[0].source.strip().strip('-'))
    head = nbformat.v4.new_markdown_cell(f"# {front['title']}\n\n*{front['description']}*")
    nb.cells = [head, *cells_of(nb, path)]
    for c in nb.cells[1:]:
        c.source = links(c.source, path, pages)
        for data in (o.data for o in c.get('outputs', []) if 'text/markdown' in o.get('data', {})):
            data['text/markdown'] = links(''.join(data['text/markdown']), path, pages)
    figures = {'unique_key': key(path), 'output_files_dir': f'figures/{key(path)}'}
    text, res = MarkdownExporter(raw_template=TEMPLATE).from_notebook_node(nb, figures)
    meta = dict(description=front['description'], pagetitle=front['pagetitle'])
    if Path(path).stem in GUIDES: meta['search'] = {'boost': 3}
    return f'---\n{json.dumps(meta)}\n---\n{text}', front['title'], res['outputs']

def mathml(docs):
    "Formulas as MathML, which browsers draw by themselves"
    def drawn(m): return convert(html.unescape(m[2]), display='inline' if m[1] == 'span' else 'block')
    for path in docs.rglob('*.html'):
        text = path.read_text(encoding='utf-8')
        formula = r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>'
        new = re.sub(formula, drawn, text, flags=re.S)
        if new != text: path.write_text(new, encoding='utf-8')

def write_pages(docs):
    "The pages as Markdown below `docs`; returns MkDocs' `nav`"
    order = list(in_order(SITE['sidebar']['contents']))
    pages, nav = {path: str(Path(path).with_name(f'{name(path)}.md')) for _, path in order}, []
    for section, path in order:
        text, title, figures = page(path, pages)
        dest = docs/pages[path]
        dest.parent.mkdir(parents=True, exist_ok=True)
        dest.write_text(text, encoding='utf-8')
        for nm, data in figures.items():
            (dest.parent/nm).parent.mkdir(parents=True, exist_ok=True)
            (dest.parent/nm).write_bytes(data)
        if section and (not nav or section not in nav[-1]): nav.append({section: []})
        (nav[-1][section] if section else nav).append({title: pages[path]})
    return nav

def scheme(mode, nm, icon, other):
    toggle = dict(icon=f'material/weather-{icon}', name=f'Switch to {other} mode')
    return dict(media=f'(prefers-color-scheme: {mode})', scheme=nm, primary='indigo', toggle=toggle)

FEATURES = ['navigation.sections', 'navigation.footer', 'navigation.top', 'toc.follow', 'search.suggest',
            'search.highlight', 'content.code.copy']
EXTENSIONS = ['admonition', 'attr_list', 'md_in_html', 'tables', 'sane_lists', {'toc': dict(permalink=True)},
              {'pymdownx.arithmatex': dict(generic=True)}, 'pymdownx.superfences',
              {'pymdownx.highlight': dict(use_pygments=True)}]
LINKS = dict(anchors='warn', absolute_links='warn', unrecognized_links='warn')

def mkdocs_config(src, nav):
    palette = [scheme('light', 'default', 'night', 'dark'), scheme('dark', 'slate', 'sunny', 'light')]
    theme = dict(name='material', custom_dir=str(src/'head'), font=False, features=FEATURES, palette=palette,
                 logo='images/logo.svg', favicon='images/logo.svg', icon=dict(repo='fontawesome/brands/github'))
    config = dict(site_name=SITE['title'], site_description=SITE['description'], docs_dir=str(src/'docs'),
                  site_dir=str(ROOT/'_docs'), use_directory_urls=False, theme=theme, nav=nav,
                  plugins=['search'], extra_css=['site.css'], markdown_extensions=EXTENSIONS, strict=True,
                  validation=dict(links=LINKS, nav=dict(omitted_files='warn')))
    if SITE.get('repo-url'):
        config.update(repo_url=SITE['repo-url'], repo_name=SITE['title'], edit_uri='')
        if SITE.get('site-url'): config['site_url'] = SITE['site-url']
    return config

def with_mkdocs():
    src = ROOT/'_proc/mkdocs'
    shutil.rmtree(src, ignore_errors=True)
    nav = write_pages(src/'docs')
    shutil.copytree(ROOT/'nbs/images', src/'docs/images')
    shutil.copy(ROOT/'nbs/site.css', src/'docs')
    copy_notebooks(src/'docs')
    (src/'head').mkdir()
    (src/'head/main.html').write_text(HEAD.replace('CARD', SITE['open-graph']['image']), encoding='utf-8')
    (src/'mkdocs.yml').write_text(yaml.safe_dump(mkdocs_config(src, nav), sort_keys=False), encoding='utf-8')
    logging.basicConfig(level='WARNING', format='%(message)s')
    build(load_config(str(src/'mkdocs.yml')))
    mathml(ROOT/'_docs')

def with_quarto():
    env = {**ENV, 'QUARTO_PYTHON': sys.executable}
    subprocess.run(['quarto', 'render', '--no-cache'], cwd=ROOT/'_proc', env=env, check=True)
    shutil.rmtree(ROOT/'_docs', ignore_errors=True)
    shutil.move(ROOT/'_proc/_docs', ROOT/'_docs')
    tidy(ROOT/'_docs')  # what its post-render step did already changes nothing

def make():
    os.chdir(ROOT)
    if bad := list(wrong_settings()): sys.exit('\n'.join(bad))
    shutil.rmtree('_proc', ignore_errors=True)
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'Found cells containing imports')  # house.py looks at them
        proc_nbs('nbs', n_workers=0, force=True)
    prepare()
    if bad := list(wrong_notebooks()): sys.exit('\n'.join(bad))
    quarto = shutil.which('quarto')
    with_quarto() if quarto else with_mkdocs()
    how = 'Quarto' if quarto else 'MkDocs (Quarto is not installed)'
    print(f'_docs/index.html, by {how}; to look at it: {Path(sys.executable).name} -m http.server -d _docs')

if __name__ == '__main__': make()
