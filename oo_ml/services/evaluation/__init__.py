"""Off-policy evaluation: what another policy would have earned, from the log of the one that decided.

log.py goes through the service's own log: rebuild.py puts the model of each decision together again, judge.py asks what
the target would have done. file.py goes through anybody's. findings.py says what comes of it, or refuses to.
"""
