"""Results by the hash of what defines them: the store, the lab that trains and attacks what is missing, studies of a network.

May import: everything below: paper, evaluation, attacks, training, data, network, the ground.
"""
