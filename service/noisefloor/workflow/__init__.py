"""The verbs: each works on the session of one transaction, which its caller commits."""
