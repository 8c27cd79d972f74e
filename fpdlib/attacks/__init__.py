"""Attacks as data: views of a network, methods as values, how each library runs them, and three attacks as ART 0.10 had them."""

from fpdlib.attacks.spec import AttackSpec
from fpdlib.attacks.views import View, bounded_margin, loss_gradient, surrogate
