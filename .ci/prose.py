"""Does the prose of a notebook say what its outputs say? python .ci/prose.py [NAME ...]

Looked at are decimal numbers in sentences: not in code, links, formulas, exercises and names with a version.
One is right if a number that rounds to it stands in an output or in the code of the notebook, or in an output of
one that the paragraph links to."""
import os, re, sys
from functools import cache
from pathlib import Path
from pages import ROOT, notebooks, read, reading_order, source

NUMBER = r'(?<![\w.])(\d*\.?\d+(?:e[-+]?\d+)?)(?!\d)(\s?%)?'
# a decimal number, and what it counts: a percentage, or a thousand or a million times what an output may say
DECIMAL = re.compile(r'(?<![\w./§-])(?P<number>\d*\.\d+)'
                     r'(?P<unit>\s?(?:%|ms|ns|s\b|[KMG]i?B|million|thousand|billion))?(?![\w.]*\.?\d)')
# what is no claim: code, formulas, where links lead, versions of the packages in constraints.txt, chapters
PACKAGES = re.findall(r'^(\w[\w-]*)==', (ROOT/'constraints.txt').read_text(encoding='utf-8'), re.M)
VERSIONED = '|'.join([*PACKAGES, 'PyTorch', 'Python', 'CUDA', 'Quarto', 'version', 'section', 'chapter'])
QUIET = (r'`[^`\n]*`', r'\$\$.*?\$\$', r'\$[^$\n]*\$', r'<[^>]*>', r'\]\([^)]*\)', r'https?://\S+',
         rf'(?i)\b(?:{VERSIONED})\s+\d+\.\d+\b(?! ?%)')
UNITS = dict(ms=1e3, s=1, ns=1e9, KB=1e3, MB=1e6, GB=1e9, KiB=2**10, MiB=2**20, GiB=2**30,
             thousand=1e3, million=1e6, billion=1e9)
COUNT = r'\d+|(?:twenty|thirty|forty|fifty|sixty)(?:-\w+)?|ten|eleven|twelve|\w+teen'
THINGS = r'(?:rules|checks|kinds(?! of (?!findings?)))'
COUNTED = re.compile(rf'\b({COUNT})\s+(?:(?:more|other)\s+)?{THINGS}\b', re.I)
TEENS = 'ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen'
WORDS = {w: i for i, w in enumerate(TEENS.split(), 10)}
TENS = {w: i*10 for i, w in enumerate('twenty thirty forty fifty sixty'.split(), 2)}
DIGITS = {w: i for i, w in enumerate('one two three four five six seven eight nine'.split(), 1)}

def numbers(text):
    "The numbers in a text; 62 % is 0.62 as well"
    found = [m for t in (text, text.replace(',', '')) for m in re.finditer(NUMBER, t)]
    return {abs(float(m[1])) for m in found} | {abs(float(m[1]))/100 for m in found if m[2]}

def text_of(output):
    "What an output shows as text"
    data = output.get('data', {})
    parts = [output.get('text', ''), *(data.get(f'text/{o}', '') for o in ('plain', 'markdown', 'html'))]
    *plain, html = (''.join(o) for o in parts)
    return '\n'.join([*plain, re.sub(r'<(?:img|svg)\b.*?>|<[^>]*>', ' ', html, flags=re.S)])

@cache
def shown(path):
    "(numbers in the outputs of a notebook, numbers in its code)"
    cells = [c for c in read(ROOT/'nbs'/path)['cells'] if c['cell_type'] == 'code']
    outputs = (text_of(o) for c in cells for o in c.get('outputs', []))
    return set().union(*map(numbers, outputs)), set().union(*(numbers(source(c)) for c in cells))

def sentences(cell):
    "The paragraphs of a text, without what is no claim of its own: (paragraph as it is, what is left of it)"
    text = re.split(r'^(?:#+ |\*\*)Exercises', source(cell), flags=re.M)[0]  # what to try is no claim
    text = re.sub(r'^```.*?^```', ' ', text, flags=re.M | re.S)
    for paragraph in re.split(r'\n\s*\n', text):
        said = paragraph
        for pattern in QUIET: said = re.sub(pattern, ' ', said, flags=re.S)
        yield paragraph, said

def linked(paragraph, path):
    "The notebooks that a paragraph links to, or names in back-quotes"
    names = notebooks(ROOT/'nbs')
    there = {os.path.normpath(Path(path).parent/o) for o in re.findall(r'\]\(([^():#\s]+\.ipynb)', paragraph)}
    there |= {names[o] for o in re.findall(r'`([\w/]+)`', paragraph) if o in names}
    return there & set(names.values()) - {path}

def forms(number, unit):
    "(value, half of its last digit) that a number may have in an output: 6.2 % as 0.062, 3.1 ms as 0.0031"
    value, half = float(number), .5*10**-len(number.partition('.')[2])
    yield value, half
    if unit == '%': yield value/100, half/100
    if unit in UNITS: yield from ((value*k, half*k) for k in (UNITS[unit], 1/UNITS[unit]))

def holds(found, number, unit):
    return any(abs(o - value) <= half*1.0001 for value, half in forms(number, unit) for o in found)

def claims(path):
    "(number as it stands, sentence) of the decimals that no output holds"
    outputs, code = shown(path)
    for cell in read(ROOT/'nbs'/path)['cells']:
        if cell['cell_type'] != 'markdown': continue
        for paragraph, said in sentences(cell):
            found = set().union(outputs, code, *(shown(o)[0] for o in linked(paragraph, path)))
            for m in DECIMAL.finditer(said):
                if holds(found, m['number'], (m['unit'] or '').strip()): continue
                yield m[0].strip(), ' '.join(said[max(0, m.start() - 50):m.end() + 30].split())

def named(names): return [o for o in reading_order() if not names or any(nm in o for nm in names)]

def decimals(names=()):
    "Every decimal number of the prose stands in an output"
    for path in named(names):
        found = claims(path)
        yield from (f'nbs/{path}: {number}: no output has it: … {said} …' for number, said in found)

def value(word):
    "A count as a number: `12`, `fourteen`, `thirty-three`"
    if word.isdigit(): return int(word)
    tens, _, digit = word.lower().partition('-')
    return WORDS[tens] if tens in WORDS else TENS[tens] + DIGITS.get(digit, 0)

def counts(names=()):
    "How many rules, checks and kinds there are is printed, not told: it changes"
    for path in named(names):
        for cell in (c for c in read(ROOT/'nbs'/path)['cells'] if c['cell_type'] == 'markdown'):
            for _, said in sentences(cell):
                told = [m for m in COUNTED.finditer(said) if value(m[1]) not in shown(path)[0]]
                yield from (f'nbs/{path}: {m[0]!r}: print the number, or leave it out' for m in told)

if __name__ == '__main__':
    found = [*decimals(sys.argv[1:]), *counts(sys.argv[1:])]
    print('\n'.join([*found, f'{len(found)} numbers without an output']))
    sys.exit(bool(found))
