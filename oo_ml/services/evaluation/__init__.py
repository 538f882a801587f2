"""Off-policy evaluation: the reward that another policy would have earned, estimated from the log of decisions.

from_log.py reads the service's own decisions: evidence.py folds the ledger, blocks.py weights the decisions by the
target policy. from_file.py reads a log from a CSV file. results.py computes the estimates, or refuses them.
"""
