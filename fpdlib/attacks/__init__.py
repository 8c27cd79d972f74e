"""Attacks as data: views of a network, methods as values, how each library runs them, and three attacks as ART 0.10 had them.

May import: network (what it answers), the ground; ART, foolbox and pyautoattack are imported where they run.
"""

from fpdlib.attacks.spec import AttackSpec
from fpdlib.attacks.views import View, bounded_margin, loss_gradient, surrogate
