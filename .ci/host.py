"""`make host URL=https://host/owner/repo`: where the repository is hosted, written into everything that says so. With no URL: nowhere, and nothing says so.
Colab and a site at OWNER.github.io are offered for github.com alone: other hosts have neither."""
import json, re, sys
from pathlib import Path
from urllib.parse import urlsplit
from pages import notebooks

ROOT = Path(__file__).resolve().parent.parent
LIB, INSTALL, BADGE = 'miniai', 'colab-install', 'colab-badge'  # the two cells that a hosted notebook has more, by their ids

def parts(url):
    "The places of a hosted repository: its address, owner, name, and on github.com its site"
    if not url: return dict(url='', owner='', repo='', host='', base='')
    found = re.fullmatch(r'/([\w.-]+)/([\w.-]+?)(?:\.git)?/?', urlsplit(url).path)
    if urlsplit(url).scheme != 'https' or not found: sys.exit(f'URL={url}: an address like https://host/owner/repo')
    owner, repo = found.groups()
    github = urlsplit(url).netloc == 'github.com'
    return dict(url=f'https://{urlsplit(url).netloc}/{owner}/{repo}', owner=owner, repo=repo, host=f'https://{owner}.github.io' if github else '', base=f'/{repo}' if github else '')

def settings(text, p):
    for key, value in dict(user=p['owner'], doc_host=p['host'], doc_baseurl=p['base'], git_url=p['url']).items():
        text = re.sub(rf'^{key} =.*$', f'{key} = {value}'.strip(), text, flags=re.M)
    return text

def quarto(text, p):
    text = re.sub(r'^  (?:site-url|repo-url|repo-branch|repo-subdir|repo-actions):.*\n', '', text, flags=re.M)
    text = re.sub(r'^    right:\n      - icon:.*\n        href:.*\n        aria-label:.*\n', '', text, flags=re.M)
    if not p['url']: return text
    site = f"  site-url: {p['host']}{p['base']}\n" if p['host'] else ''
    text = re.sub(r'^  favicon:', f"{site}  repo-url: {p['url']}\n  repo-branch: main\n  repo-subdir: nbs\n  repo-actions: [edit, issue]\n  favicon:", text, flags=re.M)
    icon = f"    right:\n      - icon: {'github' if p['host'] else 'git'}\n        href: {p['url']}\n        aria-label: the repository\n"
    return re.sub(r'^    search: true\n', lambda m: m[0] + icon, text, count=1, flags=re.M)

def notebook(text, path, p):
    "A notebook with the cells for Colab, and the index with a line that clones, or without"
    nb = json.loads(text)
    cells = []
    for c in nb['cells']:
        src = ''.join(c['source'])
        if c['cell_type'] == 'code' and 'google.colab' in src and '%pip install' in src and 'git+' in src: continue
        if c['cell_type'] == 'markdown':
            new = re.sub(r'\A\[!\[Open in Colab\]\([^)]*\)\]\([^)]*\)\n*', '', src)
            new = re.sub(r'^git clone \S+ && cd \S+\n', '', new, flags=re.M)
            if src.strip() and not new.strip(): continue
            if new != src: c = {**c, 'source': new.splitlines(True)}
        cells.append(c)
    if p['url'] and path.name == 'index.ipynb':  # the first thing that a shell is told
        for i, c in enumerate(cells):
            new = re.sub(r'^```(?:sh|bash)\n', lambda m: f"{m[0]}git clone {p['url']} && cd {p['repo']}\n", ''.join(c['source']), count=1, flags=re.M)
            if c['cell_type'] == 'markdown' and new != ''.join(c['source']):
                cells[i] = {**c, 'source': new.splitlines(True)}
                break
    if p['host'] and any(c['cell_type'] == 'code' for c in cells):
        rel = path.relative_to(ROOT).as_posix()
        up = '../'*(rel.count('/') - 1)
        install = ['#| hide\n', "if 'google.colab' in str(get_ipython()):\n", f"    %pip install -q '{LIB}[nbs] @ git+{p['url']}'"]
        badge = [f"[![Open in Colab]({up}images/colab.svg)](https://colab.research.google.com/github/{p['owner']}/{p['repo']}/blob/main/{rel})"]
        cells[1:1] = [dict(cell_type='code', execution_count=None, id=INSTALL, metadata={}, outputs=[], source=install),
                      dict(cell_type='markdown', id=BADGE, metadata={}, source=badge)]
    if cells == nb['cells']: return text
    return json.dumps({**nb, 'cells': cells}, ensure_ascii=False, indent=1) + '\n'

def files(): return [ROOT/'settings.ini', ROOT/'_quarto.yml', *(ROOT/'nbs'/o for o in notebooks(ROOT/'nbs').values())]

def hosted(texts, url):
    "What the files of a repository, {path: text}, say when it is hosted at `url`"
    p = parts(url)
    def one(path, text): return settings(text, p) if path.name == 'settings.ini' else quarto(text, p) if path.name == '_quarto.yml' else notebook(text, path, p)
    return {path: one(path, text) for path, text in texts.items()}

def address():
    "Where settings.ini says that the repository is hosted"
    return re.search(r'^git_url =(.*)$', (ROOT/'settings.ini').read_text(encoding='utf-8'), re.M)[1].strip()

if __name__ == '__main__':
    texts = {o: o.read_text(encoding='utf-8') for o in files()}
    new = hosted(texts, sys.argv[1] if len(sys.argv) > 1 else '')
    changed = [o for o in texts if new[o] != texts[o]]
    for o in changed: o.write_text(new[o], encoding='utf-8')
    print(f"{len(changed)} files changed: hosted {'at ' + address() if address() else 'nowhere'}")
