"""Off-policy evaluation: the reward that another policy would have earned, estimated from the log of decisions.

log.py reads the service's own decisions: models.py rebuilds the model of each from the ledger, blocks.py weighs them by
the target policy. file.py reads a log from a CSV file. results.py adds up and estimates, or refuses to.
"""
