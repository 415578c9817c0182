"""`make site-check`: every page of _docs/ in a real browser. `make lab-check`: a notebook in JupyterLab. Both need Chromium: apt install chromium"""
import functools, http.server, re, shutil, socket, subprocess, sys, tempfile, threading, time, urllib.request
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin
from playwright.sync_api import sync_playwright
from tools import CHROMIUM, ROOT

WIDTHS = (400, 1280)
NOT_ON_A_PAGE = {'a directive': r'(?m)^#\|', 'a traceback': r'Traceback \(most recent call last\)', 'HTML as text': r'<(div|table|style|Figure|Axes|span)\b[^>]*>',
                 'a path of a machine': r'(?<![\w.:/])/(home|root|tmp|Users|work)/\w', 'a placeholder': r'PLACEHOLDER|TODO'}

# what the eye would stumble over: small pictures in tables, blocks that end beyond the page, 88 characters of code that don't fit
SMALL = "[...document.querySelectorAll('main table img')].map(o => [Math.round(o.getBoundingClientRect().width), o.alt]).filter(o => o[0] < 100)"
BEYOND = """[...document.querySelectorAll('main :is(p, pre, table, img, figure, ul, ol, dl, h1, h2, h3, h4, div, math)')].filter(o => {
    if (o.getBoundingClientRect().right <= innerWidth + 1) return false
    for (let p = o.parentElement; p; p = p.parentElement) if (getComputedStyle(p).overflowX != 'visible') return false
    return getComputedStyle(o).visibility != 'hidden' }).map(o => o.tagName + ' ' + o.className + ': ' + o.textContent.trim().slice(0, 40))"""
TIGHT = """[...document.querySelectorAll('main pre')].filter(o => { const e = [o, ...o.querySelectorAll('code')].some(x => x.scrollWidth > x.clientWidth + 1 && x.clientWidth)
    return e && o.innerText.trim() && Math.max(...o.innerText.split('\\n').map(x => x.length)) <= 88 }).map(o => o.innerText.slice(0, 60))"""

@contextmanager
def served(folder):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args): pass
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=folder))
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

def site(docs=ROOT/'_docs', shots=ROOT/'_proc/screenshots'):
    pages = sorted(o.relative_to(docs).as_posix() for o in docs.rglob('*.html') if o.name != '404.html')
    if not pages: sys.exit('no pages in _docs: run make docs')
    shots.mkdir(parents=True, exist_ok=True)
    found, ids, links = [], {}, []
    with served(docs) as base, browser() as b:
        for width in WIDTHS:
            for scheme in ('light', 'dark') if width == WIDTHS[-1] else ('light',):
                context = b.new_context(viewport=dict(width=width, height=1000), color_scheme=scheme)
                elsewhere = set()
                def load(route):  # this check needs no network: a page asks nobody else
                    if route.request.url.startswith((base, 'data:')): return route.continue_()
                    elsewhere.add(route.request.url)
                    route.fulfill(status=200, body='')
                context.route('**/*', load)
                for page in pages:
                    tab, errors = context.new_page(), []
                    tab.on('pageerror', lambda e: errors.append(str(e)))
                    tab.on('console', lambda m: errors.append(m.text) if m.type == 'error' else None)
                    tab.on('response', lambda r: errors.append(f'{r.status} {r.url}') if r.status >= 400 else None)
                    tab.goto(base + page)
                    tab.evaluate("document.querySelectorAll('img').forEach(o => o.loading = 'eager')")
                    tab.wait_for_function("[...document.images].every(o => o.complete)")
                    found += [f'{page} at {width}: {e}' for e in errors]
                    wide = tab.evaluate('document.documentElement.scrollWidth')
                    if wide > width: found.append(f'{page} at {width}: scrolls sideways, {wide} pixels wide')
                    found += [f'{page} at {width}: picture {w} pixels wide in a table: {alt[:60]}' for w, alt in tab.evaluate(SMALL)]
                    found += [f'{page} at {width}: ends beyond the page: {o}' for o in tab.evaluate(BEYOND)]
                    if width == WIDTHS[-1]: found += [f'{page} at {width}: code of up to 88 characters scrolls: {o!r}' for o in tab.evaluate(TIGHT)]
                    found += [f'{page}: loads {o}' for o in sorted(elsewhere)]
                    elsewhere.clear()
                    tab.screenshot(path=shots/f"{page.removesuffix('.html').replace('/', '_')}-{width}-{scheme}.png")
                    if width == WIDTHS[-1] and scheme == 'light':
                        text = tab.inner_text('main')
                        found += [f'{page}: {what}: {m[0]!r}' for what, pat in NOT_ON_A_PAGE.items() if (m := re.search(pat, text))]
                        for src, alt, w in tab.evaluate("[...document.images].map(o => [o.src.slice(0, 200), o.alt, o.naturalWidth])"):
                            if src.startswith((base, 'data:')) and not w: found.append(f'{page}: broken image {src}')
                            if not alt: found.append(f'{page}: image without words {src[:80]}')
                        ids[page] = set(tab.evaluate("[...document.querySelectorAll('[id], a[name]')].map(o => o.id || o.name)"))
                        links += [(page, o) for o in tab.evaluate("[...document.links].map(o => o.href)")]
                    tab.close()
                context.close()
        for page, link in sorted(set(links)):
            url, anchor = urldefrag(urljoin(base + page, link))
            if not url.startswith(base): continue
            target = unquote(url[len(base):]) or 'index.html'
            if not (docs/target).exists(): found.append(f'{page}: broken link {target}')
            elif anchor and target in ids and unquote(anchor) not in ids[target]: found.append(f'{page}: broken anchor {target}#{anchor}')
        tab = b.new_page(viewport=dict(width=WIDTHS[-1], height=1000))
        tab.goto(base + 'index.html')
        tab.click('.md-search__input, .aa-DetachedSearchButton, .aa-Input')
        tab.keyboard.type('ActivationStats')
        try: tab.wait_for_selector('.md-search-result__item:has-text("ActivationStats"), .aa-Item:has-text("ActivationStats")', timeout=20_000)
        except Exception: found.append('search does not find ActivationStats')
        tab.screenshot(path=shots/'search.png')
    print('\n'.join(found))
    print(f"{len(pages)} pages, {len(set(links))} links, {len(found)} things to fix; to look at: {shots.relative_to(ROOT)}")
    return found

def lab(notebook='05_learner.ipynb'):
    "Open a notebook in JupyterLab, run all cells, and look for an error"
    with tempfile.TemporaryDirectory() as tmp:
        shutil.copytree(ROOT/'nbs', Path(tmp)/'nbs', ignore=shutil.ignore_patterns('.*'))  # running must not touch the stored outputs
        shutil.copy(ROOT/'settings.ini', tmp)
        (Path(tmp)/'miniai').mkdir()  # where its last cell exports to
        with socket.socket() as s: s.bind(('127.0.0.1', 0)); port = s.getsockname()[1]
        token = 'check'
        server = subprocess.Popen([sys.executable, '-m', 'jupyterlab', '--no-browser', f'--port={port}', f'--IdentityProvider.token={token}', '--allow-root', f'--notebook-dir={tmp}/nbs'],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            for _ in range(60):
                try: urllib.request.urlopen(f'http://localhost:{port}/api'); break
                except OSError: time.sleep(1)
            with browser() as b:
                tab = b.new_page(viewport=dict(width=1300, height=1000))
                tab.goto(f'http://localhost:{port}/lab/tree/{notebook}?token={token}')
                tab.wait_for_selector('.jp-Notebook .jp-Cell', timeout=120_000)
                tab.wait_for_timeout(4000)
                tab.keyboard.press('Escape')
                tab.click('text="Run"')
                tab.click('text="Restart Kernel and Run All Cells…"')
                tab.click('.jp-Dialog button.jp-mod-accept')
                tab.wait_for_timeout(5000)
                path, start = f'http://localhost:{port}/api/kernels?token={token}', time.time()
                while time.time() - start < 900 and '"busy"' in urllib.request.urlopen(path).read().decode(): time.sleep(2)
                tab.keyboard.press('Control+s')
                tab.wait_for_timeout(3000)
                (ROOT/'_proc/screenshots').mkdir(parents=True, exist_ok=True)
                tab.screenshot(path=ROOT/'_proc/screenshots/lab.png')
            import nbformat
            cells = [c for c in nbformat.read(f'{tmp}/nbs/{notebook}', 4).cells if c.cell_type == 'code']
            run = [c for c in cells if c.execution_count]
            bad = [o.ename + ': ' + o.evalue for c in cells for o in c.outputs if o.output_type == 'error']
            print(f'{notebook} in JupyterLab: {len(run)} of {len(cells)} code cells ran, {len(bad)} errors', *bad, sep='\n')
            return bad or len(run) < len([c for c in cells if c.source.strip()])
        finally: server.terminate()

if __name__ == '__main__': sys.exit(bool({'site': site, 'lab': lab}[sys.argv[1]]()))
