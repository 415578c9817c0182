"""`make host URL=https://host/owner/repo`: where the repository is hosted, written into all that says so.
With no URL: nowhere, and nothing says so. Colab and a site at OWNER.github.io are offered for github.com
alone: other hosts have neither."""
import json, re, sys
from pathlib import Path
from urllib.parse import urlsplit
from pages import notebooks, source

ROOT = Path(__file__).resolve().parent.parent
LIB = 'miniai'
INSTALL, BADGE = 'colab-install', 'colab-badge'  # the ids of the two cells that a hosted notebook has more

def parts(url):
    "The places of a hosted repository: its address, owner, name, and on github.com its site"
    if not url:
        return dict(url='', owner='', repo='', host='', base='')
    where = urlsplit(url)
    found = re.fullmatch(r'/([\w.-]+)/([\w.-]+?)(?:\.git)?/?', where.path)
    if where.scheme != 'https' or not found:
        sys.exit(f'URL={url}: an address like https://host/owner/repo')
    owner, repo = found.groups()
    places = dict(url=f'https://{where.netloc}/{owner}/{repo}', owner=owner, repo=repo)
    if where.netloc != 'github.com':
        return {**places, 'host': '', 'base': ''}
    return {**places, 'host': f'https://{owner}.github.io', 'base': f'/{repo}'}

def settings(text, p):
    values = dict(user=p['owner'], doc_host=p['host'], doc_baseurl=p['base'], git_url=p['url'])
    for key, value in values.items():
        text = re.sub(rf'^{key} =.*$', f'{key} = {value}'.strip(), text, flags=re.M)
    return text

OPTIONS = r'^  (?:site-url|repo-url|repo-branch|repo-subdir|repo-actions):.*\n'
ICON = r'^    right:\n      - icon:.*\n        href:.*\n        aria-label:.*\n'

def quarto(text, p):
    "The site's options with the address, or without"
    for lines in OPTIONS, ICON: text = re.sub(lines, '', text, flags=re.M)
    if not p['url']: return text
    lines = [f"  site-url: {p['host']}{p['base']}"] if p['host'] else []
    lines += [f"  repo-url: {p['url']}", '  repo-branch: main', '  repo-subdir: nbs']
    lines += ['  repo-actions: [edit, issue]', '  favicon:']
    text = re.sub(r'^  favicon:', '\n'.join(lines), text, flags=re.M)
    icon = f"      - icon: {'github' if p['host'] else 'git'}\n        href: {p['url']}\n"
    icon = f'    right:\n{icon}        aria-label: the repository\n'
    def more(m): return m[0] + icon
    return re.sub(r'^    search: true\n', more, text, count=1, flags=re.M)

def with_source(cell, text):
    return cell if text == source(cell) else {**cell, 'source': text.splitlines(True)}

def is_install(cell):
    return all(o in source(cell) for o in ('google.colab', '%pip install', 'git+'))

def unhosted(cell):
    "A cell of a notebook that is hosted nowhere; None for one that a hosted notebook alone has"
    if cell['cell_type'] == 'code': return None if is_install(cell) else cell
    if cell['cell_type'] != 'markdown': return cell
    text = re.sub(r'\A\[!\[Open in Colab\]\([^)]*\)\]\([^)]*\)\n*', '', source(cell))
    text = re.sub(r'^git clone \S+ && cd \S+\n', '', text, flags=re.M)
    return None if source(cell).strip() and not text.strip() else with_source(cell, text)

def with_clone(cells, p):
    "The first thing that the index tells a shell: to clone the repository"
    def cloned(m): return f"{m[0]}git clone {p['url']} && cd {p['repo']}\n"
    for i, c in enumerate(cells):
        new = re.sub(r'^```(?:sh|bash)\n', cloned, source(c), count=1, flags=re.M)
        if c['cell_type'] == 'markdown' and new != source(c):
            return [*cells[:i], with_source(c, new), *cells[i + 1:]]
    return cells

def colab_cells(path, p):
    "The cells that Colab needs, and the badge that leads there"
    rel = path.relative_to(ROOT).as_posix()
    up = '../'*(rel.count('/') - 1)
    colab = f"https://colab.research.google.com/github/{p['owner']}/{p['repo']}/blob/main/{rel}"
    install = ['#| hide\n', "if 'google.colab' in str(get_ipython()):\n",
               f"    %pip install -q '{LIB}[nbs] @ git+{p['url']}'"]
    badge = [f'[![Open in Colab]({up}images/colab.svg)]({colab})']
    code = dict(cell_type='code', execution_count=None, id=INSTALL, metadata={}, outputs=[], source=install)
    return [code, dict(cell_type='markdown', id=BADGE, metadata={}, source=badge)]

def notebook(text, path, p):
    "A notebook with the cells for Colab, and the index with a line that clones, or without"
    nb = json.loads(text)
    cells = [o for o in map(unhosted, nb['cells']) if o]
    if p['url'] and path.name == 'index.ipynb':
        cells = with_clone(cells, p)
    if p['host'] and any(c['cell_type'] == 'code' for c in cells):
        cells[1:1] = colab_cells(path, p)
    if cells == nb['cells']: return text
    return json.dumps({**nb, 'cells': cells}, ensure_ascii=False, indent=1) + '\n'

def files():
    nbs = ROOT/'nbs'
    return [ROOT/'settings.ini', ROOT/'_quarto.yml', *(nbs/o for o in notebooks(nbs).values())]

def hosted(texts, url):
    "What the files of a repository, {path: text}, say when it is hosted at `url`"
    p, made = parts(url), {}
    for path, text in texts.items():
        if path.name == 'settings.ini': made[path] = settings(text, p)
        elif path.name == '_quarto.yml': made[path] = quarto(text, p)
        else: made[path] = notebook(text, path, p)
    return made

def address():
    "Where settings.ini says that the repository is hosted"
    return re.search(r'^git_url =(.*)$', (ROOT/'settings.ini').read_text(encoding='utf-8'), re.M)[1].strip()

def main(url=''):
    texts = {o: o.read_text(encoding='utf-8') for o in files()}
    new = hosted(texts, url)
    changed = [o for o in texts if new[o] != texts[o]]
    for o in changed:
        o.write_text(new[o], encoding='utf-8')
    print(f"{len(changed)} files changed: hosted {'at ' + address() if address() else 'nowhere'}")

if __name__ == '__main__': main(*sys.argv[1:2])
