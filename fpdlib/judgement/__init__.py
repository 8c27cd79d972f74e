"""Judge any network: the protocols, the worst case, the radius and the checks of the paper's networks, for a model of one's own.

May import: evaluation, attacks, data, network, the ground. Knows nothing of the paper.
"""

from fpdlib.judgement.judge import Judgement, against, judge
from fpdlib.judgement.subject import Subject
