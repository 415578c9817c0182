"The situations by name, in the order in which they were written, and the two halves"

import random
from .eighth import EIGHTH
from .fifth import FIFTH
from .first import FIRST
from .fourth import FOURTH
from .later import LATER
from .second import SECOND
from .seventh import SEVENTH
from .sixth import SIXTH
from .third import THIRD

BY_TIME = FIRST, LATER, SECOND, THIRD, FOURTH, FIFTH, SIXTH, SEVENTH, EIGHTH
SITUATIONS = {nm: f for part in BY_TIME for nm, f in part.items()}

# the first were drawn into two halves; each half that was looked at went to development, and another one was written
drawn = sorted(FIRST)
random.Random(20261126).shuffle(drawn)
looked_at = [sorted(o) for o in (SECOND, THIRD, FOURTH, FIFTH, SIXTH, SEVENTH)]
DEVELOPMENT = (
    sorted(drawn[::2]) + list(LATER) + sorted(drawn[1::2]) + [nm for part in looked_at for nm in part]
)
HALVES = dict(development=DEVELOPMENT, test=sorted(EIGHTH))
