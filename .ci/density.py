"""How much does a reader have to hold in mind at once? python .ci/density.py [FOLDER ...]

A limit on the number of lines makes lines wide; so this counts lines that are too wide, functions with too many
paths, and modules that unfold when they are formatted. At 100 columns fastcore and course22p2 unfold by 1.5,
nanochat by 1.1, equinox by 1.0."""
import subprocess, sys, tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WIDTH, WIDE = 110, .01  # at most this share of all lines is wider than WIDTH
PATHS = 12              # of a function at most: one for each branch, loop and operand of `and` and `or`
COLUMNS, UNFOLDS = 100, 1.5  # a module formatted at so many columns has at most so many times its lines
SHORT = 40              # lines: below, a module may unfold as it likes

def code(text): return [o for o in text.splitlines() if o.strip() and not o.lstrip().startswith('#')]
def modules(folder): return [o for o in sorted(Path(folder).rglob('*.py')) if o.name != '_modidx.py']

def formatted(texts):
    "The texts as ruff writes them, all in one go"
    with tempfile.TemporaryDirectory() as tmp:
        for i, text in enumerate(texts): (Path(tmp)/f'{i}.py').write_text(text, encoding='utf-8')
        options = ['format', '-q', '--isolated', '--line-length', str(COLUMNS), tmp]
        subprocess.run([sys.executable, '-m', 'ruff', *options], check=True)
        return [(Path(tmp)/f'{i}.py').read_text(encoding='utf-8') for i in range(len(texts))]

def functions(text):
    "(paths, name) of each function and method, those within others too"
    from radon.complexity import cc_visit
    def within(block):
        if block.letter == 'C': return  # its methods come by themselves
        yield block.complexity, block.name
        for b in block.closures: yield from within(b)
    return [o for b in cc_visit(text) for o in within(b)]

def wide_in_change():
    "How such lines begin that the working tree adds"
    words = ['git', 'diff', 'HEAD', '-U0', '--', 'miniai', '.ci', ':!miniai/_modidx.py']
    diff = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    added = [o[1:] for o in diff.stdout.splitlines() if o.startswith('+') and not o.startswith('+++')]
    return ' | '.join([o.strip()[:50] for o in added if len(o) > WIDTH][:12])

def wide(texts):
    lines = {name: code(text) for name, text in texts.items()}
    long = {name: sum(len(o) > WIDTH for o in found) for name, found in lines.items()}
    n, total = sum(long.values()), sum(map(len, lines.values()))
    most = ', '.join(f'{name} {k}' for name, k in sorted(long.items(), key=lambda o: -o[1])[:8] if k)
    if n <= WIDE*total: return
    yield (f'{n} of {total} lines have more than {WIDTH} characters: {most}; '
           f'in this change: {wide_in_change() or "none"}')

def winding(texts):
    for name, text in texts.items():
        for paths, function in functions(text):
            if paths > PATHS: yield f'{name}: {function} has {paths} paths, more than {PATHS}'

def unfolding(texts):
    for (name, text), new in zip(texts.items(), formatted(texts.values()), strict=True):
        n, k = len(code(text)), len(code(new))
        dense = n > SHORT and k > UNFOLDS*n
        if dense: yield f'{name} unfolds by {k/n:.2f} when formatted, more than {UNFOLDS}'

def density(folders=('miniai', '.ci')):
    "No module is dense: lines, functions, and what it unfolds to"
    for folder in folders:
        paths = modules(ROOT/folder)
        texts = {o.relative_to(ROOT).as_posix(): o.read_text(encoding='utf-8') for o in paths}
        for question in (wide, winding, unfolding): yield from question(texts)

if __name__ == '__main__':
    found = list(density(sys.argv[1:] or ('miniai', '.ci')))
    print('\n'.join([*found, f'{len(found)} points of density fall short']))
    sys.exit(bool(found))
