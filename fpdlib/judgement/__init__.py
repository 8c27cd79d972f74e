"""Judge any network: the protocols, the worst case, the radius and the checks of the paper's networks, for a model of one's own."""

from fpdlib.judgement.judge import Judgement, against, judge
from fpdlib.judgement.subject import Subject
