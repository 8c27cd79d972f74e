"""The paper as data: networks of every row, settings, profiles, attack suites, printed numbers, forensics, Theorem 1.

May import: the specifications of network, training, attacks and data; nothing here is computed on images.
"""
