"""`make docs`: the site in _docs/. With Quarto where it is installed, else with MkDocs, from the same processed notebooks and in the order of _quarto.yml"""
import logging, os, re, shutil, subprocess, sys, textwrap
from pathlib import Path
import nbformat, yaml
from mkdocs.commands.build import build
from mkdocs.config import load_config
from nbconvert import MarkdownExporter
from nbdev.config import get_config
from nbdev.serve import proc_nbs
from tools import ROOT

SITE = yaml.safe_load((ROOT/'_quarto.yml').read_text())['website']
TEMPLATE = r"""{% extends 'markdown/index.md.j2' %}
{% block input %}{% if cell.metadata.fold %}<details markdown="1"><summary>Code</summary>
{% endif %}{% if cell.metadata.shown %}

```python
{{ cell.source }}
```
{% endif %}{% if cell.metadata.fold %}</details>
{% endif %}{% endblock input %}
{% block stream %}
``` { .text .output }
{{ output.text | strip_ansi | trim('\n') }}
```
{% endblock stream %}
{% block data_text %}
``` { .text .output }
{{ output.data['text/plain'] | trim('\n') }}
```
{% endblock data_text %}
{% block data_html %}
<div class="html-output" markdown="0">
{{ output.data['text/html'] | replace('\n\n', '\n') }}
</div>
{% endblock data_html %}
{% block data_png %}
![{{ cell.metadata.alt }}]({{ output.metadata.filenames['image/png'] | path2url }}){ loading=lazy }
{% endblock data_png %}
"""
CSS = """.md-typeset .output code { background: transparent; border-left: .15rem solid var(--md-default-fg-color--lightest) }
.md-typeset .html-output { overflow-x: auto; font-size: .7rem }
.md-typeset .html-output img { max-width: none; width: 250px }
.md-typeset .html-output table:not([class]) :is(td, th) { min-width: 0; padding: .5em .7em }
.md-typeset table:not([class]) td:first-child code { white-space: nowrap }
.md-typeset details > summary { cursor: pointer }
@media (max-width: 600px) {  /* findings: a part below the other */
  .md-typeset .html-output table:has(td img) :is(tbody, tr, td) { display: block; border: 0 }
  .md-typeset .html-output table:has(td img) tr { padding: .6em 0; border-bottom: 1px solid var(--md-default-fg-color--lightest) }
  .md-typeset .html-output table:has(td img) :is(tr:first-child, th) { display: none }
  .md-typeset .html-output table:has(td img) td { padding: .2em .7em }
  .md-typeset .html-output table:has(td img) td:nth-child(2)::before { content: "Seen: " }
  .md-typeset .html-output table:has(td img) td:nth-child(3)::before { content: "Cause: " }
  .md-typeset .html-output table:has(td img) td:nth-child(4)::before { content: "Try: " }
}
.md-typeset p > img { background: #fff }
.md-typeset pre > code { font-size: .68rem }
@media (min-width: 76.25em) { .md-grid { max-width: 68rem } .md-nav--primary > .md-nav__title { display: none } }
"""
HEAD = """{%% extends "base.html" %%}
{%% block extrahead %%}
<meta property="og:title" content="{{ page.title }} · miniai"><meta property="og:description" content="{{ config.site_description }}">
<meta property="og:image" content="%s"><meta name="twitter:card" content="summary_large_image">
{%% endblock %%}
"""

def directive(cell, name):
    found = re.search(rf'^#\| *{name}: *(.*)$', cell.source, re.M)
    return found and found[1].strip()

def in_order(contents):
    "The sidebar of _quarto.yml, flattened: (section or None, path of a notebook in nbs/)"
    for o in contents:
        if isinstance(o, str): yield None, o
        elif 'href' in o: yield None, o['href']
        else: yield from ((o['section'], path) for path in o['contents'])

def name(path): return re.sub(r'^\d+\w?_', '', Path(path).stem)  # as nbdev names pages

def links(text, path, pages):
    "Links to notebooks and to the pages that they make, as links between Markdown files"
    up, here = '../'*(len(Path(path).parts) - 1), Path(path).parent
    by_url = {f'{get_config().doc_host}{get_config().doc_baseurl}/{Path(o).with_suffix(".html").as_posix()}': o for o in pages.values()}
    def local(m):
        url, anchor = m[1], m[2] or ''
        if url in by_url: return f'({up}{by_url[url]}{anchor.lower()})'  # written by nbdev for a name in back-quotes
        nb = os.path.normpath(here/url)
        return f'({up}{pages[nb]}{anchor})' if nb in pages else m[0]
    text = re.sub(r'\[(`_\w+`)\]\([^)]*\)', r'\1', text)  # what is private has no entry to link to
    return re.sub(r'\(([^()\s#]+\.(?:ipynb|html))(#[^()\s]*)?\)', local, text)

def plain_code(text):
    "No links within a block of code, where they would show as they are written"
    return re.sub(r'^```.*?^```', lambda m: re.sub(r'\[(`[^`]+`)\]\([^)]*\)', r'\1', m[0]), text, flags=re.M | re.S)

def callouts(text, box):
    "Quotes that begin with **What to notice.**, as `box` draws them; where nothing draws them they are quotes"
    def draw(m): return box(re.sub('^> ', '', m[1], flags=re.M).strip()) + '\n'
    return re.sub(r'^> \*\*What to notice\.\*\* ((?:.*\n?)(?:^> .*\n?)*)', draw, text, flags=re.M)
def material_box(text): return '!!! tip "What to notice"\n\n' + textwrap.indent(text, '    ')
def quarto_box(text): return f'::: {{.callout-tip title="What to notice"}}\n{text}\n:::'

def page(path, pages):
    "A processed notebook as Markdown, its title, and its figures"
    nb = nbformat.read(ROOT/'_proc'/path, 4)
    front = yaml.safe_load(nb.cells[0].source.strip().strip('-'))
    cells, taken = [nbformat.v4.new_markdown_cell(f"# {front['title']}\n\n*{front['description']}*")], set()
    def anchor(m):  # the name in lower case; of two that differ in nothing else, the second gets a number from MkDocs
        if (nm := m[2].lower()) in taken: return m[0]
        taken.add(nm)
        return f'{m[0]} {{ #{nm} }}'
    for c in nb.cells[1:]:
        if c.cell_type == 'markdown':
            if 'AUTOGENERATED' in c.source: continue
            c.source = callouts(c.source, material_box)
        elif directive(c, 'output') == 'asis':  # what show_doc wrote
            text = plain_code(c.outputs[0].data['text/markdown'])
            c = nbformat.v4.new_markdown_cell(re.sub(r'^(#+) (\S+)$', anchor, text, flags=re.M))
        else:
            c.metadata = nbformat.from_dict(dict(alt=directive(c, 'fig-alt') or '', fold=directive(c, 'code-fold') == 'true',
                                                 shown=directive(c, 'echo') != 'false'))
            if directive(c, 'output') == 'false': c.outputs = []
            c.source = re.sub(r'^#\|.*\n?', '', c.source, flags=re.M).strip()
            c.metadata.shown &= bool(c.source)
            c.outputs = [o for o in c.outputs if 'application/vnd.jupyter.widget-view+json' not in o.get('data', {})]
            for o in c.outputs:  # a figure needs no `<Figure size 432x230 with 1 Axes>` beside it
                if 'image/png' in o.get('data', {}): o.data.pop('text/plain', None)
        c.source = links(c.source, path, pages)
        cells.append(c)
    nb.cells = cells
    text, res = MarkdownExporter(raw_template=TEMPLATE).from_notebook_node(nb, {'unique_key': name(path), 'output_files_dir': f'figures/{name(path)}'})
    return text, front['title'], res['outputs']

def with_mkdocs():
    src = ROOT/'_proc/mkdocs'
    shutil.rmtree(src, ignore_errors=True)
    order = list(in_order(SITE['sidebar']['contents']))
    pages, nav = {path: str(Path(path).with_name(f'{name(path)}.md')) for _, path in order}, []
    for section, path in order:
        text, title, figures = page(path, pages)
        dest = src/'docs'/pages[path]
        dest.parent.mkdir(parents=True, exist_ok=True)
        dest.write_text(text)
        for nm, data in figures.items():
            (dest.parent/nm).parent.mkdir(parents=True, exist_ok=True)
            (dest.parent/nm).write_bytes(data)
        if section and (not nav or section not in nav[-1]): nav.append({section: []})
        (nav[-1][section] if section else nav).append({title: pages[path]})
    shutil.copytree(ROOT/'nbs/images', src/'docs/images')
    (src/'docs/extra.css').write_text(CSS)
    (src/'head').mkdir()
    (src/'head/main.html').write_text(HEAD%f"{SITE['site-url']}/{SITE['open-graph']['image']}")
    def scheme(mode, nm, icon, other):
        return dict(media=f'(prefers-color-scheme: {mode})', scheme=nm, primary='indigo', toggle=dict(icon=f'material/weather-{icon}', name=f'Switch to {other} mode'))
    theme = dict(name='material', custom_dir=str(src/'head'), font=False, logo='images/logo.svg', favicon='images/logo.svg', icon=dict(repo='fontawesome/brands/github'),
                 palette=[scheme('light', 'default', 'night', 'dark'), scheme('dark', 'slate', 'sunny', 'light')],
                 features=['navigation.sections', 'navigation.footer', 'navigation.top', 'toc.follow', 'search.suggest', 'search.highlight', 'content.code.copy'])
    config = dict(site_name=SITE['title'], site_description=SITE['description'], site_url=SITE['site-url'], repo_url=SITE['repo-url'], repo_name='miniai', edit_uri='',
                  docs_dir=str(src/'docs'), site_dir=str(ROOT/'_docs'), use_directory_urls=False, theme=theme, nav=nav, plugins=['search'], extra_css=['extra.css'],
                  extra_javascript=['https://cdn.jsdelivr.net/npm/mathjax@3/es5/tex-mml-chtml.js'],
                  markdown_extensions=['admonition', 'attr_list', 'md_in_html', 'tables', 'sane_lists', {'toc': dict(permalink=True)}, {'pymdownx.arithmatex': dict(generic=True)}, 'pymdownx.superfences',
                                       {'pymdownx.highlight': dict(use_pygments=True)}],
                  validation=dict(links=dict(anchors='warn', absolute_links='warn', unrecognized_links='warn'), nav=dict(omitted_files='warn')), strict=True)
    (src/'mkdocs.yml').write_text(yaml.safe_dump(config, sort_keys=False))
    logging.basicConfig(level='WARNING', format='%(message)s')
    build(load_config(str(src/'mkdocs.yml')))

def with_quarto():
    for path in (ROOT/'_proc').rglob('*.ipynb'):
        nb = nbformat.read(path, 4)
        for c in nb.cells:
            if c.cell_type == 'markdown': c.source = callouts(c.source, quarto_box)
            for o in c.get('outputs', []):
                if 'text/markdown' in o.get('data', {}): o.data['text/markdown'] = plain_code(o.data['text/markdown'])
        nbformat.write(nb, path)
    subprocess.run(['quarto', 'render', '--no-cache'], cwd=ROOT/'_proc', check=True)
    shutil.rmtree(ROOT/'_docs', ignore_errors=True)
    shutil.move(ROOT/'_proc/_docs', ROOT/'_docs')

if __name__ == '__main__':
    os.chdir(ROOT)
    shutil.rmtree('_proc', ignore_errors=True)
    proc_nbs('nbs', n_workers=1, force=True)
    quarto = shutil.which('quarto')
    with_quarto() if quarto else with_mkdocs()
    print(f"_docs/index.html, by {'Quarto' if quarto else 'MkDocs (Quarto is not installed)'}; to look at it: {Path(sys.executable).name} -m http.server -d _docs")
