"""`make docs`: the site in _docs/. With Quarto where it is installed, else with MkDocs, from the same processed notebooks and in the order of _quarto.yml"""
import html, json, logging, os, re, shutil, subprocess, sys, textwrap
from pathlib import Path
import nbformat, yaml
from latex2mathml.converter import convert
from mkdocs.commands.build import build
from mkdocs.config import load_config
from nbconvert import MarkdownExporter
from nbdev.serve import proc_nbs
from pages import GUIDES, copy_notebooks, directive, download, notebooks, prepare, tidy
from tools import ENV, ROOT

CONFIG = yaml.safe_load((ROOT/'_quarto.yml').read_text(encoding='utf-8'))
SITE = CONFIG['website']
TEMPLATE = r"""{% extends 'markdown/index.md.j2' %}
{% block input %}{% if cell.metadata.fold %}<details markdown="1"><summary>Code</summary>
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
{% set file = output.metadata.filenames['image/png'] | path2url %}[![{{ cell.metadata.alt }}]({{ file }}){ loading=lazy }]({{ file }}){ title="Open at full size" }
{% endblock data_png %}
"""
HEAD = """{% extends "base.html" %}
{% set meta = page.meta if page and page.meta else {} %}
{% block htmltitle %}<title>{{ meta.pagetitle or config.site_name }}</title>{% endblock %}
{% block extrahead %}
<meta property="og:title" content="{{ meta.pagetitle or config.site_name }}"><meta property="og:description" content="{{ meta.description or config.site_description }}">
{% if config.site_url %}<meta property="og:image" content="{{ config.site_url.rstrip('/') }}/CARD"><meta name="twitter:card" content="summary_large_image">{% endif %}
{% endblock %}
"""
# what _quarto.yml may say: options that Quarto's documentation knows (a misspelt one would be ignored without a word)
KNOWN = {'': 'project format website execute', 'project': 'type output-dir pre-render post-render preview', 'execute': 'enabled', 'format': 'html',
         'format.html': 'theme respect-user-color-scheme css grid toc code-tools code-block-bg code-fold fig-responsive lightbox html-table-processing html-math-method',
         'website': 'title description favicon site-url repo-url repo-branch repo-subdir repo-actions open-graph twitter-card search page-navigation navbar sidebar',
         'website.navbar': 'background logo logo-alt search right', 'website.sidebar': 'style contents'}

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
        yield from (f'_quarto.yml: {where} has {k!r}, which is not an option that Quarto documents (or this check knows)' for k in part if k not in known.split())
    listed, there = [path for _, path in in_order(SITE['sidebar']['contents'])], set(notebooks(ROOT/'nbs').values())
    yield from (f'_quarto.yml: the sidebar names {o}, which is not in nbs/' for o in listed if o not in there)
    yield from (f'_quarto.yml: nbs/{o} is missing from the sidebar' for o in sorted(there - {*listed}))

def wrong_notebooks():
    "What is wrong with the prepared notebooks: pictures without words, links to nowhere"
    there = set(notebooks(ROOT/'nbs').values())
    for path in sorted(there):
        nb = nbformat.read(ROOT/'_proc'/path, 4)
        for c in nb.cells:
            pictures = [h for o in c.get('outputs', []) for h in re.findall(r'<img\b[^>]*>', ''.join(o.get('data', {}).get('text/html', '')))]
            if any('image/png' in o.get('data', {}) for o in c.get('outputs', [])) and not directive(c.source, 'fig-alt'): yield f'{path}: a figure without fig-alt: {c.source[:60]!r}'
            if any(not re.search(r'\balt="[^"]', o) for o in pictures): yield f'{path}: a picture without alt in {c.source[:60]!r}'
            if c.cell_type == 'markdown':
                if '![](' in c.source: yield f'{path}: a picture without words in {c.source[:60]!r}'
                for link in re.findall(r'\]\(([^():#\s]+\.ipynb)', c.source):
                    if os.path.normpath(Path(path).parent/link) not in there: yield f'{path}: links to {link}, which is not in nbs/'

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

def page(path, pages):
    "A prepared notebook as Markdown, its title, and its figures"
    nb = nbformat.read(ROOT/'_proc'/path, 4)
    front, up = yaml.safe_load(nb.cells[0].source.strip().strip('-')), '../'*(len(Path(path).parts) - 1)
    cells, taken = [nbformat.v4.new_markdown_cell(f"# {front['title']}\n\n*{front['description']}*")], set()
    def anchor(m):  # the name in lower case; of two that differ in nothing else, the second gets a number from MkDocs
        if (nm := m[2].lower()) in taken: return m[0]
        taken.add(nm)
        return f'{m[0]} {{ #{nm} }}'
    for c in nb.cells[1:]:
        if c.cell_type == 'markdown':
            if 'AUTOGENERATED' in c.source: continue
            c.source = re.sub(r'\[`([^`]+)`\]\{\.notebook\}', lambda m: f'<span class="notebook"><code>{m[1]}</code> · {download(m[1], up)}</span>', material_box(c.source))
        elif directive(c.source, 'output') == 'asis':  # what show_doc wrote
            c = nbformat.v4.new_markdown_cell(re.sub(r'^(#+) (\S+)$', anchor, c.outputs[0].data['text/markdown'], flags=re.M))
        else:
            alt = (directive(c.source, 'fig-alt') or '').strip('"').replace('[', '(').replace(']', ')')
            c.metadata = nbformat.from_dict(dict(alt=alt, fold=directive(c.source, 'code-fold') == 'true', shown=directive(c.source, 'echo') != 'false'))
            if directive(c.source, 'output') == 'false': c.outputs = []
            c.source = re.sub(r'^#\|.*\n?', '', c.source, flags=re.M).strip()
            c.metadata.shown &= bool(c.source)
        c.source = links(c.source, path, pages)
        cells.append(c)
    nb.cells = cells
    text, res = MarkdownExporter(raw_template=TEMPLATE).from_notebook_node(nb, {'unique_key': key(path), 'output_files_dir': f'figures/{key(path)}'})
    meta = dict(description=front['description'], pagetitle=front['pagetitle'], **({'search': {'boost': 3}} if Path(path).stem in GUIDES else {}))
    return f'---\n{json.dumps(meta)}\n---\n{text}', front['title'], res['outputs']

def mathml(docs):
    "Formulas as MathML, which browsers draw by themselves"
    for path in docs.rglob('*.html'):
        text = path.read_text(encoding='utf-8')
        new = re.sub(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', lambda m: convert(html.unescape(m[2]), display='inline' if m[1] == 'span' else 'block'), text, flags=re.S)
        if new != text: path.write_text(new, encoding='utf-8')

def with_mkdocs():
    src = ROOT/'_proc/mkdocs'
    shutil.rmtree(src, ignore_errors=True)
    order = list(in_order(SITE['sidebar']['contents']))
    pages, nav = {path: str(Path(path).with_name(f'{name(path)}.md')) for _, path in order}, []
    for section, path in order:
        text, title, figures = page(path, pages)
        dest = src/'docs'/pages[path]
        dest.parent.mkdir(parents=True, exist_ok=True)
        dest.write_text(text, encoding='utf-8')
        for nm, data in figures.items():
            (dest.parent/nm).parent.mkdir(parents=True, exist_ok=True)
            (dest.parent/nm).write_bytes(data)
        if section and (not nav or section not in nav[-1]): nav.append({section: []})
        (nav[-1][section] if section else nav).append({title: pages[path]})
    shutil.copytree(ROOT/'nbs/images', src/'docs/images')
    shutil.copy(ROOT/'nbs/site.css', src/'docs')
    copy_notebooks(src/'docs')
    (src/'head').mkdir()
    (src/'head/main.html').write_text(HEAD.replace('CARD', SITE['open-graph']['image']), encoding='utf-8')
    def scheme(mode, nm, icon, other):
        return dict(media=f'(prefers-color-scheme: {mode})', scheme=nm, primary='indigo', toggle=dict(icon=f'material/weather-{icon}', name=f'Switch to {other} mode'))
    theme = dict(name='material', custom_dir=str(src/'head'), font=False, logo='images/logo.svg', favicon='images/logo.svg', icon=dict(repo='fontawesome/brands/github'),
                 palette=[scheme('light', 'default', 'night', 'dark'), scheme('dark', 'slate', 'sunny', 'light')],
                 features=['navigation.sections', 'navigation.footer', 'navigation.top', 'toc.follow', 'search.suggest', 'search.highlight', 'content.code.copy'])
    hosted = dict(site_url=SITE.get('site-url', ''), repo_url=SITE.get('repo-url', ''), repo_name=SITE['title'], edit_uri='')
    config = dict(site_name=SITE['title'], site_description=SITE['description'], **{k: v for k, v in hosted.items() if SITE.get('repo-url') and (v or k == 'edit_uri')},
                  docs_dir=str(src/'docs'), site_dir=str(ROOT/'_docs'), use_directory_urls=False, theme=theme, nav=nav, plugins=['search'], extra_css=['site.css'],
                  markdown_extensions=['admonition', 'attr_list', 'md_in_html', 'tables', 'sane_lists', {'toc': dict(permalink=True)}, {'pymdownx.arithmatex': dict(generic=True)}, 'pymdownx.superfences',
                                       {'pymdownx.highlight': dict(use_pygments=True)}],
                  validation=dict(links=dict(anchors='warn', absolute_links='warn', unrecognized_links='warn'), nav=dict(omitted_files='warn')), strict=True)
    (src/'mkdocs.yml').write_text(yaml.safe_dump(config, sort_keys=False), encoding='utf-8')
    logging.basicConfig(level='WARNING', format='%(message)s')
    build(load_config(str(src/'mkdocs.yml')))
    mathml(ROOT/'_docs')

def with_quarto():
    env = {**ENV, 'QUARTO_PYTHON': sys.executable}
    subprocess.run(['quarto', 'render', '--no-cache'], cwd=ROOT/'_proc', env=env, check=True)
    shutil.rmtree(ROOT/'_docs', ignore_errors=True)
    shutil.move(ROOT/'_proc/_docs', ROOT/'_docs')
    tidy(ROOT/'_docs')  # what its post-render step did already changes nothing

if __name__ == '__main__':
    os.chdir(ROOT)
    if bad := list(wrong_settings()): sys.exit('\n'.join(bad))
    shutil.rmtree('_proc', ignore_errors=True)
    proc_nbs('nbs', n_workers=1, force=True)
    prepare()
    if bad := list(wrong_notebooks()): sys.exit('\n'.join(bad))
    quarto = shutil.which('quarto')
    with_quarto() if quarto else with_mkdocs()
    print(f"_docs/index.html, by {'Quarto' if quarto else 'MkDocs (Quarto is not installed)'}; to look at it: {Path(sys.executable).name} -m http.server -d _docs")
