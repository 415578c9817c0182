"""`make site-check`: every page of _docs/ in a real browser. `make lab-check`: a notebook in JupyterLab.
Both need Chromium: apt install chromium"""
import functools, http.server, re, shutil, socket, subprocess, sys, tempfile, threading, time, urllib.request
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin
from playwright.sync_api import Error, sync_playwright
from pages import FITS
from tools import CHROMIUM, ROOT

NARROW, WIDE = 400, 1280
LOOKS = (NARROW, 'light'), (WIDE, 'light'), (WIDE, 'dark')
NOT_ON_A_PAGE = {'a directive': r'(?m)^#\|', 'a traceback': r'Traceback \(most recent call last\)',
                 'HTML as text': r'<(div|table|style|Figure|Axes|span)\b[^>]*>',
                 'a path of a machine': r'(?<![\w.:/])/(home|root|tmp|Users|work)/\w',
                 'a placeholder': r'PLACEHOLDER|TODO'}

# what the eye would stumble over: small pictures in tables, blocks that end beyond the page, code that scrolls
SMALL = """[...document.querySelectorAll('main table img')]
    .map(o => [Math.round(o.getBoundingClientRect().width), o.alt]).filter(o => o[0] < 100)"""
BLOCKS = 'p, pre, table, img, figure, ul, ol, dl, h1, h2, h3, h4, div, math'
BEYOND = """[...document.querySelectorAll('main :is(BLOCKS)')].filter(o => {
    if (o.getBoundingClientRect().right <= innerWidth + 1) return false
    for (let p = o.parentElement; p; p = p.parentElement)
        if (getComputedStyle(p).overflowX != 'visible') return false
    return getComputedStyle(o).visibility != 'hidden'
    }).map(o => o.tagName + ' ' + o.className + ': ' + o.textContent.trim().slice(0, 40))"""
BEYOND = BEYOND.replace('BLOCKS', BLOCKS)
TIGHT = """[...document.querySelectorAll('main pre')].filter(o => {
    const blocks = [o, ...o.querySelectorAll('code')].filter(x => x.clientWidth)
    const scrolls = blocks.some(x => x.scrollWidth > x.clientWidth + 1)
    return scrolls && o.innerText.trim() && Math.max(...o.innerText.split('\\n').map(x => x.length)) <= FITS
    }).map(o => o.innerText.slice(0, 60))""".replace('FITS', str(FITS))
LOADED = "document.querySelectorAll('img').forEach(o => o.loading = 'eager')"
COMPLETE = '[...document.images].every(o => o.complete)'
IMAGES = '[...document.images].map(o => [o.src.slice(0, 200), o.alt, o.naturalWidth])'
ANCHORS = "[...document.querySelectorAll('[id], a[name]')].map(o => o.id || o.name)"
FOUND = '.md-search-result__item:has-text("ActivationStats"), .aa-Item:has-text("ActivationStats")'

@contextmanager
def served(folder):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args): pass
    handler = functools.partial(Quiet, directory=folder)
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try: yield f'http://127.0.0.1:{server.server_port}/'
    finally: server.shutdown()

@contextmanager
def browser():
    if not CHROMIUM: sys.exit('no Chromium on the PATH: apt install chromium')
    with sync_playwright() as pw:
        b = pw.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox'])
        try: yield b
        finally: b.close()

class Site:
    "What is wrong with the pages of a site, and what they link to"
    def __init__(self, docs, shots, base):
        self.docs, self.shots, self.base = docs, shots, base
        self.found, self.ids, self.links, self.elsewhere = [], {}, set(), set()
    def load(self, route):  # this check needs no network: a page asks nobody else
        if route.request.url.startswith((self.base, 'data:')): return route.continue_()
        self.elsewhere.add(route.request.url)
        route.fulfill(status=200, body='')
    def opened(self, context, page):
        "A page with all its pictures, and the errors on the way"
        tab, errors = context.new_page(), []
        tab.on('pageerror', lambda e: errors.append(str(e)))
        tab.on('console', lambda m: errors.append(m.text) if m.type == 'error' else None)
        tab.on('response', lambda r: errors.append(f'{r.status} {r.url}') if r.status >= 400 else None)
        tab.goto(self.base + page)
        tab.evaluate(LOADED)
        tab.wait_for_function(COMPLETE)
        return tab, errors
    def layout(self, tab, width):
        across = tab.evaluate('document.documentElement.scrollWidth')
        if across > width: yield f'scrolls sideways, {across} pixels wide'
        yield from (f'picture {w} pixels wide in a table: {alt[:60]}' for w, alt in tab.evaluate(SMALL))
        yield from (f'ends beyond the page: {o}' for o in tab.evaluate(BEYOND))
        if width < WIDE: return
        yield from (f'code of up to {FITS} characters scrolls: {o!r}' for o in tab.evaluate(TIGHT))
    def content(self, tab):
        text = tab.inner_text('main')
        for what, pattern in NOT_ON_A_PAGE.items():
            if m := re.search(pattern, text): yield f'{what}: {m[0]!r}'
        for src, alt, width in tab.evaluate(IMAGES):
            if not width and src.startswith((self.base, 'data:')): yield f'broken image {src}'
            if not alt: yield f'image without words {src[:80]}'
    def look(self, context, page, width, scheme):
        tab, errors = self.opened(context, page)
        self.found += [f'{page} at {width}: {o}' for o in [*errors, *self.layout(tab, width)]]
        self.found += [f'{page}: loads {o}' for o in sorted(self.elsewhere)]
        self.elsewhere.clear()
        name = page.removesuffix('.html').replace('/', '_')
        tab.screenshot(path=self.shots/f'{name}-{width}-{scheme}.png')
        if (width, scheme) == (WIDE, 'light'):  # what is the same in each look
            self.found += [f'{page}: {o}' for o in self.content(tab)]
            self.ids[page] = set(tab.evaluate(ANCHORS))
            self.links |= {(page, o) for o in tab.evaluate('[...document.links].map(o => o.href)')}
        tab.close()
    def follow(self, page, link):
        "Does a link lead somewhere?"
        url, anchor = urldefrag(urljoin(self.base + page, link))
        if not url.startswith(self.base): return
        target = unquote(url[len(self.base):]) or 'index.html'
        known = self.ids.get(target)
        if not (self.docs/target).exists(): yield f'{page}: broken link {target}'
        elif anchor and known and unquote(anchor) not in known: yield f'{page}: broken anchor {target}#{anchor}'
    def search(self, browser):
        tab = browser.new_page(viewport=dict(width=WIDE, height=1000))
        tab.goto(self.base + 'index.html')
        tab.click('.md-search__input, .aa-DetachedSearchButton, .aa-Input')
        tab.keyboard.type('ActivationStats')
        try: tab.wait_for_selector(FOUND, timeout=20_000)
        except Error: self.found.append('search does not find ActivationStats')
        tab.screenshot(path=self.shots/'search.png')

def site(docs=ROOT/'_docs', shots=ROOT/'_proc/screenshots'):
    pages = sorted(o.relative_to(docs).as_posix() for o in docs.rglob('*.html') if o.name != '404.html')
    if not pages: sys.exit('no pages in _docs: run make docs')
    shots.mkdir(parents=True, exist_ok=True)
    with served(docs) as base, browser() as b:
        seen = Site(docs, shots, base)
        for width, scheme in LOOKS:
            context = b.new_context(viewport=dict(width=width, height=1000), color_scheme=scheme)
            context.route('**/*', seen.load)
            for page in pages: seen.look(context, page, width, scheme)
            context.close()
        for page, link in sorted(seen.links): seen.found += seen.follow(page, link)
        seen.search(b)
    found, where = seen.found, shots.relative_to(ROOT)
    print('\n'.join(found))
    print(f'{len(pages)} pages, {len(seen.links)} links, {len(found)} things to fix; to look at: {where}')
    return found

TOKEN = 'check'

@contextmanager
def jupyterlab(folder):
    "JupyterLab in a folder; its address"
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    words = ['--no-browser', f'--port={port}', f'--IdentityProvider.token={TOKEN}', '--allow-root']
    server = subprocess.Popen([sys.executable, '-m', 'jupyterlab', *words, f'--notebook-dir={folder}'],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f'http://localhost:{port}'
    try:
        for _ in range(60):
            try: urllib.request.urlopen(f'{url}/api')
            except OSError: time.sleep(1)
            else: break
        yield url
    finally: server.terminate()

def run_all(url, notebook, shot):
    "Open a notebook, run all its cells, save it"
    with browser() as b:
        tab = b.new_page(viewport=dict(width=1300, height=1000))
        tab.goto(f'{url}/lab/tree/{notebook}?token={TOKEN}')
        tab.wait_for_selector('.jp-Notebook .jp-Cell', timeout=120_000)
        tab.wait_for_timeout(4000)
        tab.keyboard.press('Escape')
        tab.click('text="Run"')
        tab.click('text="Restart Kernel and Run All Cells…"')
        tab.click('.jp-Dialog button.jp-mod-accept')
        tab.wait_for_timeout(5000)
        kernels, start = f'{url}/api/kernels?token={TOKEN}', time.time()
        def busy(): return '"busy"' in urllib.request.urlopen(kernels).read().decode()
        while time.time() - start < 900 and busy(): time.sleep(2)
        tab.keyboard.press('Control+s')
        tab.wait_for_timeout(3000)
        tab.screenshot(path=shot)

def lab(notebook='loop/06_learner.ipynb'):
    "Open a notebook in JupyterLab, run all cells, and look for an error"
    import nbformat
    shot = ROOT/'_proc/screenshots/lab.png'
    shot.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as tmp:
        nbs = Path(tmp)/'nbs'
        # a copy: running must not touch what is stored
        shutil.copytree(ROOT/'nbs', nbs, ignore=shutil.ignore_patterns('.*'))
        shutil.copy(ROOT/'settings.ini', tmp)
        (Path(tmp)/'miniai').mkdir()  # where its last cell exports to
        with jupyterlab(nbs) as url: run_all(url, notebook, shot)
        cells = nbformat.read(nbs/notebook, 4).cells
    cells = [c for c in cells if c.cell_type == 'code' and c.source.strip()]
    ran = sum(bool(c.execution_count) for c in cells)
    bad = [f'{o.ename}: {o.evalue}' for c in cells for o in c.outputs if o.output_type == 'error']
    print(f'{notebook} in JupyterLab: {ran} of {len(cells)} code cells ran, {len(bad)} errors', *bad, sep='\n')
    return bad or ran < len(cells)

if __name__ == '__main__': sys.exit(bool({'site': site, 'lab': lab}[sys.argv[1]]()))
